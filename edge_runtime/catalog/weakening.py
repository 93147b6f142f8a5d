"""Where one privacy part protects less than another: what must not come into force by rolling back. Pure.

Wider is weaker: a purpose, recipient, category or metric that was not there, a longer time, a basis that asks
less, people who are none any more, a kiosk that sums what subjects noised before. Titles and descriptions
weaken nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from edge_runtime.catalog.duration import parse_duration

Part = Mapping[str, Any]

_LISTS: Final = ("data_categories", "recipients", "transfers")
_TIMES: Final = ("lease", "retention", "keep_events")


def weakenings(before: Part, after: Part) -> list[str]:
    """The places at which `after` protects less than `before`; both as `privacy_part` gives them."""
    return [
        *_purposes(before["purposes"], after["purposes"]),
        *(f"people.{name}" for name in before["people"] if name not in after["people"]),
        *_metrics(before["metrics"], after["metrics"]),
        *_unasked(before["unasked"], after["unasked"]),
        *(["notices"] if before["notices"] and not after["notices"] else []),
        *(["controller"] if before["controller"] != after["controller"] else []),
    ]


def _purposes(before: Part, after: Part) -> Iterator[str]:
    for name, purpose in after.items():
        place, was = f"purposes.{name}", before.get(name)
        if was is None:
            yield place
            continue
        if purpose["legal_basis"] not in (was["legal_basis"], "consent"):
            yield f"{place}.legal_basis"
        if purpose["terminal_access"] not in (was["terminal_access"], "consent"):
            yield f"{place}.terminal_access"
        yield from (f"{place}.{key}" for key in _TIMES if _time(purpose[key]) > _time(was[key]))
        for key in _LISTS:
            if not set(purpose.get(key, ())) <= set(was.get(key, ())):
                yield f"{place}.{key}"
        if purpose.get("uses") != was.get("uses"):  # more uses are more processing, fewer heed fewer signals
            yield f"{place}.uses"


def _metrics(before: Part, after: Part) -> Iterator[str]:
    for name, metric in after.items():
        place, was = f"metrics.{name}", before.get(name)
        if was is None:
            yield place
            continue
        if metric["purpose"] != was["purpose"] or metric["kind"] != was["kind"]:
            yield place
        if metric["mode"] == "curator" and was.get("mode", "local") == "local":
            yield f"{place}.mode"  # the kiosk sums what each subject would have noised
        if metric["read"] != was.get("read", "value"):  # it tells something else about a subject
            yield f"{place}.read"
        yield from (f"{place}.{key}" for key in _tells_more(metric, was))
        if "experiment" in metric and "experiment" not in was:  # exposures are recorded for it
            yield place
        if metric["epsilon"] > was["epsilon"]:
            yield f"{place}.epsilon"
        if metric["min_subjects"] < was["min_subjects"]:
            yield f"{place}.min_subjects"
        if _time(metric["window"]) < _time(was["window"]):
            yield f"{place}.window"


def _tells_more(metric: Part, was: Part) -> Iterator[str]:
    """Of what is kept for a metric, or told by who takes part in it; a part of before says neither."""
    of, known = metric.get("of"), was.get("takes_part")
    if of is not None and of != was.get("of") and (known or not isinstance(of, str)):
        yield "of"  # other events are kept for it, or having another value shows
    if metric["takes_part"] == "valued" and known == "all":
        yield "absent"
    if known and "values" in metric and metric["values"] != was.get("values"):
        yield "values"


def _unasked(before: Part, after: Part) -> Iterator[str]:
    for name, views in after.items():
        if not set(views) <= set(before.get(name, ())):
            yield f"purposes.{name}.views"


def _time(text: str) -> int:
    """Microseconds; `session` is shorter than any time."""
    return -1 if text == "session" else parse_duration(text) or 0
