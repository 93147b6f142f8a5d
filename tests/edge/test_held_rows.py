"""A held row is what a cold read would be, at every moment; a withdrawal is seen by the very next read."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge_runtime as er
from edge_runtime.keys.identity import Identity
from edge_runtime.serving.held import Held
from edge_runtime.serving.plan import ServicePlan
from edge_runtime.wire import seal
from edge_runtime.wire.messages import LaneEntry, Lease
from tests.support.clock import ManualClock
from tests.support.consent_room import SERVER_KEY, TENANT_KEY
from tests.support.held_shop import CATALOG, DAY_US, Shop, shop, told
from tests.support.ledgers import INCARNATION, MadeUp
from tests.support.shop import BASE_US

ITEMS = ("a", "b", "c")
VISITS = CATALOG.service("mine").names.index("habits:visits")
USERS = ("alice", "bob")


TRACK = st.tuples(
    st.just("track"),
    st.sampled_from(("view", "view", "buy")),
    st.sampled_from(("alice", "alice", "bob")),
    st.sampled_from(ITEMS),
    st.sampled_from((0, 0, 0, -1_000_000, -50_000_000, 2_000_000, 30_000_000)),
    st.sampled_from((1.5, 2.25, 1e150, None)),
)
STEPS = st.one_of(
    st.tuples(st.just("withdraw"), st.sampled_from(USERS), st.sampled_from(("ads", "stats", "orders"))),
    st.tuples(st.just("give"), st.sampled_from(USERS), st.sampled_from(("ads", "stats"))),
    st.tuples(st.just("stock"), st.sampled_from(ITEMS), st.sampled_from((0.25, 0.75, None))),
    st.tuples(st.just("vec"), st.sampled_from(ITEMS), st.sampled_from((1.0, -2.0))),
    st.tuples(st.just("words"), st.sampled_from(ITEMS), st.sampled_from((1.0, 3.0, None))),
    st.tuples(st.just("profile"), st.sampled_from(USERS), st.sampled_from(("UK", "XX"))),
    st.tuples(st.just("flush")),
    st.tuples(st.just("leave"), st.sampled_from(USERS)),
    st.just(("nothing",)),
    st.just(("nothing",)),
)
PAUSES_US = st.sampled_from(
    (
        137_000,
        3_000_000,
        4_999_999,
        5_000_000,
        61_000_000,
        1_801_000_000,
        7_300_000_000,
        -1,
        -3_600_000_000,
        4 * DAY_US,
    )
)
"""Between two steps; the clock may be set back."""


def take(shop: Shop, step: tuple[Any, ...]) -> None:
    rt, clock = shop.rt, shop.clock
    match step:
        case ("track", kind, user, item, offset_us, price):
            at_s = (clock.now_us() + offset_us) / 1_000_000
            more = {"kind": f"k{item}"} if kind == "view" else {}
            rt.track(kind, user=user, item=item, price=price, at=at_s, **more)
        case ("withdraw", user, purpose):
            rt.consent.withdraw(user, [purpose])
        case ("give", user, purpose):
            rt.consent.give(user, [purpose], notice="n")
        case ("stock", item, popularity):
            pairs = {"a": 0.5, "b": 1.5, item: 2.0}
            shop.put("stock", f"item:{item}", {"popularity": popularity, "pairs": pairs})
        case ("vec", item, x):
            shop.put("vec", f"item:{item}", {"look": [x, 1.0]}, age_us=3_600_000_000)
        case ("words", item, x):
            shop.put("words", f"item:{item}", None if x is None else {"text": [x, 0.5, -x]})
        case ("profile", user, country):
            shop.put_profile(user, {"age": 33.5, "country": country})
        case ("flush",):
            rt.flush()
        case ("leave", user):
            rt.leave(user)


def compare(shop: Shop, kept: list[tuple[er.Vector, list[str]]]) -> None:
    """Every service for every subject: the held row, the cold one, the matrix; `==` on bytes and statuses."""
    rt = shop.rt
    for service, items, request in (
        ("all", ("a", "zz"), {"ctx:hour": 7}),
        ("all", ("b",), {}),
        ("mine", (None,), {}),
        ("few", (None,), {}),
        ("owed", (None,), {}),
    ):
        for user in USERS:
            for item in items:
                ids = {"user": user} if item is None else {"user": user, "item": item}
                try:
                    expected = shop.slowly(service, ids, request)
                except er.ReadInPast:
                    with pytest.raises(er.ReadInPast):
                        rt.vector(service, request=request, **ids)
                    continue
                for _ in range(3):  # as it stood before the step, or renewed; read again; held for the next
                    vector = rt.vector(service, request=request, **ids)
                    found = vector.values.tobytes(), vector.status.tolist(), list(vector.reason)
                    assert found == expected, (service, ids)
                plan = ServicePlan(CATALOG, CATALOG.service(service))
                cold = plan.vector(shop.cold(), ids, shop.clock.now_us(), None, request)
                kept.append((vector, told(cold.explain())))
                if item is not None:
                    matrix = rt.matrix(service, request=request, user=user, item=["c", item])
                    assert matrix.values[1].tobytes() == expected[0]
                    assert matrix.status[1].tolist() == expected[1]
                    assert list(matrix.reason[1]) == expected[2]
                    assert told(matrix.explain(1)) == kept[-1][1]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(TRACK, STEPS, PAUSES_US), min_size=3, max_size=6),
    st.sampled_from((4_096, 4_096, 3, 1)),
    st.sampled_from((20_000, 20_000, 1)),
)
def test_laws_1_and_7_a_held_row_is_what_a_cold_read_is(
    steps: list[tuple[tuple[Any, ...], tuple[Any, ...], int]], held_rows: int, live_states: int
) -> None:
    """Whatever happens between reads; and a vector explains itself as it was, whatever happened since."""
    kept: list[tuple[er.Vector, list[str]]] = []
    with shop(ManualClock(BASE_US), held_rows=held_rows, live_states=live_states) as one:
        one.rt.consent.give("alice", ["ads", "stats"], notice="n")
        for item in ITEMS:
            take(one, ("vec", item, 1.0))
            take(one, ("words", item, 3.0))
            take(one, ("stock", item, 0.25))
            take(one, ("track", "view", "alice", item, 0, 1.5))
        take(one, ("track", "buy", "alice", "a", 0, 2.25))
        compare(one, kept)
        for event, step, pause_us in steps:
            for happening in (event, step):
                take(one, happening)
                compare(one, kept)
            one.clock.set_wall(one.clock.now_us() + pause_us)
            compare(one, kept)
        for vector, expected in kept:
            assert told(vector.explain()) == expected


# ---- the permit ----------------------------------------------------------------------------------------


def enrolled(one: Shop) -> None:
    """The runtime as a device whose server has answered and granted a day's lease."""
    keyring = one.rt._keyring
    identity = keyring.identity
    keyring.set_identity(
        Identity(
            device_id="kiosk-1",
            signing_seed=identity.signing_seed,
            pseudonym_key=TENANT_KEY,
            digest_key=bytes(32),
            server_key=seal.public_bytes(SERVER_KEY),
        )
    )
    one.rt._leases.opened_by_server()
    grant_lease(one)
    one.rt.consent.give("alice", ["ads", "stats"], notice="n")


def grant_lease(one: Shop, duration_us: int = DAY_US) -> None:
    leases, id = one.rt._leases, bytes(16)
    leases.witness.speaks(INCARNATION)
    leases.begin_request(id)
    head = MadeUp([]).head(SERVER_KEY)
    unsigned = Lease(
        id=id,
        duration_us=duration_us,
        upto=0,
        ledger=head,
        consistency=[],
        limits={},
        signature=bytes(64),
    )
    body = seal.lease_bytes("kiosk-1", unsigned)
    leases.granted(msgspec.structs.replace(unsigned, signature=seal.sign(SERVER_KEY, seal.LEASE, body)))


def statuses(one: Shop) -> tuple[int, int]:
    """Of an `ads` and of a `stats` number of alice, from a row that is held if it can be."""
    for _ in range(3):
        vector = one.rt.vector("mine", user="alice")
    return int(vector.status[0]), int(vector.status[VISITS])


def test_law_3_a_held_row_locks_at_the_very_microsecond_its_lease_ends() -> None:
    """The purpose's own shorter lease first, then the device's; a renewed one opens both again."""
    clock = ManualClock(BASE_US)
    with shop(clock) as one:
        enrolled(one)
        assert statuses(one) == (0, 0)
        clock.uptime_us += 3_600_000_000 - 1
        assert statuses(one) == (0, 0)
        clock.uptime_us += 1
        assert one.rt.vector("mine", user="alice").status[VISITS] == er.Status.REVOKED
        assert statuses(one) == (0, er.Status.REVOKED)
        grant_lease(one)
        assert statuses(one) == (0, 0)
        clock.uptime_us += DAY_US
        assert set(one.rt.vector("mine", user="alice").status.tolist()) == {er.Status.REVOKED}
        grant_lease(one)
        assert statuses(one) == (0, 0)


def test_law_3_a_boot_clock_set_back_locks_a_held_row() -> None:
    """Whether by much or by a microsecond, and it stays locked when the clock goes on."""
    clock = ManualClock(BASE_US)
    with shop(clock) as one:
        enrolled(one)
        clock.uptime_us += 5_000_000
        assert statuses(one) == (0, 0)
        clock.uptime_us -= 1
        assert statuses(one) == (er.Status.REVOKED, er.Status.REVOKED)
        clock.uptime_us += 10_000_000
        assert statuses(one) == (er.Status.REVOKED, er.Status.REVOKED)


@pytest.mark.parametrize(("state", "denial"), [("withdrawn", 9), ("restricted", 0), ("expired", 9)])
def test_law_2_what_the_lane_denies_is_seen_by_the_next_read_of_a_held_row(state: str, denial: int) -> None:
    """Also a restriction, which erases nothing; the other purpose stays."""
    with shop(ManualClock(BASE_US)) as one:
        enrolled(one)
        assert statuses(one) == (0, 0)
        pseudonym = one.rt._keyring.pseudonym("user:alice")
        one.rt.consent.apply_lane([LaneEntry(9, pseudonym, "ads", state, 0, denial)], 9)
        assert one.rt.vector("mine", user="alice").status[0] == er.Status.REVOKED
        assert statuses(one) == (er.Status.REVOKED, 0)


def test_law_4_an_erasure_leaves_no_number_of_a_held_row() -> None:
    """The array that stood between reads is zeroed; a vector that the app has is the app's."""
    with shop(ManualClock(BASE_US)) as one:
        one.rt.consent.give("alice", ["ads", "stats"], notice="n")
        one.rt.track("view", user="alice", item="a", price=2.5)
        for _ in range(3):
            vector = one.rt.vector("mine", user="alice")
        numbers = [held.numbers for held in one.rt._reader._held.values() if isinstance(held, Held)]
        assert any(any(array) for array in numbers)
        one.rt.consent.withdraw("alice", ["ads"])
        assert not any(any(array) for array in numbers)
        assert not one.rt._reader._held
        assert vector.values[0] == 1.0


def test_law_1_what_may_not_be_used_is_held_too_with_its_reason() -> None:
    """Another reason, and a consent, are each seen by the very next read."""
    with shop(ManualClock(BASE_US)) as one:
        one.rt.consent.give("alice", ["stats"], notice="n")
        consent = one.rt.consent
        steps = (
            ("REVOKED: unknown", lambda: None),
            ("REVOKED: refused", lambda: consent.refuse("alice", ["ads"], notice="n")),
            ("", lambda: consent.give("alice", ["ads"], notice="n")),
            ("REVOKED: withdrawn", lambda: consent.withdraw("alice", ["ads"])),
        )
        for reason, decide in steps:
            decide()
            for _ in range(3):
                vector = one.rt.vector("mine", user="alice")
                assert (vector.reason[0], vector.reason[VISITS]) == (reason, "")
            assert isinstance(one.rt._reader._held["mine", ("user", "alice")], Held)


# ---- what else must be seen ----------------------------------------------------------------------------


def test_two_embeddings_of_one_view_are_each_their_own() -> None:
    """`look` reads vec:look, with its ttl, and `text` reads words:text, live and in a replay."""
    clock = ManualClock(BASE_US)
    rows = [
        ("vec", {"look": [1.0, 2.0]}),
        ("words", {"text": [3.0, 4.0, 5.0]}),
    ]
    events = [{"type": kind, "user": "alice", "item": "a", "at": BASE_US / 1e6} for kind in ("view", "buy")]
    with shop(clock) as one:
        one.rt.consent.give("alice", ["ads", "stats"], notice="n")
        for view, values in rows:
            one.put(view, "item:a", values)
        one.rt.track_many(events)
        ttl_us = 3 * 3_600_000_000
        for late_us, look in ((0, [1.0, 2.0]), (ttl_us, [1.0, 2.0]), (ttl_us + 1, None)):
            clock.set_wall(BASE_US + late_us)
            live = [one.rt.read(f"acts:{name}", user="alice").value for name in ("look", "text")]
            replayed = er.replay(
                CATALOG,
                events,
                points=[{"user": "alice", "at": (BASE_US + late_us) / 1e6}],
                refs=["acts:look", "acts:text"],
                rows=[
                    {"view": view, "entity": "item:a", "event_time": BASE_US / 1e6, "values": values}
                    for view, values in rows
                ],
            )
            past = [replayed.column(f"acts:{name}")[0] for name in ("look", "text")]
            for found in (live, past):
                assert [None if v is None else list(np.asarray(v)) for v in found] == [look, [3.0, 4.0, 5.0]]


def test_only_what_is_read_again_is_held() -> None:
    """The first read of a row is a plain one; rows beyond the limit are let go."""
    with shop(ManualClock(BASE_US), held_rows=2) as one:
        one.rt.consent.give("alice", ["ads", "stats"], notice="n")
        one.rt.track("view", user="alice", item="a")
        held = one.rt._reader._held
        for expected in (0, 1, 1):
            one.rt.vector("mine", user="alice")
            assert sum(isinstance(row, Held) for row in held.values()) == expected
        for item in ITEMS:
            one.rt.vector("all", user="alice", item=item)
        assert len(held) == 2


def test_an_event_that_waited_is_in_a_held_row_when_its_time_has_come() -> None:
    """Nothing but the clock moves between the two reads."""
    clock = ManualClock(BASE_US)
    with shop(clock) as one:
        one.rt.consent.give("alice", ["ads", "stats"], notice="n")
        one.rt.track("view", user="alice", item="a", at=BASE_US / 1e6 + 2)
        for after_us, views in ((0, 0), (1_999_999, 0), (1, 1)):
            clock.advance(us=after_us)
            for _ in range(3):
                assert one.rt.vector("mine", user="alice").values[0] == views


def test_a_state_that_was_let_go_and_came_back_is_seen() -> None:
    """The held row rests on a state that is no longer the one in memory."""
    with shop(ManualClock(BASE_US), live_states=1) as one:
        for user in USERS:
            one.rt.consent.give(user, ["ads", "stats"], notice="n")
        one.rt.track("view", user="alice", item="a")
        for _ in range(3):
            assert one.rt.vector("mine", user="alice").values[0] == 1
        for n in range(3):
            one.rt.track("view", user="bob", item="b", id=f"b{n}")
        one.rt.track("view", user="alice", item="a", id="another")
        assert one.rt.vector("mine", user="alice").values[0] == 2
