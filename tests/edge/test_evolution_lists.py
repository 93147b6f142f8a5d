"""Lists of newest values that a new catalog makes longer, sessions under another lateness: nothing goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import edge_runtime as er
from edge_runtime.catalog.evolution import evolve
from edge_runtime.session.admission import Admission
from edge_runtime.session.event import Event
from edge_runtime.session.plan import ViewPlan, ViewState, compile_catalog
from tests.support.clock import ManualClock
from tests.support.grown import BUYS, SPEND, P, activity, begun, key_of, open_with, read, tracked, view
from tests.support.grown import given as agreed
from tests.support.shop import BASE_US

PRESENT, WARMING = er.Status.PRESENT, er.Status.WARMING
DAY, SECOND_US = 86_400, 1_000_000
IDLE = 'idle = { op = "since_last", event = "buy" }'
LAST = 'last_buy = { op = "last", event = "buy", value = "price" }'


def newest(n: int, name: str = "last") -> str:
    return f'{name}_{n} = {{ op = "last_n", event = "view", value = "price", n = {n} }}'


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BASE_US)


def let_go(rt: er.Runtime) -> None:
    """As if the journal had let go of everything: what is made from it begins now."""
    key = key_of(rt)
    rt.flush()
    with rt._database.write("test") as tx:
        tx.drop_events(key.handle, tx.newest_event(key.handle))


def rested(folder: Path, clock: ManualClock, catalog: er.Catalog, views: int) -> None:
    """A database with events that rest in the states alone."""
    begun(folder, clock, catalog, views)
    with open_with(folder, clock, catalog) as rt:
        let_go(rt)


def test_law_8_a_list_that_a_neighbour_makes_longer_keeps_what_it_held(
    tmp_path: Path, clock: ManualClock
) -> None:
    """The journal has let go of all: `last_5` is whole as before, `last_8` once eight are known."""
    rested(tmp_path, clock, activity(newest(5)), views=7)
    with open_with(tmp_path, clock, activity(newest(5))) as rt:
        before = read(rt, "last_5")
        tracked(rt, clock, 1)
        after = read(rt, "last_5")
        assert (len(before[0]), before[1]) == (5, PRESENT)  # type: ignore[arg-type]
    with open_with(tmp_path, clock, activity(newest(5), newest(8), newest(3))) as rt:
        assert read(rt, "last_5") == after
        assert read(rt, "last_3") == (after[0][-3:], PRESENT)  # type: ignore[index]
        assert read(rt, "last_8") == (None, WARMING)
        assert rt.read("activity:last_5", user="alice").complete_from is None
        assert rt.read("activity:last_8", user="alice").complete_from is not None
        tracked(rt, clock, 6)
        assert read(rt, "last_8")[1] is WARMING, "seven of its events are known"
    with open_with(tmp_path, clock, activity(newest(5), newest(8), newest(3))) as rt:
        tracked(rt, clock, 1)
        whole, status = read(rt, "last_8")
        assert status is PRESENT
        assert isinstance(whole, list)
        assert read(rt, "last_5") == (whole[-5:], PRESENT)


def test_law_8_a_list_that_grows_twice_knows_each_part(tmp_path: Path, clock: ManualClock) -> None:
    """Five, then eight, then six: the six are no more known than the eight were."""
    rested(tmp_path, clock, activity(newest(5)), views=7)
    with open_with(tmp_path, clock, activity(newest(5), newest(8))) as rt:
        since = rt.read("activity:last_8", user="alice").complete_from
        assert since is not None
        let_go(rt)
    clock.advance(seconds=60)
    with open_with(tmp_path, clock, activity(newest(5), newest(6))) as rt:
        assert read(rt, "last_5")[1] is PRESENT
        assert rt.read("activity:last_6", user="alice").complete_from == since
        let_go(rt)
    with open_with(tmp_path, clock, activity(newest(4))) as rt:
        assert rt.read("activity:last_4", user="alice").complete_from is None
        let_go(rt)
    with open_with(tmp_path, clock, activity(newest(4), newest(5))) as rt:
        assert read(rt, "last_4")[1] is PRESENT
        assert read(rt, "last_5")[1] is WARMING, "the fifth was let go of"


def test_law_8_a_list_that_was_never_full_lacks_nothing(tmp_path: Path, clock: ManualClock) -> None:
    """Four looks in all: five places held them, so eight do; with a fifth, nobody knows of a sixth."""
    for views, expected in ((4, PRESENT), (5, WARMING)):
        folder = tmp_path / str(views)
        folder.mkdir()
        rested(folder, clock, activity(newest(5)), views)
        with open_with(folder, clock, activity(newest(8))) as rt:
            assert read(rt, "last_8")[1] is expected
            tracked(rt, clock, 3)
            assert read(rt, "last_8")[1] is expected


def test_law_8_the_journal_tells_what_lies_before_a_list(tmp_path: Path, clock: ManualClock) -> None:
    """Nothing was let go of: the longer list is what it would always have been, no event is in it twice."""
    with open_with(tmp_path, clock, activity(newest(5))) as rt:
        agreed(rt, "alice")
        tracked(rt, clock, 7)
    with open_with(tmp_path, clock, activity(newest(5), newest(8))) as rt:
        sent = [number * 0.1 for number in range(1, 8)]
        assert read(rt, "last_8") == (sent, PRESENT)
        assert read(rt, "last_5") == (sent[-5:], PRESENT)
        tracked(rt, clock, 1)
        assert read(rt, "last_8") == ([*sent, 0.1], PRESENT)


def test_law_8_who_has_no_state_has_no_list_that_could_miss_anything(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Alice bought and never looked: her list is empty, however long, and whatever the journal let go of."""
    other = view("other", BUYS)
    with open_with(tmp_path, clock, activity(newest(5), more=other)) as rt:
        agreed(rt, "alice")
        tracked(rt, clock, 2, "buy")
    with open_with(tmp_path, clock, activity(newest(5), more=other)) as rt:
        let_go(rt)
    with open_with(tmp_path, clock, activity(newest(8), more=other)) as rt:
        assert read(rt, "last_8") == ([], PRESENT)


def test_law_7_the_newest_events_are_known_before_a_retention_has_passed(
    tmp_path: Path, clock: ManualClock
) -> None:
    """`last`, `last_n` and `since_last`, added later, wait for as many events as they ask for."""
    two = 'two = { op = "last_n", event = "buy", value = "price", n = 2 }'
    both = 'both = { op = "ratio", of = ["last_buy", "idle"] }'
    rested(tmp_path, clock, activity(SPEND), views=1)
    with open_with(tmp_path, clock, activity(SPEND, IDLE, LAST, two, both)) as rt:
        assert {read(rt, name)[1] for name in ("idle", "last_buy", "two", "both")} == {WARMING}
        clock.advance(seconds=1)
        tracked(rt, clock, 1, "buy")
        assert read(rt, "idle") == (1.0, PRESENT)
        assert read(rt, "last_buy") == (0.1, PRESENT)
        assert read(rt, "both") == (0.1, PRESENT)
        assert read(rt, "two")[1] is WARMING
        row = rt.read("activity:two", user="alice", at=clock.now_us() / 1e6)
        assert row.reason.endswith("it reaches back before what the journal could refill")
        tracked(rt, clock, 1, "buy")
        assert read(rt, "two") == ([0.1, 0.1], PRESENT)
        clock.advance(seconds=40 * DAY)
        assert read(rt, "two") == ([], PRESENT)


def test_law_7_a_late_event_from_before_does_not_make_a_list_whole(
    tmp_path: Path, clock: ManualClock
) -> None:
    """It is known, what lay between it and the upgrade is not."""
    rested(tmp_path, clock, activity(SPEND), views=1)
    clock.advance(seconds=30)
    with open_with(tmp_path, clock, activity(SPEND, LAST)) as rt:
        clock.advance(seconds=5)
        assert rt.track("buy", user="alice", item="x", price=1.0, at=clock.now_us() / 1e6 - 10) is er.ACCEPTED
        assert read(rt, "last_buy")[1] is WARMING
        assert rt.track("buy", user="alice", item="x", price=2.0) is er.ACCEPTED
        assert read(rt, "last_buy") == (2.0, PRESENT)


def test_law_7_what_looks_back_for_ever_says_so(tmp_path: Path, clock: ManualClock) -> None:
    """About nobody there is no retention: the newest become known, a count of everything never."""
    n, last = 'n = { op = "count", event = "shelved" }', 'last = { op = "since_last", event = "shelved" }'
    half = 'half = { op = "log1p", of = "n" }'
    shelf = view("shelf", 'd = { op = "count", event = "shelved", window = "1d" }', entity="item").replace(
        f'purpose = "{P}"', ""
    )
    event = '[events.shelved]\nentities = ["item"]\n'
    more = event + shelf.replace("[views.shelf.features]", f"[views.shelf.features]\n{n}\n{last}\n{half}")
    open_with(tmp_path, clock, activity(SPEND)).close()
    said = {c.place.rpartition(".")[2]: c.detail for c in evolve(activity(SPEND), activity(SPEND, more=more))}
    assert said["half"].endswith("WARMING for good: it looks back for ever, and no retention ends that")
    assert said["last"].endswith("WARMING until its newest event is known")
    with open_with(tmp_path, clock, activity(SPEND, more=more)) as rt:
        clock.advance(seconds=400 * DAY)
        assert rt.read("shelf:d", item="x").value == 0
        for feature in ("n", "half"):
            found = rt.read(f"shelf:{feature}", item="x")
            assert found.status is WARMING
            assert found.reason.endswith("it looks back for ever: without a window nothing makes it whole")
        assert "for ever" not in rt.read("shelf:last", item="x").reason
        rt.track("shelved", item="x")
        assert rt.read("shelf:last", item="x").value == 0.0
        assert rt.read("shelf:n", item="x").status is WARMING


# ---- one plan after the other, over any stream -------------------------------------------------------------

SESSIONS = (
    'depth = { op = "session_count", event = "view", gap = "20s" }',
    'spent = { op = "session_sum", event = "view", value = "price", gap = "20s" }',
    'kinds = { op = "session_distinct", event = "view", value = "price", gap = "20s" }',
)
LISTS = tuple(newest(n) for n in (1, 3, 5))


def plan_of(*features: str, lateness_s: int = 30) -> ViewPlan:
    document = activity(*features).to_dict()
    document["views"]["activity@1"] |= {"allowed_lateness": f"{lateness_s}s"}
    document["views"]["activity@1"].pop("dedup_horizon", None)
    return compile_catalog(er.Catalog.from_dict(document)).views["activity@1"]


def event_at(second: int) -> Event:
    price = float(second % 7)
    return Event("view", {"user": "alice", "item": "x"}, {"price": price}, BASE_US + second * SECOND_US)


def taken(
    plan: ViewPlan, state: ViewState, seconds: Sequence[int], first: int, now: int
) -> list[tuple[str, Event]]:
    """What of these events, in order of arrival, the plan let in."""
    found = []
    for number, second in enumerate(seconds, first):
        now = max(now, second)
        event = event_at(second)
        if plan.offer(state, event, str(number), BASE_US + now * SECOND_US) is Admission.ACCEPTED:
            found.append((str(number), event))
    return found


def replayed(plan: ViewPlan, events: Sequence[tuple[str, Event]]) -> ViewState:
    state = plan.new_state()
    for event_id, event in sorted(events, key=lambda one: (one[1].at_us, one[0])):
        plan.update(state, event, event_id)
    return state


SECONDS = st.lists(st.integers(0, 60), max_size=30).map(
    lambda found: [5 * one for one in sorted(found, key=lambda one: one // 12)]
)
"""In order by the minute; in steps that hit a gap and a lateness to the second."""
SHORTER, LONGER = plan_of(*SESSIONS, *LISTS, lateness_s=30), plan_of(*SESSIONS, *LISTS, lateness_s=120)


@given(SECONDS, SECONDS, st.booleans())
@example([0, 55], [20, 40], True)  # five seconds more of lateness, and 20 would join what was let go of
@settings(max_examples=200)
def test_law_8_another_lateness_loses_no_session(
    before: Sequence[int], after: Sequence[int], grows: bool
) -> None:
    """Whatever is admitted before and after the change, sessions are those of a replay of it."""
    was, now = (SHORTER, LONGER) if grows else (LONGER, SHORTER)
    state, edge = was.new_state(), max([0, *before])
    events = taken(was, state, before, 0, 0)
    carried = now.carry(was.dump(state))
    assert not carried.missing
    events += taken(now, carried.state, after, len(before), edge)
    end_us = max([BASE_US, *(one.at_us for _, one in events)])
    assert now.values(carried.state, end_us) == now.values(replayed(now, events), end_us)


@given(SECONDS, st.integers(0, 300), st.sampled_from([1, 3, 5]), st.sampled_from([1, 3, 5]), SECONDS)
@settings(max_examples=200)
def test_law_8_of_a_longer_list_each_part_is_what_it_says(
    before: Sequence[int], kept_s: int, short: int, long: int, after: Sequence[int]
) -> None:
    """The journal knows all from `kept_s` on; lists that asked for no more than was there are a replay's,
    longer ones are as soon as their n-th newest came after that."""
    was, now = plan_of(newest(short)), plan_of(*(newest(n) for n in (1, 3, 5) if n <= max(short, long)))
    state = was.new_state()
    events = taken(was, state, before, 0, 0)
    known_us = BASE_US + kept_s * SECOND_US
    carried = now.carry(was.dump(state))
    journal = replayed(now, [one for one in events if one[1].at_us >= known_us])
    assert set(carried.missing.values()) == ({short} if long > short else set())
    mine = now.graft(carried.state, carried.missing, journal) if carried.missing else carried.state
    events += taken(now, mine, after, len(before), max([0, *before]))
    end_us = BASE_US + 301 * SECOND_US
    found, whole = now.values(mine, end_us), now.values(replayed(now, events), end_us)
    for feature, one, other in zip(now.names, found, whole, strict=True):
        filled_us = now.filled_since_us(mine, feature, end_us)
        if int(feature[-1]) <= short or (filled_us is not None and filled_us >= known_us):
            assert one == other, feature
