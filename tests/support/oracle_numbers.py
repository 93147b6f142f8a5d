"""Operators of numbers and of newest and oldest events, worked out slowly; and features that use them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from edge_runtime.catalog.model import Scalar, SessionFeature
from edge_runtime.session.event import Event

Oracle = Callable[[SessionFeature, Sequence[Event], Sequence[Event], int], object]
"""(feature, its events in order, those that pass `where`, time of the read) to its value."""

FEATURES = """
mean_all = { op = "mean", event = ["view", "buy"], value = "price" }
mean_61s = { op = "mean", event = ["view", "buy"], value = "price", window = "61s" }
mean_1h = { op = "mean", event = "buy", value = "quantity", window = "1h" }
mean_dear = { op = "mean", event = "view", value = "clicks", window = "5m", where.price.gt = 10.0 }
std_all = { op = "std", event = "view", value = "clicks" }
std_5m = { op = "std", event = "view", value = "price", window = "5m" }
std_61s = { op = "std", event = ["view", "buy"], value = "price", window = "61s" }
std_1h = { op = "std", event = "buy", value = "quantity", window = "1h", where = { price = { le = 100.0 } } }
min_all = { op = "min", event = ["view", "buy"], value = "price" }
min_5m = { op = "min", event = "view", value = "clicks", window = "5m" }
min_61s = { op = "min", event = ["view", "buy"], value = "price", window = "61s" }
max_all = { op = "max", event = "buy", value = "quantity" }
max_5m = { op = "max", event = "view", value = "price", window = "5m", where = { category = { ne = "a" } } }
max_1h = { op = "max", event = ["view", "buy"], value = "price", window = "1h" }
max_2s = { op = "max", event = "view", value = "clicks", window = "2s" }
first_item = { op = "first", event = ["view", "buy"], value = "item" }
first_price = { op = "first", event = "view", value = "price", window = "5m" }
first_61s = { op = "first", event = ["view", "buy"], value = "item", window = "61s" }
first_known = { op = "first", event = "view", value = "logged_in", window = "1h" }
first_1s = { op = "first", event = "view", value = "category", window = "1s" }
last_1m = { op = "last", event = "view", value = "category", window = "1m" }
last_61s = { op = "last", event = ["view", "buy"], value = "price", window = "61s" }
last_5_in_5m = { op = "last_n", event = "view", value = "item", n = 5, window = "5m" }
last_2_in_61s = { op = "last_n", event = ["view", "buy"], value = "price", n = 2, window = "61s" }
since_view_5m = { op = "since_last", event = "view", window = "5m" }
since_dear_61s = { op = "since_last", event = "view", window = "61s", where = { price = { gt = 10.0 } } }
since_start = { op = "since_first", event = ["view", "buy"] }
since_first_5m = { op = "since_first", event = "view", window = "5m", where = { clicks = { ge = 0 } } }
since_first_61s = { op = "since_first", event = ["view", "buy"], window = "61s" }
worth = { op = "decayed_sum", event = ["view", "buy"], value = "price", half_life = "10s" }
worth_slow = { op = "decayed_sum", event = "view", value = "price", half_life = "10m" }
clicking = { op = "decayed_sum", event = "view", value = "clicks", half_life = "1s" }
buying = { op = "decayed_sum", event = "buy", value = "quantity", half_life = "1h", where.price.ge = 0.0 }
"""
"""TOML lines of a session view's features, for `streams.CATALOG`."""


def mean(feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int) -> object:
    """The sum of the values, each rounded to 2^-60, by their number, rounded once."""
    numbers = _rounded(_values(feature, _window(feature, counted, t_us)))
    return float(sum(numbers, Fraction(0)) / len(numbers)) if numbers else None


def std(feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int) -> object:
    """The root of the mean square of what each value differs from the mean."""
    numbers = _rounded(_values(feature, _window(feature, counted, t_us)))
    if not numbers:
        return None
    middle = sum(numbers, Fraction(0)) / len(numbers)
    squares = [(number - middle) ** 2 for number in numbers]
    return math.sqrt(float(sum(squares, Fraction(0)) / len(squares)))


def smallest(feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int) -> object:
    """The least of the values."""
    return min(_numbers(_values(feature, _window(feature, counted, t_us))), default=None)


def largest(feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int) -> object:
    """The greatest of the values."""
    return max(_numbers(_values(feature, _window(feature, counted, t_us))), default=None)


def first(feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int) -> object:
    """The value of the first event that carries one."""
    found = _values(feature, _window(feature, counted, t_us))
    return found[0] if found else None


def last(feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int) -> object:
    """The value of the last event that carries one."""
    found = _values(feature, _window(feature, counted, t_us))
    return found[-1] if found else None


def last_n(feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int) -> object:
    """The values of the last n events that carry one."""
    found = _values(feature, _window(feature, counted, t_us))
    return found[max(0, len(found) - (feature.n or 0)) :]


def since_last(feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int) -> object:
    """Seconds since the last event."""
    times = [event.at_us for event in _window(feature, counted, t_us)]
    return float(Fraction(t_us - max(times), 1_000_000)) if times else None


def since_first(
    feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int
) -> object:
    """Seconds since the first event."""
    times = [event.at_us for event in _window(feature, counted, t_us)]
    return float(Fraction(t_us - min(times), 1_000_000)) if times else None


def decayed_sum(
    feature: SessionFeature, mine: Sequence[Event], counted: Sequence[Event], t_us: int
) -> object:
    """Each value times 2^frac in its bucket, rounded to 2^-60, halved for every bucket since."""
    half_life_us, total = feature.half_life_us or 0, Fraction(0)
    bucket, place_us = divmod(t_us, half_life_us)
    for event in counted:
        old, in_us = divmod(event.at_us, half_life_us)
        for value in _numbers(_values(feature, [event])):
            if bucket - old < 64:
                grown = float(value) * math.exp2(in_us / half_life_us)
                total += Fraction(round(Fraction(grown) * 2**60), 2**60) / 2 ** (bucket - old)
    return float(total) * math.exp2(-(place_us / half_life_us))


ORACLES: dict[str, Oracle] = {
    "mean": mean,
    "std": std,
    "min": smallest,
    "max": largest,
    "first": first,
    "last": last,
    "last_n": last_n,
    "since_last": since_last,
    "since_first": since_first,
    "decayed_sum": decayed_sum,
}


def _window(feature: SessionFeature, events: Sequence[Event], t_us: int) -> list[Event]:
    if feature.window_us is None:
        return list(events)
    hop_us = math.ceil(Fraction(feature.window_us, 60_000_000)) * 1_000_000
    tiles = math.ceil(Fraction(feature.window_us, hop_us))
    inside = range(t_us // hop_us - tiles + 1, t_us // hop_us + 1)
    return [event for event in events if event.at_us // hop_us in inside]


def _values(feature: SessionFeature, events: Sequence[Event]) -> list[Scalar]:
    found = [e.properties.get(feature.value or "", e.entities.get(feature.value or "")) for e in events]
    return [value for value in found if value is not None]


def _numbers(values: Sequence[Scalar]) -> list[int | float]:
    return [value for value in values if not isinstance(value, str)]


def _rounded(values: Sequence[Scalar]) -> list[Fraction]:
    return [Fraction(round(Fraction(number) * 2**60), 2**60) for number in _numbers(values)]
