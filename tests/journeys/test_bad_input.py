"""Every kind of bad input has the answer that the page for feature writers states, and changes nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cli import main
from tests.support.clock import ManualClock
from tests.support.shop import BASE_US, SHOP, shop_catalog

P, HOUR_US, YEAR_US = "personalization", 3_600_000_000, 365 * 86_400_000_000
VIEWS_5M = 'views_5m = { op = "count", event = "view", window = "5m" }'
NAUGHTY: list[str] = json.loads(
    (Path(__file__).resolve().parents[1] / "data" / "naughty_strings" / "blns.json").read_text()
)
ODD_IDS = ("a\x00b", "\x00", "\U0001f6d2", "a|item:b", "user:alice", "\u202ebidi", " ", "é" * 253)
REFS = ("activity:views", "activity:views_5m", "activity:spend_7d", "activity:last_items", "activity:depth")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BASE_US)


@pytest.fixture
def rt(tmp_path: Path, clock: ManualClock) -> Iterator[er.Runtime]:
    """A runtime in which alice has three events behind her, all on disk."""
    with open_at(tmp_path, clock) as rt:
        rt.consent.give("alice", [P], notice="n")
        for n in range(3):
            clock.advance(seconds=1)
            rt.track("view", user="alice", item=f"i{n}", price=1.5, id=f"e{n}")
        rt.flush()
        yield rt


def open_at(folder: Path, clock: ManualClock) -> er.Runtime:
    return er.Runtime.open(folder / "c.db", catalog=shop_catalog(), key=er.KeyFile(folder / "k"), clock=clock)


def everything(rt: er.Runtime) -> list[object]:
    """What alice's features are now, and how many rows rest in the journal."""
    rt.flush()
    with rt._database.read() as tx:
        rows = tx.newest_row()
    return [rows, *(rt.read(ref, user="alice") for ref in REFS)]


# ---- catalogs -------------------------------------------------------------------------------------------

CATALOGS = {
    "a window that no tile fits": (
        (VIEWS_5M, VIEWS_5M.replace('5m" }', '999ms" }')),
        "views.activity.features.views_5m.window: expected at least 1s, the shortest tile, got 999ms",
    ),
    "a window longer than the retention": (
        (VIEWS_5M, VIEWS_5M.replace('5m" }', '31d" }')),
        "views.activity.features.views_5m.window: expected at most the purpose's retention of 30d, got 31d",
    ),
    "an unknown operator": (
        (VIEWS_5M, VIEWS_5M.replace('"count"', '"cuont"')),
        "views.activity.features.views_5m.op: expected one of count sum mean",
    ),
    "a circle of derived features": (
        (VIEWS_5M, 'views_5m = { op = "log1p", of = "b" }\nb = { op = "ratio", of = ["views", "views_5m"] }'),
        "views.activity.features.views_5m.of: expected no circle, got views_5m -> b -> views_5m",
    ),
    "a service that names a missing version": (
        ('"activity:views_5m", "activity:pace"', '"activity@9:views_5m"'),
        "services.ranker.features[0]: no view activity@9: expected one of activity@1",
    ),
    "a range that is NaN": (
        ("range = [0, 1]", "range = [0, nan]"),
        "views.item_stats.features.popularity.range",
    ),
}


@pytest.mark.parametrize("kind", CATALOGS)
def test_law_12_a_catalog_with_a_fault_is_refused_whole(
    kind: str, rt: er.Runtime, tmp_path: Path, clock: ManualClock, capsys: Capture
) -> None:
    """The place, what was expected, what came; the device keeps the catalog and the numbers that it had."""
    (old, new), said = CATALOGS[kind]
    text = SHOP.replace(old, new)
    assert text != SHOP
    with pytest.raises(er.CatalogError) as caught:
        er.Catalog.from_toml(text)
    assert said in str(caught.value)
    before = everything(rt)
    rt.close()
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(SHOP)
    bad.write_text(text)
    cache = [str(tmp_path / "c.db"), "--catalog", str(bad), "--key-file", str(tmp_path / "k")]
    for command in (
        ["explain", str(bad)],
        ["plan", str(good), str(bad)],
        ["read", *cache, "activity:views", "user=alice"],
        ["doctor", *cache],
    ):
        assert main(command) == 2, command
        assert said in capsys.readouterr().out
    with open_at(tmp_path, clock) as again:
        assert everything(again) == before


# ---- calls ----------------------------------------------------------------------------------------------

CALLS: dict[str, tuple[Callable[[er.Runtime], object], str]] = {
    "a service's missing version": (
        lambda rt: rt.vector("ranker@9", user="alice"),
        "service: expected one of ranker@1",
    ),
    "the same of a matrix": (
        lambda rt: rt.matrix("ranker@9", user="alice", item=["a"]),
        "service: expected one of ranker@1",
    ),
    "a view's missing version": (
        lambda rt: rt.read("activity@9:views", user="alice"),
        "ref: expected one of activity@1",
    ),
    "NaN": (
        lambda rt: rt.track("view", user="alice", item="x", price=math.nan),
        "view.price: expected a finite number, got NaN; nothing changed",
    ),
    "infinity": (
        lambda rt: rt.track("view", user="alice", item="x", price=-math.inf),
        "view.price: expected a number of at most 2^500 in magnitude",
    ),
    "a time that is NaN": (
        lambda rt: rt.track("view", user="alice", item="x", at=math.nan),
        "view.at: expected finite Unix seconds",
    ),
    "a read at NaN": (
        lambda rt: rt.vector("ranker", user="alice", at=math.nan),
        "at: expected finite Unix seconds",
    ),
    "an empty id": (
        lambda rt: rt.track("view", user="", item="x"),
        "view.user: expected an id that is not empty",
    ),
    "an id too long": (
        lambda rt: rt.track("view", user="alice", item="é" * 257),
        "view.item: expected at most 512 bytes, got 514 bytes",
    ),
    "a lone surrogate": (
        lambda rt: rt.track("view", user="alice", item="\ud800"),
        "view.item: expected text that UTF-8 can encode, got a lone surrogate",
    ),
    "a lone surrogate in a read": (
        lambda rt: rt.read("activity:views", user="\ud800"),
        "user: expected an id that is valid Unicode, got a lone surrogate",
    ),
    "a lone surrogate in a vector": (
        lambda rt: rt.vector("ranker", user="alice", item="\ud800"),
        "item: expected an id that is valid Unicode, got a lone surrogate",
    ),
    "a lone surrogate among candidates": (
        lambda rt: rt.matrix("ranker", user="alice", item=["a", "\ud800"]),
        "item: expected an id that is valid Unicode, got a lone surrogate",
    ),
    "an id that is no text": (
        lambda rt: rt.read("activity:views", user=5),  # type: ignore[arg-type]
        "user: expected an id: text that is not empty, got int",
    ),
}


@pytest.mark.parametrize("kind", CALLS)
def test_law_12_a_call_with_a_fault_says_so_and_changes_nothing(kind: str, rt: er.Runtime) -> None:
    """The call raises; every number, and the journal, are as they were."""
    call, said = CALLS[kind]
    before = everything(rt)
    for _ in range(3):  # also where a row is held between reads
        with pytest.raises((er.MalformedEvent, er.MalformedRequest)) as caught:
            call(rt)
        assert said in str(caught.value)
        assert "nothing changed" in str(caught.value)
    assert everything(rt) == before


def test_law_12_of_many_events_the_bad_ones_are_named_and_the_others_count(rt: er.Runtime) -> None:
    """Whatever stands in the place of an event."""
    good = {"type": "view", "user": "alice", "item": "x"}
    by_hand = er.Event("view", {"user": "alice", "item": "x"}, {"price": math.nan}, BASE_US)
    hollow = er.Event("view", None, {}, BASE_US)  # type: ignore[arg-type]
    bad: list[object] = [
        {**good, "price": math.nan},
        by_hand,
        hollow,
        None,
        7,
        ["view"],
        {},
        {"type": "nosuch"},
    ]
    summary = rt.track_many([good, *bad, {**good, "item": "y"}])  # type: ignore[list-item]
    assert (summary.accepted, summary.refused) == (2, len(bad))
    assert [position for position, _ in summary.reasons] == list(range(1, len(bad) + 1))
    assert [reason.split(":")[0] for _, reason in summary.reasons] == [
        *("view.price", "view.price", "view.entities", "event", "event", "event", "type", "type")
    ]
    assert rt.read("activity:views", user="alice").value == 5


def test_law_12_nan_in_a_file_stops_a_replay_at_its_line(tmp_path: Path, capsys: Capture) -> None:
    """By the command with exit code 2, by the call with the event's number."""
    catalog, events, points = tmp_path / "c.toml", tmp_path / "e.csv", tmp_path / "p.csv"
    catalog.write_text(SHOP)
    events.write_text("type,user,item,price,at\nview,a,x,1.0,1700000000\nview,a,x,nan,1700000001\n")
    points.write_text("user,at\na,1700000002\n")
    call = ["replay", str(catalog), str(events), "--points", str(points), "--refs", "activity:views"]
    assert main(call) == 2
    assert f"{events}:3 view.price: expected a finite number, got NaN" in capsys.readouterr().out
    flat = [{"type": "view", "user": "a", "item": "x", "price": math.nan, "at": 1_700_000_000}]
    with pytest.raises(
        er.MalformedEvent, match=r"events\[0\]\.view\.price: expected a finite number, got NaN"
    ):
        er.replay(shop_catalog(), flat, points=[{"user": "a", "at": 1_700_000_001}], refs=["activity:views"])


# ---- time -----------------------------------------------------------------------------------------------


def test_law_12_events_hours_out_of_order_are_late_and_change_nothing(
    rt: er.Runtime, clock: ManualClock, tmp_path: Path
) -> None:
    """LATE beyond the lateness, by one or by many; what is in time counts in its place, also in a replay."""
    before, now_us = everything(rt), clock.now_us()
    late_us = (60_000_001, HOUR_US, 5 * HOUR_US, 40 * 24 * HOUR_US)
    for behind_us in late_us:
        at = (now_us - behind_us) / 1e6
        assert rt.track("view", user="alice", item="late", at=at) is er.LATE
    flat = [
        {"type": "view", "user": "alice", "item": "x", "at": (now_us - n * HOUR_US) / 1e6} for n in (5, 3)
    ]
    assert rt.track_many(flat).late == 2
    assert everything(rt) == before
    assert rt.track("view", user="alice", item="late", at=(now_us - 60_000_000) / 1e6) is er.ACCEPTED
    assert rt.read("activity:last_items", user="alice").value == ["late", "i0", "i1", "i2"]


def test_a_history_that_comes_in_order_is_not_late_however_old(rt: er.Runtime, clock: ManualClock) -> None:
    """Late is judged against the newest event of the subject, so a first import of months is taken."""
    rt.consent.give("bob", [P], notice="n")
    ats = [clock.now_us() / 1e6 - days * 86_400 for days in (20, 10, 1)]
    summary = rt.track_many([{"type": "view", "user": "bob", "item": "x", "at": at} for at in ats])
    assert summary.accepted == 3
    assert rt.read("activity:views", user="bob").value == 3


def test_a_clock_back_a_year_takes_honest_events_in_their_time(
    rt: er.Runtime, clock: ManualClock, tmp_path: Path
) -> None:
    """ACCEPTED, and counted where they lie; when the clock is right again the numbers are as they were."""
    before, now_us = everything(rt), clock.now_us()
    clock.set_wall(now_us - YEAR_US)
    assert rt.read("activity:views", user="alice").value == 0
    assert rt.track("view", user="alice", item="x", id="then") is er.ACCEPTED
    assert rt.read("activity:views", user="alice").value == 1
    assert rt.track("view", user="alice", item="x", id="then") is er.DUPLICATE
    assert rt.consent.state("alice", P) == "given"
    clock.set_wall(now_us)
    assert everything(rt)[1:] == before[1:]
    rt.close()
    with open_at(tmp_path, clock) as again:
        assert everything(again)[1:] == before[1:]
        assert again.track("view", user="alice", item="i3", price=1.5) is er.ACCEPTED
        assert again.read("activity:views", user="alice").value == 4


def test_a_clock_ahead_a_year_ends_what_retention_ends(
    rt: er.Runtime, clock: ManualClock, tmp_path: Path
) -> None:
    """What was looked at meanwhile is gone for good; honest events afterwards are taken as they come."""
    now_us = clock.now_us()
    with pytest.raises(er.MalformedEvent, match="at most 60 s ahead"):
        rt.track("view", user="alice", item="x", at=(now_us + YEAR_US) / 1e6)
    clock.set_wall(now_us + YEAR_US)
    assert rt.track("view", user="alice", item="x", id="ahead") is er.ACCEPTED
    assert rt.read("activity:views", user="alice").value == 1
    clock.set_wall(now_us + 1_000_000)
    assert rt.track("view", user="alice", item="x", id="after") is er.ACCEPTED
    rt.close()
    with open_at(tmp_path, clock) as again:
        assert again.track("view", user="alice", item="x", id="after") is er.DUPLICATE
        clock.set_wall(now_us + YEAR_US + 1_000_000)
        assert again.read("activity:views", user="alice").value == 1


# ---- ids ------------------------------------------------------------------------------------------------


def test_odd_ids_are_ids_and_keep_apart(rt: er.Runtime, tmp_path: Path, clock: ManualClock) -> None:
    """NUL, emoji, our own signs and the naughty strings: tracked, read as a vector, replayed, reopened."""
    ids = [
        *ODD_IDS,
        *(s for s in dict.fromkeys(NAUGHTY) if s and len(s.encode()) <= 507 and s not in ODD_IDS),
    ]
    assert len(ids) > 400
    events: list[dict[str, object]] = []
    for n, odd in enumerate(ids):
        rt.consent.give(f"user:{odd}", [P], notice="n")
        for _ in range(1 + n % 3):
            clock.advance(us=1)
            event = {"type": "view", "user": odd, "item": odd, "category": odd, "at": clock.now_us() / 1e6}
            events.append({**event, "id": f"{odd[:100]}{len(events)}"})
    assert rt.track_many(events).accepted == len(events)
    rt.close()
    points = [{"user": odd, "item": odd, "at": clock.now_us() / 1e6} for odd in ids]
    table = er.replay(shop_catalog(), events, points=points, refs=["activity:views", "activity:by_item"])
    with open_at(tmp_path, clock) as again:
        for n, odd in enumerate(ids):
            assert (
                again.read("activity:views", user=odd).value == 1 + n % 3 == table.column("activity:views")[n]
            )
            assert again.read("activity:by_item", user=odd).value == {odd: 1 + n % 3}
            assert table.column("activity:by_item")[n] == {odd: 1 + n % 3}
            assert again.read("activity:last_category", user=odd).value == odd
            row = again.vector("ranker", user=odd, item=odd)
            assert row.values[row.names.index("seen_this")] == 1 + n % 3
            assert again.matrix("ranker", user=odd, item=[odd]).values.tobytes() == row.values.tobytes()
