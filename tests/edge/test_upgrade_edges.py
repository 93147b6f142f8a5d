"""A new catalog in awkward moments: events that wait, ids sent again, twice in a row, other dtypes, kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import edge_runtime as er
from tests.support.clock import ManualClock
from tests.support.grown import BUYS, SPEND, VIEWS_1H, VIEWS_5M, P, activity, given, open_with, tracked, view
from tests.support.shop import BASE_US

VIEWS, ALL_BUYS = 'views = { op = "count", event = "view" }', 'all_buys = { op = "count", event = "buy" }'
OTHER = view("other", ALL_BUYS)
HOUR, DAY = 3600, 86_400


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BASE_US)


def values(rt: er.Runtime, *names: str) -> list[object]:
    found = [rt.read(f"activity:{name}", user="alice") for name in names]
    return [one.value if one.status is er.Status.PRESENT else one.status for one in found]


@pytest.mark.parametrize("stored", [True, False])
def test_an_event_that_waits_through_an_upgrade_counts_once_in_old_and_new(
    tmp_path: Path, clock: ManualClock, stored: bool
) -> None:
    """Of a kind that the view knew, and of one that only another view was given."""
    with open_with(tmp_path, clock, activity(VIEWS, more=OTHER)) as rt:
        given(rt, "alice")
        tracked(rt, clock, 2)
        soon = (clock.now_us() + 30_000_000) / 1e6
        for kind in ("view", "buy"):
            assert (
                rt.track(kind, user="alice", item="x", price=1.0, id=f"soon-{kind}", at=soon) is er.ACCEPTED
            )
        if not stored:  # a state that only the journal tells of
            rt._commit.flush()
            held = rt._keyring.every_key()
            rt._states.forget({key.handle for key in held})
    with open_with(tmp_path, clock, activity(VIEWS, VIEWS_5M, BUYS, ALL_BUYS, more=OTHER)) as rt:
        names = ("views", "views_5m", "buys", "all_buys")
        assert values(rt, *names) == [2, 2, 0, 0]
        for kind in ("view", "buy"):
            again = rt.track(kind, user="alice", item="x", price=1.0, id=f"soon-{kind}", at=soon)
            assert again is er.DUPLICATE
        clock.advance(seconds=31)
        assert values(rt, *names) == [3, 3, 1, 1]
        assert rt.read("other:all_buys", user="alice").value == 1


def test_ids_that_only_another_view_knew_are_known_to_the_view_that_took_its_events(
    tmp_path: Path, clock: ManualClock
) -> None:
    """A buy sent again after the upgrade is a DUPLICATE, in both."""
    with open_with(tmp_path, clock, activity(VIEWS, more=OTHER)) as rt:
        given(rt, "alice")
        tracked(rt, clock, 2)
        assert rt.track("buy", user="alice", item="x", price=1.0, id="b") is er.ACCEPTED
    with open_with(tmp_path, clock, activity(VIEWS, ALL_BUYS, more=OTHER)) as rt:
        assert rt.track("buy", user="alice", item="x", price=1.0, id="b") is er.DUPLICATE
        assert values(rt, "views", "all_buys") == [2, 1]


def test_two_upgrades_without_a_read_in_between_lose_nothing_of_the_journal(
    tmp_path: Path, clock: ManualClock
) -> None:
    """What was tracked yesterday is still there for the second one; a downgrade finds the rest as it was."""
    with open_with(tmp_path, clock, activity(VIEWS)) as rt:
        given(rt, "alice")
        tracked(rt, clock, 3)
    clock.advance(seconds=DAY)
    for catalog in (activity(VIEWS, VIEWS_1H), activity(VIEWS, VIEWS_1H, SPEND.replace("1d", "3d"))):
        with open_with(tmp_path, clock, catalog):
            pass
    with open_with(tmp_path, clock, activity(VIEWS, VIEWS_1H, SPEND.replace("1d", "3d"))) as rt:
        assert values(rt, "views", "views_1h") == [3, 0]
        assert values(rt, "spend") == [0.1 + 0.2 + 0.1 * 3]
    with open_with(tmp_path, clock, activity(VIEWS)) as rt:
        assert values(rt, "views") == [3]
        tracked(rt, clock, 1)
    with open_with(tmp_path, clock, activity(VIEWS, VIEWS_1H)) as rt:
        assert values(rt, "views", "views_1h") == [4, 1]


def test_a_withdrawal_between_two_catalogs_leaves_nothing_for_the_third(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Withdraw, upgrade, give again: the new features begin with what came after."""
    with open_with(tmp_path, clock, activity(VIEWS)) as rt:
        given(rt, "alice", "bob")
        tracked(rt, clock, 3)
        tracked(rt, clock, 2, user="bob")
        rt.consent.withdraw("user:alice", [P])
    with open_with(tmp_path, clock, activity(VIEWS, VIEWS_1H)) as rt:
        assert values(rt, "views", "views_1h") == [er.Status.REVOKED] * 2
        rt.consent.give("user:alice", [P], notice="n")
        assert values(rt, "views", "views_1h") == [0, 0]
        tracked(rt, clock, 1)
    with open_with(tmp_path, clock, activity(VIEWS, VIEWS_1H, VIEWS_5M)) as rt:
        assert values(rt, "views", "views_1h", "views_5m") == [1, 1, 1]
        assert rt.read("activity:views_5m", user="bob").value == 2


def test_a_property_that_becomes_a_float_is_one_in_features_made_from_the_journal(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Journalled as an int; the feature that is added later has the dtype that the catalog says."""
    whole = 'properties = { price = "int64" }'

    def catalog(properties: str, *features: str) -> er.Catalog:
        text = f"""
[catalog]
name = "t"
version = 1
[purposes.{P}]
legal_basis = "consent"
lease = "24h"
retention = "30d"
keep_events = "7d"
[entities.user]
personal = true
[events.view]
entities = ["user"]
{properties}
"""
        return er.Catalog.from_toml(text + view("activity", *features))

    with open_with(tmp_path, clock, catalog(whole, VIEWS)) as rt:
        rt.consent.give("alice", [P], notice="n")
        for price in (3, (1 << 53) + 1):
            rt.track("view", user="alice", price=price)
    last = 'last = { op = "last_n", event = "view", value = "price", n = 2 }'
    with open_with(tmp_path, clock, catalog(whole.replace("int64", "float64"), VIEWS, last)) as rt:
        found = rt.read("activity:last", user="alice").value
        assert rt.read("activity:views", user="alice").value == 2
        assert isinstance(found, list)
        assert [(type(one), one) for one in sorted(found)] == [(float, 3.0), (float, 2.0**53)]
        rt.track("view", user="alice", price=0.5)
        assert rt.read("activity:views", user="alice").value == 3


def test_a_view_that_moves_to_another_purpose_knows_nothing_of_before(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Though another view of the new purpose was given the same events: not even when the newest was."""
    other = view("other", 'seen = { op = "count", event = "view" }', purpose="measurement")
    with open_with(tmp_path, clock, activity(VIEWS, more=other)) as rt:
        given(rt, "alice")
        tracked(rt, clock, 3)
    for features in ((VIEWS,), (VIEWS, VIEWS_1H)):
        with open_with(tmp_path, clock, activity(*features, purpose="measurement", more=other)) as rt:
            found = rt.read("activity:views", user="alice")
            assert (found.status, found.event_time) == (er.Status.WARMING, None)
            assert rt.read("other:seen", user="alice").value == 3


def test_of_an_id_that_came_twice_the_first_content_makes_a_new_feature(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Further apart than ids are known the device took both; from the journal it is made as a replay is."""
    events = []
    with open_with(tmp_path, clock, activity(VIEWS)) as rt:
        given(rt, "alice")
        for price, event_id in ((1.0, "again"), (5.0, "between"), (2.0, "again")):
            fields = {"user": "alice", "item": "x", "price": price, "id": event_id}
            assert rt.track("view", **fields) is er.ACCEPTED
            events.append({"type": "view", **fields, "at": clock.now_us() / 1e6})
            clock.advance(seconds=HOUR)
    catalog = activity(VIEWS, SPEND)
    with open_with(tmp_path, clock, catalog) as rt:
        assert values(rt, "views", "spend") == [3, 6.0]
        points = [{"user": "alice", "at": clock.now_us() / 1e6}]
        table = er.replay(catalog, events, points=points, refs=["activity:spend"])
        assert table.column("activity:spend") == [6.0]


def test_a_deviation_that_warms_beside_an_old_mean_keeps_nobody_from_reading(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Its squares know less than the sum and the count that it shares with the mean."""
    mean = 'mean = { op = "mean", event = "view", value = "price" }'
    std = 'std = { op = "std", event = "view", value = "price" }'
    with open_with(tmp_path, clock, activity(VIEWS, mean, keep="1d")) as rt:
        given(rt, "alice")
        for day in range(4):
            rt.track("view", user="alice", item="x", price=8.0 - 2 * day)
            clock.advance(seconds=DAY)
            rt._commit.flush(everything=True)
    with open_with(tmp_path, clock, activity(VIEWS, mean, std, keep="1d")) as rt:
        assert values(rt, "views", "mean", "std") == [4, 5.0, er.Status.WARMING]


_TRACKS = """
import sys
from pathlib import Path
import edge_runtime as er
from tests.support.clock import ManualClock
from tests.support.grown import activity, open_with, given, view
clock = ManualClock({now_us})
more = view("other", 'all_buys = {{ op = "count", event = "buy" }}')
catalog = activity('views = {{ op = "count", event = "view" }}', more=more)
rt = open_with(Path(sys.argv[1]), clock, catalog, snapshot_every=3)
given(rt, "alice")
def event(n):
    clock.advance(us=1000)
    return {{"type": "view" if n % 3 else "buy", "user": "alice", "item": "x", "id": str(n)}}
for n in range(0, 1_000_000, 700):
    assert rt.track_many([event(m) for m in range(n, n + 700)]).accepted == 700
    rt.flush()
    print(n + 700, flush=True)
"""


def test_law_6_a_kill_within_track_many_and_an_upgrade_at_the_next_opening(tmp_path: Path) -> None:
    """What was acknowledged is there, once, in what was kept and in what is made from the journal."""
    code = _TRACKS.format(now_us=BASE_US)
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert child.stdout is not None
    acknowledged = 0
    for line in child.stdout:
        acknowledged = int(line)
        if acknowledged >= 2100:
            child.send_signal(signal.SIGKILL)
            break
    child.stdout.close()
    child.wait()
    clock = ManualClock(BASE_US + 300_000_000)
    with open_with(tmp_path, clock, activity(VIEWS, VIEWS_1H, ALL_BUYS, more=OTHER)) as rt:
        views, views_1h, buys = values(rt, "views", "views_1h", "all_buys")
        other = rt.read("other:all_buys", user="alice").value
        assert isinstance(views, int)
        assert isinstance(buys, int)
        assert views + buys >= acknowledged
        assert (views, buys) == (views_1h, other)
        total = views + buys
        assert buys == (total + 2) // 3
    with open_with(tmp_path, clock, activity(VIEWS, VIEWS_1H, ALL_BUYS, more=OTHER)) as rt:
        assert values(rt, "views", "views_1h", "all_buys") == [views, views, buys]
