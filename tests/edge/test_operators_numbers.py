"""Numbers at their edges: windows to the microsecond, ties, huge and missing values, sums that cancel."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.catalog import Catalog, SessionFeature
from edge_runtime.session.admission import ViewState
from edge_runtime.session.event import Event, make_event
from edge_runtime.session.layout import lay_out
from edge_runtime.session.plan import ViewPlan, compile_catalog
from tests.support.oracle import oracle
from tests.support.oracle_numbers import FEATURES
from tests.support.streams import CATALOG, RETENTION_US, SECOND, START_US

HEAD = CATALOG[: CATALOG.index("count_all")]
WINDOWS = {"61s": (2 * SECOND, 31), "5m": (5 * SECOND, 60), "1h": (60 * SECOND, 60), "1s": (SECOND, 1)}
"""Window to (hop, tiles), by hand."""
WINDOWED = {
    "sum": (2.5, 0.0),
    "mean": (2.5, None),
    "std": (0.0, None),
    "min": (2.5, None),
    "max": (2.5, None),
    "first": (2.5, None),
    "last": (2.5, None),
}
"""Operators of `price` to what they are of 2.5 alone, and of nothing."""
VALUES = st.floats(-(2.0**500), 2.0**500).map(lambda v: v + 0.0)


def plan_of(*features: str) -> tuple[ViewPlan, Catalog]:
    """A view of these features (TOML lines) over the events of the operators' contract."""
    catalog = Catalog.from_toml(HEAD + "\n".join(features))
    return compile_catalog(catalog).views["activity@1"], catalog


PLAN, DECLARED = plan_of(FEATURES)


def view(at_us: int, **fields: object) -> Event:
    named: dict[str, object] = {"user": "alice", "item": "a", **fields}
    return make_event(DECLARED, "view", named, now_us=at_us)


def priced(plan: ViewPlan, prices: Sequence[float | None], step_us: int = 0) -> ViewState:
    """One view for each price, `step_us` apart."""
    state, now_us = plan.new_state(), START_US + step_us * len(prices)
    for number, price in enumerate(prices):
        plan.offer(state, view(START_US + step_us * number, price=price), f"id-{number:03}", now_us)
    return state


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("place_us", [0, 1, -1])
def test_windows_open_and_close_to_the_microsecond(window: str, place_us: int) -> None:
    """An event counts from its own microsecond until `tiles` tiles have begun after its own, not longer."""
    hop_us, tiles = WINDOWS[window]
    lines = [
        f'{op} = {{ op = "{op}", event = "view", value = "price", window = "{window}" }}' for op in WINDOWED
    ]
    plan, _ = plan_of(
        *lines,
        f'last_n = {{ op = "last_n", event = "view", value = "price", n = 2, window = "{window}" }}',
        f'since_last = {{ op = "since_last", event = "view", window = "{window}" }}',
        f'since_first = {{ op = "since_first", event = "view", window = "{window}" }}',
    )
    at_us = START_US // hop_us * hop_us + hop_us + place_us
    gone_us = (at_us // hop_us + tiles) * hop_us
    state = plan.new_state()
    plan.offer(state, view(at_us, price=2.5), "a", at_us)
    there, nothing = zip(*WINDOWED.values(), strict=True)
    for t_us in (at_us, gone_us - 1):
        since = (t_us - at_us) / 1e6
        assert plan.values(state, t_us) == (*there, [2.5], since, since)
    assert plan.values(state, gone_us) == (*nothing, [], None, None)
    assert plan.values(state, gone_us - 1)[0] == 2.5, "a later read changed the state"


def test_the_clock_alone_moves_an_extreme_out_of_its_window() -> None:
    """Without an event the smallest leaves, then the next smallest stands there, then none."""
    plan, _ = plan_of('low = { op = "min", event = "view", value = "price", window = "5m" }')
    state = priced(plan, [5.0, 3.0, 4.0], 10 * SECOND)
    stored, first_us = plan.dump(state), START_US // (5 * SECOND) * 5 * SECOND + 300 * SECOND
    steps = [0, 10 * SECOND - 1, 10 * SECOND, 20 * SECOND - 1, 20 * SECOND]
    assert [plan.read_one(state, "low", first_us + step) for step in steps] == [3.0, 3.0, 4.0, 4.0, None]
    assert plan.dump(state) == stored


def test_the_clock_alone_moves_the_oldest_event_out_of_its_window() -> None:
    """As one tile after the other leaves, the oldest event of the next is the first."""
    plan, _ = plan_of(
        'first = { op = "first", event = "view", value = "price", window = "5m" }',
        'since = { op = "since_first", event = "view", window = "5m" }',
    )
    state = priced(plan, [5.0, 3.0, None, 4.0], 10 * SECOND)
    first_us = START_US // (5 * SECOND) * 5 * SECOND + 300 * SECOND
    found = [plan.values(state, first_us + step * SECOND) for step in (-1, 0, 10, 20, 29, 30)]
    assert [first for first, _ in found] == [5.0, 3.0, 4.0, 4.0, 4.0, None]
    oldest = [0, 10, 20, 30, 30, None]
    assert [since for _, since in found] == [
        None if old is None else (first_us - START_US) / 1e6 + step - old
        for old, step in zip(oldest, (-1, 0, 10, 20, 29, 30), strict=True)
    ]


def test_among_events_of_one_instant_the_smallest_id_is_first_and_the_greatest_last() -> None:
    """Whatever came first: ids order as UTF-8 bytes."""
    plan, _ = plan_of(
        'first = { op = "first", event = "view", value = "category" }',
        'first_5m = { op = "first", event = "view", value = "category", window = "5m" }',
        'last_5m = { op = "last", event = "view", value = "category", window = "5m" }',
        'two = { op = "last_n", event = "view", value = "category", n = 2, window = "5m" }',
    )
    for order in (["z", "é", "\U0001f600"], ["\U0001f600", "é", "z"], ["é", "z", "\U0001f600"]):
        state = plan.new_state()
        for event_id in order:
            plan.offer(state, view(START_US, category=event_id), event_id, START_US)
        assert plan.values(state, START_US) == ("z", "z", "\U0001f600", ["é", "\U0001f600"])


def test_events_that_never_carry_the_value_leave_nothing() -> None:
    """No number at all: NULL, and 0 for a decayed sum; but the events themselves were there."""
    named = {"price", "clicks", "category", "logged_in"}
    state = priced(PLAN, [None] * 5, SECOND)
    for f in PLAN.view.features.values():
        assert isinstance(f, SessionFeature)
        if f.value not in named or "view" not in f.events:
            continue
        nothing = {"decayed_sum": 0.0, "last_n": []}.get(f.op)
        assert PLAN.read_one(state, f.name, START_US + 5 * SECOND) == nothing, f.name
    assert PLAN.read_one(state, "since_start", START_US + 5 * SECOND) == 5.0


@given(st.lists(VALUES, min_size=1, max_size=12))
def test_mean_is_the_float_nearest_to_the_true_mean(prices: list[float]) -> None:
    """Of values up to 2^500, the tiny beside the huge: no overflow, and one rounding."""
    exact = sum((Fraction(round(Fraction(price) * 2**60), 2**60) for price in prices), Fraction(0))
    state = priced(PLAN, prices)
    assert PLAN.read_one(state, "mean_all", START_US) == float(exact / len(prices))


@pytest.mark.parametrize(
    ("prices", "mean", "std"),
    [
        ([2.0**500] * 3, 2.0**500, 0.0),
        ([2.0**500, -(2.0**500)], 0.0, 2.0**500),
        ([2.0**500, 3.0, -(2.0**500)], 1.0, 2.0**500 * math.sqrt(2 / 3)),
        ([1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16], 1e9 + 10, math.sqrt(22.5)),
        ([0.1, 0.1, 0.1], 0.1, 0.0),
    ],
)
def test_mean_and_std_far_from_zero_lose_nothing(prices: list[float], mean: float, std: float) -> None:
    """What cancels in floats does not in integers."""
    state = priced(PLAN, prices)
    assert PLAN.read_one(state, "mean_all", START_US) == mean
    assert PLAN.read_one(state, "std_61s", START_US) == std


def test_mean_and_extremes_of_the_largest_integers() -> None:
    """64 bits are no border for a mean, and an extreme of ints is that int, not a float near it."""
    state, largest = PLAN.new_state(), (1 << 63) - 1
    for number, quantity in enumerate([largest, largest - 1, largest - 2]):
        fields = {"user": "alice", "item": "a", "quantity": quantity}
        event = make_event(DECLARED, "buy", fields, now_us=START_US)
        PLAN.offer(state, event, str(number), START_US)
    assert PLAN.read_one(state, "mean_1h", START_US) == float(largest - 1)
    found = PLAN.read_one(state, "max_all", START_US)
    assert type(found) is int
    assert found == largest


@given(VALUES, st.integers(1, 9))
def test_the_deviation_of_equal_values_is_exactly_zero(price: float, count: int) -> None:
    """However large or small, however many."""
    assert repr(PLAN.read_one(priced(PLAN, [price] * count), "std_61s", START_US)) == "0.0"


def test_a_decayed_sum_of_ones_is_the_decayed_count() -> None:
    """The same bits at every instant, late events included."""
    plan, _ = plan_of(
        'count = { op = "decayed_count", event = "view", half_life = "7s" }',
        'sum = { op = "decayed_sum", event = "view", value = "price", half_life = "7s" }',
    )
    chance, state, now_us = random.Random(7), plan.new_state(), START_US
    for number in range(200):
        now_us += chance.randrange(9 * SECOND)
        plan.offer(state, view(now_us - chance.randrange(50 * SECOND), price=1.0), str(number), now_us)
        count, total = plan.values(state, now_us + chance.randrange(100 * SECOND))
        assert count == total


def test_a_decayed_sum_may_be_negative_and_cancels_to_zero() -> None:
    """Minus and plus of one instant are 0.0, whatever stood there; a debt halves like a wealth."""
    plan, _ = plan_of('worth = { op = "decayed_sum", event = "view", value = "price", half_life = "10s" }')
    start_us = START_US // (10 * SECOND) * 10 * SECOND
    state = plan.new_state()
    for number, price in enumerate([2.0**500, -80.0, -(2.0**500)]):
        plan.offer(state, view(start_us, price=price), str(number), start_us)
    worth = [plan.read_one(state, "worth", start_us + n * 10 * SECOND) for n in (0, 1, 2, 3, 63, 64)]
    assert worth == [-80.0, -40.0, -20.0, -10.0, -80.0 * 2.0**-63, 0.0]
    plan.offer(state, view(start_us, price=80.0), "last", start_us)
    assert repr(plan.read_one(state, "worth", start_us + 5 * SECOND)) == "0.0"


def test_late_values_that_cancel_for_now_are_not_forgotten() -> None:
    """+1 and -2 one bucket apart weigh the same; when the older leaves, a noted read must not stand."""
    plan, _ = plan_of('worth = { op = "decayed_sum", event = "view", value = "price", half_life = "1s" }')
    state = plan.new_state()
    plan.offer(state, view(START_US, price=0.0), "head", START_US)
    t_us = START_US + 4 * SECOND
    assert plan.read_one(state, "worth", t_us) == 0.0
    plan.offer(state, view(START_US - 59 * SECOND, price=1.0), "a", START_US)
    plan.offer(state, view(START_US - 60 * SECOND, price=-2.0), "b", START_US)
    assert plan.read_one(state, "worth", START_US) == 0.0
    assert plan.read_one(state, "worth", t_us) == 2.0**-63


def test_equal_heads_of_two_buckets_are_told_apart() -> None:
    """A unit in one bucket, a read, a unit in the next: the second read sees both."""
    plan, _ = plan_of('worth = { op = "decayed_sum", event = "view", value = "price", half_life = "1s" }')
    state, t_us = plan.new_state(), START_US + 3 * SECOND
    for number, worth in enumerate([0.125, 0.375]):
        at_us = START_US + number * SECOND
        plan.offer(state, view(at_us, price=2.0**-60), str(number), at_us)
        assert plan.read_one(state, "worth", t_us) == worth * 2.0**-60


@pytest.mark.parametrize(("halves", "units"), [(1, 0), (3, 2), (5, 2), (-1, 0), (-3, -2), (-5, -2), (7, 4)])
def test_half_a_unit_goes_to_the_even_one(halves: int, units: int) -> None:
    """In a sum, a mean and a decayed sum alike."""
    plan, _ = plan_of(
        'sum = { op = "sum", event = "view", value = "price" }',
        'mean = { op = "mean", event = "view", value = "price" }',
        'worth = { op = "decayed_sum", event = "view", value = "price", half_life = "1s" }',
    )
    found = plan.values(priced(plan, [halves * 2.0**-61]), START_US)
    assert found == (units * 2.0**-60,) * 3


def test_merged_states_hold_one_oldest_event_for_each_tile() -> None:
    """Two halves of one stream that overlap everywhere, merged, are the state of the whole."""
    plan, _ = plan_of('first = { op = "first", event = "view", value = "price", window = "5m" }')
    states = [plan.new_state() for _ in range(3)]
    for number in range(300):
        event = view(START_US + number * SECOND, price=float(number))
        for state in (states[number % 2], states[2]):
            plan.offer(state, event, f"id-{number}", event.at_us)
    assert plan.merge(states[0], states[1]).cells == plan.merge(states[1], states[0]).cells == states[2].cells


def test_sum_mean_and_std_of_one_stream_share_their_integers() -> None:
    """Three features, three integers for each tile, not six."""
    same = 'event = "view", value = "price", window = "5m"'
    plan, _ = plan_of(*(f'{op} = {{ op = "{op}", {same} }}' for op in ("sum", "mean", "std")))
    assert len(lay_out(plan.view).placed) == 3


def test_a_crowded_stream_equals_the_oracle_at_every_read() -> None:
    """Several events a tile, late, in ties and with gaps, read between events and ahead of them."""
    chance, now_us, state = random.Random(20264), START_US, PLAN.new_state()
    history: list[tuple[Event, str]] = []
    features = [f for f in PLAN.view.features.values() if isinstance(f, SessionFeature)]
    for number in range(400):
        now_us += chance.choice([0, 1, SECOND // 3, SECOND, chance.randrange(8 * SECOND), 40 * SECOND])
        at_us = now_us - chance.choice([0, 0, 0, chance.randrange(60 * SECOND)])
        event, event_id = _drawn(chance, at_us), f"{chance.choice('zay')}{number}"
        PLAN.offer(state, event, event_id, now_us)
        history.append((event, event_id))
        if number % 8 == 0:
            ahead_us = chance.choice([0, 1, chance.randrange(70 * SECOND), chance.randrange(400 * SECOND)])
            t_us = now_us + ahead_us
            for f in features:
                want = oracle(f, history, t_us, RETENTION_US)
                assert repr(PLAN.read_one(state, f.name, t_us)) == repr(want), f.name


def _drawn(chance: random.Random, at_us: int) -> Event:
    price = chance.choice([None, 10.5, chance.uniform(-50, 50), chance.uniform(-(2.0**500), 2.0**500), 5e-18])
    if chance.random() < 0.3:
        fields = {"user": "alice", "item": "b", "price": price, "quantity": chance.choice([None, 1 << 62, 2])}
        return make_event(DECLARED, "buy", fields, now_us=at_us)
    clicks = chance.choice([None, chance.randrange(-9, 9), -(1 << 63)])
    return view(at_us, item=chance.choice("abc"), price=price, clicks=clicks, category=chance.choice("ab"))


@pytest.mark.parametrize("buckets", [61, 62, 63, 64, 65])
def test_law_8_a_late_event_at_the_far_end_of_a_decay_counts_as_one_in_time(buckets: int) -> None:
    """The 64th half-life is the last: a value great enough to be seen there, in both orders of arrival."""
    half_life_us = SECOND // 2
    plan, catalog = plan_of(
        'far = { op = "decayed_sum", event = "view", value = "price", half_life = "500ms" }'
    )
    at_us = START_US + 100 * SECOND
    old, new = (
        make_event(catalog, "view", {"user": "alice", "item": "x", "price": price}, now_us=when_us)
        for price, when_us in ((2.0**100, at_us - buckets * half_life_us), (1.0, at_us))
    )
    values = []
    for order in ((old, new), (new, old)):
        state = plan.new_state()
        for event in order:
            plan.offer(state, event, str(event.at_us), at_us)
        values.append(plan.read_one(state, "far", at_us))
    assert values == [1.0 + (2.0 ** (100 - buckets) if buckets < 64 else 0.0)] * 2
