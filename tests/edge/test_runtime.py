"""The runtime as an app meets it: what it takes, what it refuses, and what is left as it was."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import edge_runtime as er
from tests.support.clock import ManualClock
from tests.support.shop import BASE_US, shop_catalog

DATA = Path(__file__).resolve().parents[1] / "data"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BASE_US)


@pytest.fixture
def rt(tmp_path: Path, clock: ManualClock) -> Iterator[er.Runtime]:
    with open_at(tmp_path, clock) as runtime:
        runtime.consent.give("alice", ["personalization"], notice="2026-11")
        yield runtime


def open_at(folder: Path, clock: ManualClock) -> er.Runtime:
    return er.Runtime.open(
        folder / "cache.db", catalog=shop_catalog(), key=er.KeyFile(folder / "device.key"), clock=clock
    )


def views(rt: er.Runtime, user: str = "alice") -> object:
    return rt.read("activity:views", user=user).value


# ---- law 1 ---------------------------------------------------------------------------------------------


def test_law_1_without_a_decision_nothing_is_taken_and_nothing_is_read(rt: er.Runtime) -> None:
    assert rt.track("view", user="bob", item="x") is er.NO_CONSENT
    found = rt.read("activity:views", user="bob")
    assert (found.status, found.value) == (er.Status.REVOKED, None)
    vector = rt.vector("ranker", user="bob", item="x")
    assert vector.status[0] == er.Status.REVOKED
    assert math.isnan(vector.values[0])


def test_law_1_each_purpose_is_asked_apart(rt: er.Runtime) -> None:
    assert rt.track("view", user="alice", item="x") is er.ACCEPTED
    assert rt.read("habits:visits", user="alice").status is er.Status.REVOKED
    rt.consent.give("alice", ["measurement"], notice="2026-11")
    assert rt.read("habits:visits", user="alice").value == 0
    rt.track("view", user="alice", item="x")
    assert rt.read("habits:visits", user="alice").value == 1
    rt.consent.withdraw("alice", ["measurement"])
    assert rt.read("habits:visits", user="alice").status is er.Status.REVOKED
    assert views(rt) == 2


# ---- law 6, law 11 --------------------------------------------------------------------------------------


def test_what_was_flushed_is_there_after_reopening(tmp_path: Path, clock: ManualClock) -> None:
    with open_at(tmp_path, clock) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        for n in range(700):  # more than one snapshot
            clock.advance(seconds=1)
            rt.track("view", user="alice", item=f"i{n % 7}", price=0.1, id=f"e{n}")
        before = rt.vector("ranker", user="alice", item="i3").values.tobytes()
    with open_at(tmp_path, clock) as rt:
        assert rt.vector("ranker", user="alice", item="i3").values.tobytes() == before
        assert rt.track("view", user="alice", item="i1", price=0.1, id="e699") is er.DUPLICATE


def test_law_11_states_over_the_limit_are_stored_and_let_go(tmp_path: Path, clock: ManualClock) -> None:
    settings = er.Settings(live_states=3)
    with er.Runtime.open(
        tmp_path / "c.db",
        catalog=shop_catalog(),
        key=er.KeyFile(tmp_path / "k"),
        clock=clock,
        settings=settings,
    ) as rt:
        users = [f"u{n}" for n in range(20)]
        for user in users:
            rt.consent.give(user, ["personalization"], notice="n")
            rt.track("view", user=user, item="x", id=user)
            states = rt.status()["states_in_memory"]
            assert isinstance(states, int)
            assert states <= 4
        assert [views(rt, user) for user in users] == [1] * 20


def test_a_second_process_gets_database_in_use(tmp_path: Path, rt: er.Runtime) -> None:
    code = (
        "import sys, edge_runtime as er\n"
        "from tests.support.shop import shop_catalog\n"
        "try: er.Runtime.open(sys.argv[1], catalog=shop_catalog(), key=er.KeyFile(sys.argv[2]))\n"
        "except er.DatabaseInUse: sys.exit(7)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cache.db"), str(tmp_path / "device.key")], check=False
    )
    assert run.returncode == 7
    rt.track("view", user="alice", item="x")
    assert views(rt) == 1


# ---- time ----------------------------------------------------------------------------------------------


def test_a_read_in_the_past_is_answered_from_the_journal(rt: er.Runtime, clock: ManualClock) -> None:
    for n in range(5):
        clock.advance(seconds=10)
        rt.track("view", user="alice", item="x", id=f"e{n}")
    third = (BASE_US + 30_000_000) / 1e6
    assert rt.read("activity:views", user="alice", at=third).value == 3
    assert rt.read("activity:views", user="alice", at=datetime.fromtimestamp(third, UTC)).value == 3
    rt.flush()
    assert rt.read("activity:views", user="alice", at=third).value == 3
    assert views(rt) == 5


def test_an_event_a_little_ahead_waits_for_its_time(rt: er.Runtime, clock: ManualClock) -> None:
    assert rt.track("view", user="alice", item="x", at=BASE_US / 1e6 + 30, id="a") is er.ACCEPTED
    assert views(rt) == 0
    assert rt.track("view", user="alice", item="x", at=BASE_US / 1e6 + 30, id="a") is er.DUPLICATE
    clock.advance(seconds=31)
    assert views(rt) == 1


def test_a_clock_that_jumps_back_a_year_loses_nothing(rt: er.Runtime, clock: ManualClock) -> None:
    """Each event counts in its time, as in a replay: between the two lies more than the retention."""
    rt.track("view", user="alice", item="x", id="a")
    back_us = BASE_US - 365 * 86_400_000_000
    clock.set_wall(back_us)
    assert rt.track("view", user="alice", item="x", id="b") is er.ACCEPTED
    clock.set_wall(BASE_US)
    assert views(rt) == 1
    assert rt.read("activity:views", user="alice", at=back_us / 1e6).value == 1


# ---- law 12 ---------------------------------------------------------------------------------------------

MALFORMED: list[tuple[str, dict[str, object], str]] = [
    ("nosuch", {"user": "alice"}, "type"),
    ("view", {"user": "alice", "item": "x", "colour": "red"}, "view"),
    ("view", {"user": "alice"}, "item"),
    ("view", {"user": "alice", "item": "x", "price": "2"}, "price"),
    ("view", {"user": "alice", "item": "x", "price": True}, "price"),
    ("view", {"user": "alice", "item": "x", "price": math.nan}, "price"),
    ("view", {"user": "alice", "item": "x", "price": math.inf}, "price"),
    ("view", {"user": "alice", "item": "x", "price": 2.0**501}, "price"),
    ("view", {"user": "alice", "item": "x", "category": 7}, "category"),
    ("view", {"user": "alice", "item": "x", "category": "y" * 5000}, "category"),
    ("view", {"user": "", "item": "x"}, "user"),
    ("view", {"user": "a" * 1_000_000, "item": "x"}, "user"),
    ("view", {"user": "\ud800", "item": "x"}, "user"),
    ("view", {"user": 7, "item": "x"}, "user"),
    ("view", {"user": "alice", "item": "x", "id": ""}, "id"),
    ("view", {"user": "alice", "item": "x", "at": BASE_US / 1e6 + 61}, "at"),
    ("view", {"user": "alice", "item": "x", "at": datetime(2023, 11, 14)}, "at"),
    ("view", {"user": "alice", "item": "x", "at": math.nan}, "at"),
    ("view", {"user": "alice", "item": "x", "at": "yesterday"}, "at"),
]


@pytest.mark.parametrize(("kind", "fields", "place"), MALFORMED)
def test_law_12_a_malformed_event_is_named_and_changes_nothing(
    rt: er.Runtime, kind: str, fields: dict[str, object], place: str
) -> None:
    with pytest.raises(er.MalformedEvent, match="nothing changed") as caught:
        rt.track(kind, **fields)
    assert place in caught.value.place
    assert "alice" not in str(caught.value)
    assert views(rt) == 0
    summary = rt.track_many([{"type": kind, **fields}, {"type": "view", "user": "alice", "item": "x"}])
    assert (summary.refused, summary.accepted) == (1, 1)
    assert summary.reasons[0][0] == 0


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda rt: rt.vector("nosuch", user="alice"), er.MalformedRequest),
        (lambda rt: rt.vector("ranker", nosuch="x"), er.MalformedRequest),
        (lambda rt: rt.vector("ranker", user=""), er.MalformedRequest),
        (lambda rt: rt.matrix("ranker", user="alice"), er.MalformedRequest),
        (lambda rt: rt.matrix("ranker", user=["alice"], item=["x"]), er.MalformedRequest),
        (lambda rt: rt.matrix("ranker", user="alice", item=["x"] * 10_001), er.MalformedRequest),
        (lambda rt: rt.read("activity:nosuch", user="alice"), er.MalformedRequest),
        (lambda rt: rt.read("activity:views"), er.MalformedRequest),
        (lambda rt: rt.read("activity:views", user="alice", at="noon"), er.MalformedRequest),
        (lambda rt: rt.vector("ranker", user="alice", request={"a:b": 1}), er.MalformedRequest),
        (lambda rt: rt.consent.give("alice", ["nosuch"], notice="n"), er.MalformedRequest),
        (lambda rt: rt.consent.give("alice", ["personalization"], notice=""), er.MalformedRequest),
        (lambda rt: rt.consent.state("", "personalization"), er.MalformedRequest),
    ],
)
def test_law_12_a_malformed_request_is_named(rt: er.Runtime, call: object, error: type[Exception]) -> None:
    assert callable(call)
    with pytest.raises(error):
        call(rt)


def naughty_strings() -> list[str]:
    strings: list[str] = json.loads((DATA / "naughty_strings" / "blns.json").read_text())
    return strings


def test_naughty_strings_are_ids_and_properties_like_any_other(tmp_path: Path, clock: ManualClock) -> None:
    strings = [s for s in dict.fromkeys(naughty_strings()) if s and len(s.encode()) <= 512]
    assert len(strings) > 400
    with open_at(tmp_path, clock) as rt:
        for text in strings:
            user = f"user:{text}"
            rt.consent.give(user, ["personalization"], notice="n")
            assert rt.track("view", user=text, item=text, category=text, id=text) is er.ACCEPTED
    with open_at(tmp_path, clock) as rt:
        for text in strings:
            assert rt.read("activity:last_items", user=text).value == [text]
            assert rt.read("activity:last_category", user=text).value == text


def test_a_closed_runtime_says_so(tmp_path: Path, clock: ManualClock) -> None:
    rt = open_at(tmp_path, clock)
    rt.close()
    rt.close()
    for call in (
        lambda: rt.track("view", user="a", item="x"),
        rt.flush,
        lambda: rt.vector("ranker", user="a"),
    ):
        with pytest.raises(er.RuntimeClosed):
            call()


def test_law_8_device_and_replay_give_the_same_bits(rt: er.Runtime, clock: ManualClock) -> None:
    events: list[dict[str, object]] = []
    for n in range(300):
        clock.advance(seconds=37)
        at = clock.now_us() / 1e6 - (n * 13 % 50)
        events.append({"type": "view", "user": "alice", "item": f"i{n % 11}", "price": 0.1 * n, "at": at})
    clock.set_wall(BASE_US)
    for n, event in enumerate(events):
        clock.set_wall(BASE_US + (n + 1) * 37_000_000)
        assert rt.track_many([event]).accepted == 1
    at = clock.now_us() / 1e6
    table = er.replay(
        shop_catalog(), reversed(events), points=[{"user": "alice", "item": "i4", "at": at}], service="ranker"
    )
    live = rt.vector("ranker", user="alice", item="i4", at=at)
    session = [n for n, name in enumerate(live.names) if live.status[n] == 0]
    matrix = table.matrix
    assert matrix is not None
    assert live.values[session].tobytes() == matrix[0][session].tobytes()


def test_law_5_no_file_of_a_cache_can_be_read_by_others(tmp_path: Path, clock: ManualClock) -> None:
    with open_at(tmp_path, clock) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        rt.track("view", user="alice", item="x")
        rt.flush()
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert len(modes) == 4
    assert set(modes.values()) == {0o600}, modes


def test_law_11_a_full_journal_commits_by_itself(tmp_path: Path, clock: ManualClock) -> None:
    settings = er.Settings(pending_events=10, commit_interval_us=10**12)
    with er.Runtime.open(
        tmp_path / "c.db",
        catalog=shop_catalog(),
        key=er.KeyFile(tmp_path / "k"),
        clock=clock,
        settings=settings,
    ) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        for n in range(35):
            rt.track("view", user="alice", item="x", id=f"e{n}")
            assert rt._commit.size < 10
        assert rt._database.writes["journal"] == 3
