"""Session operators computed slowly, straight from their definitions, over a list of events.

Nothing here is shared with the engine but the records of the catalog and the scalar `math` functions: each
value is worked out from all events, with rationals where the definition says "exact".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b

from edge_runtime.catalog.model import Scalar, SessionFeature, Where
from edge_runtime.session.event import Event
from tests.support import oracle_numbers, oracle_sets

UNIT = Fraction(1, 2**60)


@dataclass(frozen=True)
class Counts:
    """What count_by should be."""

    counts: Mapping[str, int]
    overflow: int


def oracle(
    feature: SessionFeature,
    history: Sequence[tuple[Event, str]],
    t_us: int,
    retention_us: int | None,
    resolve: Callable[[str], Sequence[float] | None] | None = None,
) -> object:
    """The value of `feature` at `t_us` over distinct (event, id) pairs of one entity, in any order."""
    seen = sorted((e.at_us, i.encode(), e) for e, i in history if e.at_us <= t_us)
    events = [e for _, _, e in _alive(seen, t_us, retention_us)]
    mine = [e for e in events if e.type in feature.events]
    counted = [e for e in mine if all(_holds(test, e) for test in feature.where)]
    match feature.op:
        case "count":
            return len(_in_window(feature, counted, t_us))
        case "sum":
            return float(sum(map(_units, _values(feature.value, _in_window(feature, counted, t_us)))) * UNIT)
        case "count_by":
            return _count_by(feature, _in_window(feature, counted, t_us))
        case "decayed_count":
            return _decayed(feature.half_life_us or 0, counted, t_us)
        case "session_count":
            session = _session(mine, feature.gap_us or 0, t_us)
            return sum(1 for e in counted if any(e is one for one in session))
        case "decayed_mean_vector":
            return _mean_vector(feature, counted, resolve or (lambda item: None))
    counting = oracle_sets.ORACLES.get(feature.op) or oracle_numbers.ORACLES.get(feature.op)
    assert counting is not None, f"no oracle for {feature.op}"
    return counting(feature, mine, counted, t_us)


def _alive(
    seen: list[tuple[int, bytes, Event]], t_us: int, retention_us: int | None
) -> list[tuple[int, bytes, Event]]:
    """What a silence longer than the retention has not ended."""
    if retention_us is None or not seen:
        return seen
    if t_us - seen[-1][0] > retention_us:
        return []
    first = 0
    for position in range(1, len(seen)):
        if seen[position][0] - seen[position - 1][0] > retention_us:
            first = position
    return seen[first:]


def _value(name: str | None, event: Event) -> Scalar | None:
    return event.properties.get(name or "", event.entities.get(name or ""))


def _values(name: str | None, events: Sequence[Event]) -> list[Scalar]:
    return [v for e in events if (v := _value(name, e)) is not None]


def _holds(test: Where, event: Event) -> bool:
    have, want = _value(test.property, event), test.operand
    if have is None:
        return False
    if isinstance(want, tuple):
        return have in want
    assert isinstance(have, str) == isinstance(want, str)
    table: dict[str, bool] = {
        "eq": have == want,
        "ne": have != want,
        "gt": have > want,  # type: ignore[operator]
        "ge": have >= want,  # type: ignore[operator]
        "lt": have < want,  # type: ignore[operator]
        "le": have <= want,  # type: ignore[operator]
    }
    return table[test.test]


def _in_window(feature: SessionFeature, events: list[Event], t_us: int) -> list[Event]:
    if feature.window_us is None:
        return events
    hop_us = math.ceil(Fraction(feature.window_us, 60 * 1_000_000)) * 1_000_000
    tiles = math.ceil(Fraction(feature.window_us, hop_us))
    first = t_us // hop_us - tiles + 1
    return [e for e in events if e.at_us // hop_us >= first]


def _units(value: Scalar) -> int:
    assert not isinstance(value, str)
    return round(Fraction(value) / UNIT)


def _count_by(feature: SessionFeature, events: list[Event]) -> Counts:
    counts = Counter(str(v) for v in _values(feature.by, events))
    kept = sorted(counts, key=lambda k: (blake2b(k.encode(), digest_size=8).digest(), k))[: feature.max_keys]
    small = {key: counts[key] for key in kept}
    return Counts(small, sum(counts.values()) - sum(small.values()))


def _decayed(half_life_us: int, events: list[Event], t_us: int) -> float:
    bucket, total = t_us // half_life_us, Fraction(0)
    for e in events:
        b = e.at_us // half_life_us
        if b > bucket - 64:
            units = round(Fraction(math.exp2((e.at_us - b * half_life_us) / half_life_us)) / UNIT)
            total += units * UNIT * Fraction(1, 2 ** (bucket - b))
    return float(total) * math.exp2(-(t_us - bucket * half_life_us) / half_life_us)


def _session(events: list[Event], gap_us: int, t_us: int) -> list[Event]:
    if not events or t_us - events[-1].at_us > gap_us:
        return []
    session = [events[-1]]
    for e in reversed(events[:-1]):
        if session[-1].at_us - e.at_us > gap_us:
            break
        session.append(e)
    return session


def _mean_vector(
    feature: SessionFeature, events: list[Event], resolve: Callable[[str], Sequence[float] | None]
) -> list[float] | None:
    newest = [(e.at_us, v) for e in events if (v := _value(feature.value, e)) is not None]
    found = [(at, row) for at, v in newest[-(feature.n or 32) :] if (row := resolve(str(v))) is not None]
    if not found:
        return None
    weights = [math.exp2((at - found[-1][0]) / (feature.half_life_us or 1)) for at, _ in found]
    total = [0.0] * len(found[0][1])
    for weight, (_, row) in zip(weights, found, strict=True):
        total = [a + weight * b for a, b in zip(total, row, strict=True)]
    norm = 0.0
    for weight in weights:
        norm += weight
    return [a / norm for a in total]
