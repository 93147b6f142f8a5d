"""Law 8 across catalogs: whatever features come and go, an upgrade in between changes no number."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import edge_runtime as er
from edge_runtime.session.plan import compile_catalog
from tests.support.clock import ManualClock
from tests.support.streams import (
    CATALOG,
    RETENTION_US,
    SECOND,
    START_US,
    Arrival,
    arrivals,
    every_operator,
)

P = "personalization"
DOCUMENT = tomllib.loads(CATALOG.replace('keep_events = "1h"', 'keep_events = "1m"'))
FEATURES = DOCUMENT["views"]["activity"]["features"]
MIDNIGHT_US = 6_000 * SECOND
"""From the start of the streams to shortly before midnight, when the journal may be trimmed."""


def catalog(names: Collection[str]) -> er.Catalog:
    """The catalog with these features, and what they are made of."""
    wanted = set(names)
    for name in tuple(wanted):
        of = FEATURES[name].get("of", [])
        wanted.update([of] if isinstance(of, str) else of)
    kept = {name: body for name, body in FEATURES.items() if name in wanted}
    activity = {**DOCUMENT["views"]["activity"], "features": kept}
    return er.Catalog.from_dict({**DOCUMENT, "views": {**DOCUMENT["views"], "activity": activity}})


def open_with(folder: Path, clock: ManualClock, names: Collection[str]) -> er.Runtime:
    return er.Runtime.open(
        folder / "cache.db",
        catalog=catalog(names),
        key=er.KeyFile(folder / "device.key"),
        clock=clock,
        settings=er.Settings(snapshot_every_events=5, commit_interval_us=3_600_000_000),
    )


def lived(
    folder: Path, stages: Sequence[tuple[Collection[str], Sequence[Arrival]]], end_us: int
) -> tuple[dict[str, er.FeatureValue], list[er.Event]]:
    """A runtime's life: at each stage a catalog and the events under it; the last one's values at the end."""
    folder.mkdir()
    clock, taken = ManualClock(START_US), list[er.Event]()
    for number, (names, stream) in enumerate(stages):
        with open_with(folder, clock, names) as rt:
            if not number:
                rt.consent.give("alice", [P], notice="n")
            for one in stream:
                clock.advance(us=max(0, one.now_us - clock.now_us()))
                event = er.Event(
                    one.event.type, one.event.entities, one.event.properties, one.event.at_us, one.event_id
                )
                if rt.track_many([event]).accepted:
                    taken.append(event)
                rt.flush()
            if number == len(stages) - 1:
                clock.advance(us=max(0, end_us - clock.now_us()))
                found = rt.catalog.views["activity@1"].features
                return {name: rt.read(f"activity:{name}", user="alice") for name in found}, taken
    raise AssertionError("at least one stage")


def bits(value: object) -> object:
    """What two values are compared by."""
    return value.tolist() if isinstance(value, np.ndarray) else (type(value), value)


def heard(names: Collection[str]) -> set[str]:
    """The event types that a catalog with these features listens to."""
    return set(compile_catalog(catalog(names)).views["activity@1"].event_types)


def calm(stream: Sequence[Arrival]) -> bool:
    """Whether no silence of one kind of event, or of both, outlasts the retention."""
    for kinds in ({"view"}, {"buy"}, {"view", "buy"}):
        times = sorted(one.event.at_us for one in stream if one.event.type in kinds)
        if any(after - before > RETENTION_US for before, after in pairwise(times)):
            return False
    return True


def shifted(one: Arrival, by_us: int) -> Arrival:
    """The same event later."""
    event = er.Event(one.event.type, one.event.entities, one.event.properties, one.event.at_us + by_us)
    return Arrival(event, one.event_id, one.now_us + by_us)


LISTS = sorted(
    name for name, body in FEATURES.items() if body["op"] in ("last", "last_n", "decayed_mean_vector")
)
NAMES = st.sets(st.sampled_from(sorted(FEATURES)), min_size=1, max_size=8) | st.sets(
    st.sampled_from(LISTS), min_size=1, max_size=4
)
"""Any features; and such as share lists of newest values, which grow and shrink with them."""


@settings(max_examples=30)
@given(st.data())
def test_law_8_an_upgrade_in_between_changes_no_number(data: st.DataObject) -> None:
    """Kept features have the bits of a runtime that never changed; new ones, where PRESENT, a replay's.

    Where a kind of event is heard that was not, or no longer, it may bridge a silence that outlasts the
    retention, or leave one: there only what looks back by a window can be held to either.
    """
    old, new = data.draw(NAMES), data.draw(NAMES)
    later_us = data.draw(st.sampled_from([0, MIDNIGHT_US]))
    stream = [shifted(one, later_us) for one in data.draw(arrivals(every_operator(), max_size=20))]
    cut = data.draw(st.integers(0, len(stream)))
    last_us = max([START_US, *(one.now_us for one in stream)])
    end_us = last_us + data.draw(st.sampled_from([0, 1, 10 * SECOND, 1000 * SECOND]))
    with TemporaryDirectory() as name:
        folder = Path(name)
        found, taken = lived(folder / "changed", [(old, stream[:cut]), (new, stream[cut:])], end_us)
        never, _ = lived(folder / "never", [(old, stream)], end_us)
    same_silences = heard(old) == heard(new) or calm(stream)
    if same_silences:
        for feature in found.keys() & never.keys():
            assert bits(found[feature].value) == bits(never[feature].value), feature
            assert found[feature].complete_from is None
    refs = [f"activity:{feature}" for feature in found]
    table = er.replay(catalog(new), taken, points=[{"user": "alice", "at": end_us / 1e6}], refs=refs)
    for feature in found.keys() - never.keys():
        one = found[feature]
        if one.status is not er.Status.WARMING and same_silences:
            assert bits(one.value) == bits(table.column(f"activity:{feature}")[0]), feature
