"""A new catalog over an old database: what is kept, made from the journal, marked, dropped; and crashes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cache.stored_state import ADDED, COVERED, open_state
from edge_runtime.session.plan import compile_catalog
from tests.support.clock import ManualClock
from tests.support.grown import (
    BUYS,
    DEPTH,
    SPEND,
    VIEWS_1H,
    VIEWS_5M,
    P,
    activity,
    begun,
    given,
    key_of,
    open_with,
    read,
    tracked,
    view,
)
from tests.support.shop import BASE_US

PRESENT, WARMING = er.Status.PRESENT, er.Status.WARMING
HOUR, DAY = 3600, 86_400


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BASE_US)


def stored(rt: er.Runtime, purpose: str = P) -> dict[str, bytes]:
    """View key -> dump of every state at rest under alice's key."""
    key = key_of(rt, purpose)
    with rt._database.read() as tx:
        rows = [(slot, sealed) for slot, sealed in tx.states(key.handle) if slot not in (ADDED, COVERED)]
    return {one.view: one.dump for slot, sealed in rows if (one := open_state(key, slot, sealed))}


def test_law_8_an_added_feature_is_made_from_the_journal_and_the_others_stay(
    tmp_path: Path, clock: ManualClock
) -> None:
    begun(tmp_path, clock, activity(VIEWS_5M, SPEND))
    with open_with(tmp_path, clock, activity(VIEWS_5M, SPEND, VIEWS_1H, DEPTH)) as rt:
        assert rt._database.writes["evolve"] == 1
        assert read(rt, "views_5m") == (3, PRESENT)
        assert read(rt, "spend")[1] is PRESENT
        assert read(rt, "views_1h") == (3, PRESENT)
        assert read(rt, "depth") == (3, PRESENT)
        tracked(rt, clock, 2)
        assert read(rt, "views_1h") == (5, PRESENT)
        assert read(rt, "depth") == (5, PRESENT)


def test_law_6_what_the_journal_told_is_known_as_sent(tmp_path: Path, clock: ManualClock) -> None:
    """The ids of events that a new view got from the journal make a second sending a DUPLICATE."""
    with open_with(tmp_path, clock, activity(VIEWS_5M)) as rt:
        given(rt, "alice")
        rt.track("view", user="alice", item="x", id="once")
    with open_with(tmp_path, clock, activity(BUYS, more=view("other", VIEWS_5M))) as rt:
        assert read(rt, "views_5m", "other") == (1, PRESENT)
        assert rt.track("view", user="alice", item="x", id="once") is er.DUPLICATE
        assert read(rt, "views_5m", "other") == (1, PRESENT)


def test_what_no_feature_needs_any_more_leaves_the_states(tmp_path: Path, clock: ManualClock) -> None:
    begun(tmp_path, clock, activity(VIEWS_5M, SPEND, DEPTH))
    with open_with(tmp_path, clock, activity(VIEWS_5M, SPEND, DEPTH)) as rt:
        before = stored(rt)["activity@1"]
    with open_with(tmp_path, clock, activity(VIEWS_5M)) as rt:
        after = stored(rt)["activity@1"]
        assert len(after) < len(before)
        old = compile_catalog(activity(VIEWS_5M, SPEND, DEPTH)).views["activity@1"]
        assert len(old.carry(before).missing) == 0
        assert len(old.carry(after).missing) == 2
        assert read(rt, "views_5m") == (3, PRESENT)


@pytest.mark.parametrize(
    "changed",
    [
        'f = { op = "count", event = "view", window = "10m" }',
        'f = { op = "count", event = "view", window = "5m", where = { price = { gt = 0.15 } } }',
        'f = { op = "count", event = ["view", "buy"], window = "5m" }',
        'f = { op = "sum", event = "view", value = "price", window = "5m" }',
        'f = { op = "decayed_count", event = "view", half_life = "1m" }',
        'f = { op = "last_n", event = "view", value = "price", n = 2 }',
        'f = { op = "distinct", event = "view", value = "price" }',
    ],
)
def test_law_8_a_changed_definition_is_as_if_it_had_always_been_so(
    tmp_path: Path, clock: ManualClock, changed: str
) -> None:
    first = 'f = { op = "count", event = "view", window = "5m" }'
    other = view("other", VIEWS_5M, BUYS)
    for folder, catalog in (
        ("changed", activity(first, more=other)),
        ("always", activity(changed, more=other)),
    ):
        (tmp_path / folder).mkdir()
        at = ManualClock(BASE_US)
        begun(tmp_path / folder, at, catalog, views=4, buys=2)
    with (
        open_with(tmp_path / "changed", at, activity(changed, more=other)) as mine,
        open_with(tmp_path / "always", at, activity(changed, more=other)) as theirs,
    ):
        assert mine._database.writes["evolve"] == 1
        assert theirs._database.writes["evolve"] == 0
        assert read(mine, "f") == read(theirs, "f")
        assert read(mine, "f")[1] is PRESENT


@pytest.mark.parametrize(
    "more",
    [
        'rate = { op = "ratio", of = ["views_5m", "views_1h"] }',
        'views_5m = { op = "count", event = "view", window = "5m", default = 7 }',
    ],
)
def test_a_derived_feature_or_a_default_changes_no_state(
    tmp_path: Path, clock: ManualClock, more: str
) -> None:
    begun(tmp_path, clock, activity(VIEWS_5M, VIEWS_1H))
    features = (VIEWS_1H, more) if more.startswith("views_5m") else (VIEWS_5M, VIEWS_1H, more)
    with open_with(tmp_path, clock, activity(*features)) as rt:
        assert set(rt._database.writes) == {"opening"}
        assert read(rt, "views_5m") == (3, PRESENT)


def test_the_same_catalog_again_writes_nothing(tmp_path: Path, clock: ManualClock) -> None:
    begun(tmp_path, clock, activity(VIEWS_5M))
    with open_with(tmp_path, clock, activity(VIEWS_5M)) as rt:
        assert set(rt._database.writes) == {"opening"}


def test_a_shorter_list_is_cut_from_a_longer_one_and_a_longer_one_is_new(
    tmp_path: Path, clock: ManualClock
) -> None:
    def last(n: int) -> er.Catalog:
        return activity(VIEWS_5M, f'last = {{ op = "last_n", event = "view", value = "price", n = {n} }}')

    begun(tmp_path, clock, last(3), views=5)
    with open_with(tmp_path, clock, last(3)) as rt:
        three = read(rt, "last")[0]
        assert isinstance(three, list)
        with rt._database.write("test") as tx:  # as if the journal were trimmed: nothing could be made new
            tx.drop_events(key_of(rt).handle, tx.newest_event(key_of(rt).handle))
    with open_with(tmp_path, clock, last(2)) as rt:
        assert read(rt, "last") == (three[-2:], PRESENT)
    with open_with(tmp_path, clock, last(3)) as rt:
        assert read(rt, "last")[1] is WARMING


def test_law_8_a_read_in_the_past_knows_what_an_added_feature_was_made_of(
    tmp_path: Path, clock: ManualClock
) -> None:
    begun(tmp_path, clock, activity(VIEWS_5M, more=view("other", BUYS)), views=3, buys=3)
    with open_with(tmp_path, clock, activity(VIEWS_5M, BUYS)) as rt:
        past = rt.read("activity:buys", user="alice", at=BASE_US / 1e6 + 4)
        assert (past.value, past.status) == (2, PRESENT)
        assert rt.read("activity:views_5m", user="alice", at=BASE_US / 1e6 + 1).value == 2


def test_a_new_view_is_filled_at_once_for_everybody_in_the_journal(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Also for an entity that is asked about only after the journal has let its events go."""
    pair = view("pair", 'n = { op = "count", event = "view", window = "30d" }').replace(
        'entity = "user"', 'entity = ["user", "item"]'
    )
    begun(tmp_path, clock, activity(VIEWS_5M, keep="1d"))
    with open_with(tmp_path, clock, activity(VIEWS_5M, more=pair, keep="1d"), snapshot_every=1) as rt:
        for _ in range(4):
            clock.advance(seconds=DAY)
            rt.track("view", user="alice", item="y")
            rt.flush()
        found = rt.read("pair:n", user="alice", item="x")
        assert (found.value, found.status) == (3, PRESENT)
        never = rt.read("pair:n", user="alice", item="never seen")
        assert (never.value, never.status) == (0, PRESENT)


def test_a_view_that_moves_to_another_purpose_starts_empty(tmp_path: Path, clock: ManualClock) -> None:
    """Although its new purpose has the same events in its journal."""
    counts = view("counts", VIEWS_1H, purpose="measurement")
    begun(tmp_path, clock, activity(VIEWS_5M, more=counts))
    with open_with(tmp_path, clock, activity(VIEWS_5M, purpose="measurement", more=counts)) as rt:
        assert read(rt, "views_5m") == (None, WARMING)
        assert not stored(rt)
        clock.advance(seconds=4 * 60)
        tracked(rt, clock, 2)
        assert read(rt, "views_5m") == (None, WARMING)
        clock.advance(seconds=58)
        assert read(rt, "views_5m") == (2, PRESENT)
        assert read(rt, "views_1h", "counts") == (5, PRESENT)


def test_the_states_of_a_removed_view_leave_the_file(tmp_path: Path, clock: ManualClock) -> None:
    both = activity(VIEWS_5M, more=view("other", SPEND) + view("third", SPEND, purpose="measurement"))
    begun(tmp_path, clock, both)
    with open_with(tmp_path, clock, both) as rt:
        assert set(stored(rt)) == {"activity@1", "other@1"}
        assert set(stored(rt, "measurement")) == {"third@1"}
    with open_with(tmp_path, clock, activity(VIEWS_5M)) as rt:
        assert set(stored(rt)) == {"activity@1"}
        with rt._database.read() as tx:
            assert not tx.states(key_of(rt, "measurement").handle)
            assert not tx.events(key_of(rt, "measurement").handle)
    with open_with(
        tmp_path, clock, both
    ) as rt:  # the journal of `personalization` still tells, the other is gone
        assert read(rt, "spend", "other")[1] is PRESENT
        assert read(rt, "spend", "third")[1] is WARMING


def test_two_upgrades_in_a_row_keep_what_the_first_one_knew(tmp_path: Path, clock: ManualClock) -> None:
    begun(tmp_path, clock, activity(VIEWS_5M))
    open_with(tmp_path, clock, activity(VIEWS_5M, BUYS)).close()
    since = clock.now_us()
    clock.advance(seconds=600)
    with open_with(tmp_path, clock, activity(VIEWS_5M, BUYS, VIEWS_1H)) as rt:
        assert rt.read("activity:buys", user="alice").complete_from == since
        assert read(rt, "views_1h") == (3, PRESENT)
        clock.advance(seconds=HOUR - 600)
        assert read(rt, "buys") == (0, PRESENT)


def test_law_6_a_crash_before_the_upgrade_loses_nothing(tmp_path: Path, clock: ManualClock) -> None:
    """What stood in the journal only is brought over with the states."""
    begun(tmp_path, clock, activity(VIEWS_5M))
    script = f"""
import os, pathlib
from tests.support.clock import ManualClock
from tests.support.grown import *
clock = ManualClock({clock.now_us()})
rt = open_with(pathlib.Path({str(tmp_path)!r}), clock, activity(VIEWS_5M))
tracked(rt, clock, 4)
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    clock.advance(seconds=4)
    with open_with(tmp_path, clock, activity(VIEWS_5M, VIEWS_1H)) as rt:
        assert read(rt, "views_5m") == (7, PRESENT)
        assert read(rt, "views_1h") == (7, PRESENT)


@pytest.mark.parametrize("point", ["begun", "handle", "facts", "committed"])
def test_law_6_an_upgrade_killed_anywhere_is_before_or_after(
    tmp_path: Path, clock: ManualClock, point: str
) -> None:
    begun(tmp_path, clock, activity(VIEWS_5M, SPEND))
    script = f"""
import os, pathlib
import edge_runtime as er
import edge_runtime.cache.evolution as evolution
from edge_runtime.consent.opening import open_cache
from edge_runtime.session.plan import compile_catalog
from tests.support.grown import *
folder = pathlib.Path({str(tmp_path)!r})
catalog = activity(VIEWS_5M, VIEWS_1H)
keyring, database = open_cache(str(folder / "cache.db"), er.KeyFile(folder / "device.key"))
step = lambda point: os._exit(9) if point == {point!r} else None
evolution.evolve(database, keyring, catalog, compile_catalog(catalog), {clock.now_us()}, step)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    with open_with(tmp_path, clock, activity(VIEWS_5M, SPEND)) as rt:
        assert rt._database.writes["evolve"] == (point == "committed")
        assert read(rt, "views_5m") == (3, PRESENT)
        assert read(rt, "spend")[1] is PRESENT
    with open_with(tmp_path, clock, activity(VIEWS_5M, VIEWS_1H)) as rt:
        assert read(rt, "views_1h") == (3, PRESENT)


def test_law_4_an_upgrade_brings_nobody_back(tmp_path: Path, clock: ManualClock) -> None:
    begun(tmp_path, clock, activity(VIEWS_5M))
    with open_with(tmp_path, clock, activity(VIEWS_5M)) as rt:
        rt.consent.withdraw("user:alice", [P])
    with open_with(tmp_path, clock, activity(VIEWS_5M, VIEWS_1H)) as rt:
        assert read(rt, "views_1h") == (None, er.Status.REVOKED)
        rt.consent.give("user:alice", [P], notice="n")
        assert read(rt, "views_1h") == (0, PRESENT)


def test_a_purpose_that_moves_into_memory_leaves_nothing_at_rest(tmp_path: Path, clock: ManualClock) -> None:
    visits = view("visits", 'n = { op = "count", event = "look" }', purpose="guests", entity="guest")
    with open_with(tmp_path, clock, activity(VIEWS_5M, more=visits)) as rt:
        given(rt, "alice")
        tracked(rt, clock, 2)
        rt.track("look", guest="g", item="x")
        assert rt.read("visits:n", guest="g").value == 1
    changed = visits.replace('n = { op = "count", event = "look" }', 'm = { op = "count", event = "look" }')
    with open_with(tmp_path, clock, activity(VIEWS_5M, VIEWS_1H, more=changed)) as rt:
        assert rt.read("visits:m", guest="g").value == 0
        assert read(rt, "views_1h") == (2, PRESENT)


def test_a_damaged_state_is_made_from_the_journal(tmp_path: Path, clock: ManualClock) -> None:
    begun(tmp_path, clock, activity(VIEWS_5M))
    with open_with(tmp_path, clock, activity(VIEWS_5M)) as rt:
        key = key_of(rt)
        with rt._database.write("test") as tx:
            for slot, sealed in tx.states(key.handle):
                if slot not in (ADDED, COVERED):
                    whole = key.open("state", slot, sealed)
                    dump = open_state(key, slot, sealed).dump
                    broken = key.seal("state", slot, whole.replace(dump, b"\x01" * len(dump)))
                    tx.put_state(key.handle, slot, 1, broken)
        assert read(rt, "views_5m") == (3, PRESENT)
    with open_with(tmp_path, clock, activity(VIEWS_5M, VIEWS_1H)) as rt:
        assert read(rt, "views_1h") == (3, PRESENT)


def test_a_longer_lateness_counts_nothing_twice(tmp_path: Path, clock: ManualClock) -> None:
    """An id from before the old horizon is forgotten, so an event from there is LATE under the new one."""
    begun(tmp_path, clock, activity(VIEWS_5M, VIEWS_1H, DEPTH), views=1)
    with open_with(tmp_path, clock, activity(VIEWS_5M, VIEWS_1H, DEPTH)) as rt:
        clock.advance(seconds=29 * 60)
        tracked(rt, clock, 1)
    longer = activity(VIEWS_5M, VIEWS_1H, DEPTH).to_dict()
    longer["views"]["activity@1"] |= {"allowed_lateness": "1h", "dedup_horizon": "2h"}
    with open_with(tmp_path, clock, er.Catalog.from_dict(longer)) as rt:
        assert rt.track("view", user="alice", item="x", at=BASE_US / 1e6, id=f"view{BASE_US}") in (
            er.DUPLICATE,
            er.LATE,
        )
        assert read(rt, "views_1h") == (2, PRESENT)
        assert read(rt, "depth") == (2, PRESENT)
