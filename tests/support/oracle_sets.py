"""Operators of sets, counts by key and sessions, worked out slowly; and features that use them."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from hashlib import blake2b

from edge_runtime.catalog.model import Scalar, SessionFeature
from edge_runtime.session.event import Event

Oracle = Callable[[SessionFeature, Sequence[Event], Sequence[Event], int], object]
"""(feature, its events in order, those that pass `where`, time of the read) to its value."""

FEATURES = """
items_few = { op = "distinct", event = ["view", "buy"], value = "item", window = "61s", cap = 2 }
items_5m = { op = "distinct", event = "view", value = "item", window = "5m", cap = 3 }
items_all = { op = "distinct", event = ["view", "buy"], value = "item", cap = 3 }
items_many = { op = "distinct", event = ["view", "buy"], value = "item", window = "1h" }
prices_1m = { op = "distinct", event = "view", value = "price", window = "1m", cap = 2 }
kinds = { op = "distinct", event = "view", value = "clicks", cap = 2, where = { price = { ge = 0.0 } } }
known = { op = "distinct", event = "view", value = "logged_in", window = "2m", cap = 1 }
top_items = { op = "top_n", event = ["view", "buy"], by = "item", n = 3, window = "5m", max_keys = 2 }
top_all = { op = "top_n", event = "view", by = "item", n = 2, max_keys = 3 }
top_category = { op = "top_n", event = "view", value = "category", n = 9, window = "1h" }
visit_spent = { op = "session_sum", event = ["view", "buy"], value = "price", gap = "30s" }
visit_clicks = { op = "session_sum", event = "view", value = "clicks", gap = "5m" }
visit_dear = { op = "session_sum", event = "view", value = "price", gap = "1m", where.price.gt = 10.0 }
visit_items = { op = "session_distinct", event = ["view", "buy"], value = "item", gap = "30s", cap = 2 }
visit_prices = { op = "session_distinct", event = "view", value = "price", gap = "5m", cap = 3 }
visit_seen = { op = "session_distinct", event = "view", value = "item", gap = "5m", where.price.gt = 1.0 }
visit_length = { op = "session_duration", event = ["view", "buy"], gap = "30s" }
visit_longer = { op = "session_duration", event = "view", gap = "5m", where.price.gt = 10.0 }
visit_start = { op = "session_start", event = ["view", "buy"], gap = "30s" }
buying_since = { op = "session_start", event = "buy", gap = "1s", where.quantity.gt = 0 }
"""
"""TOML lines of a session view's features, for `streams.CATALOG`."""


def distinct(feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int) -> object:
    """Different values in the window: as many as there are, or what a HyperLogLog makes of them."""
    return _how_many(feature, _window(feature, counted, t_us))


def top_n(feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int) -> object:
    """The most frequent of the kept keys."""
    counts = Counter(str(v) for v in values(feature.by, _window(feature, counted, t_us)))
    small = sorted(counts, key=lambda k: (blake2b(k.encode(), digest_size=8).digest(), k))
    kept = small[: feature.max_keys]
    return sorted(kept, key=lambda k: (-counts[k], k.encode()))[: feature.n]


def session_sum(
    feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int
) -> object:
    """The sum of each value rounded to 2^-60, rounded once."""
    total = 0
    for value in values(feature.value, _of_session(feature, mine, counted, t_us)):
        assert not isinstance(value, str)
        total += round(Fraction(value) * 2**60)
    return float(Fraction(total, 2**60))


def session_distinct(
    feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int
) -> object:
    """Different values in the session."""
    return _how_many(feature, _of_session(feature, mine, counted, t_us))


def session_duration(
    feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int
) -> object:
    """Newest minus oldest event of the session, whether they pass `where` or not."""
    times = [e.at_us for e in session(feature, mine, t_us)]
    return (max(times) - min(times)) / 1_000_000 if times else 0.0


def session_start(
    feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int
) -> object:
    """The oldest event's time."""
    return min((e.at_us for e in session(feature, mine, t_us)), default=None)


ORACLES: dict[str, Oracle] = {
    "distinct": distinct,
    "top_n": top_n,
    "session_sum": session_sum,
    "session_distinct": session_distinct,
    "session_duration": session_duration,
    "session_start": session_start,
}


def session(feature: SessionFeature, mine: Sequence[Event], t_us: int) -> list[Event]:
    """The events of the session that is current at `t_us`: those from which no gap leads away."""
    gap_us, found = feature.gap_us or 0, list[Event]()
    reached_us = t_us
    for event in sorted(mine, key=lambda e: -e.at_us):
        if reached_us - event.at_us > gap_us:
            break
        reached_us = event.at_us
        found.append(event)
    return found


def values(name: str | None, events: Iterable[Event]) -> list[Scalar]:
    """What the events carry under this name."""
    found = [e.properties.get(name or "", e.entities.get(name or "")) for e in events]
    return [v for v in found if v is not None]


def hyperloglog(hashes: Iterable[bytes]) -> int:
    """The estimate from 8-byte hashes, bit by bit and with rationals where they end."""
    registers = [0] * 2048
    for one in hashes:
        bits = "".join(f"{byte:08b}" for byte in one)
        register, rest = int(bits[:11], 2), bits[11:]
        rank = rest.index("1") + 1 if "1" in rest else len(rest) + 1
        registers[register] = max(registers[register], rank)
    share = [Fraction(registers.count(rank), 2048) for rank in range(55)]
    # Ertl 2017, equation (16): the sum over ranks of 2^-rank, with both ends of the scale corrected.
    middle = sum((share[rank] * Fraction(1, 2**rank) for rank in range(1, 54)), Fraction(0))
    z = float(middle) + _sigma(float(share[0])) + _tau(1 - float(share[54])) / 2.0**53
    return round(2048 / (2 * math.log(2)) / z)


def _sigma(x: float) -> float:
    if x == 1:
        return math.inf
    return x + math.fsum(x ** (2.0**k) * 2.0 ** (k - 1) for k in range(1, 64))


def _tau(x: float) -> float:
    return (1 - x - math.fsum((1 - x ** (2.0**-k)) ** 2 * 2.0**-k for k in range(1, 64))) / 3


def _how_many(feature: SessionFeature, events: Sequence[Event]) -> int:
    different = {_canonical(value) for value in values(feature.value, events)}
    if len(different) <= feature.cap:
        return len(different)
    estimate = hyperloglog(blake2b(text, digest_size=8).digest() for text in different)
    return max(estimate, feature.cap + 1)


def _canonical(value: Scalar) -> bytes:
    match value:
        case bool():
            return b"b1" if value else b"b0"
        case str():
            return b"s" + value.encode()
        case float() if Fraction(value).denominator != 1:
            return b"f" + struct.pack(">d", value)
        case _:
            return b"i" + str(Fraction(value).numerator).encode()


def _window(feature: SessionFeature, events: Sequence[Event], t_us: int) -> list[Event]:
    if feature.window_us is None:
        return list(events)
    hop_us = math.ceil(Fraction(feature.window_us, 60_000_000)) * 1_000_000
    tiles = math.ceil(Fraction(feature.window_us, hop_us))
    return [e for e in events if e.at_us // hop_us > t_us // hop_us - tiles]


def _of_session(
    feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int
) -> list[Event]:
    inside = {id(e) for e in session(feature, mine, t_us)}
    return [e for e in counted if id(e) in inside]
