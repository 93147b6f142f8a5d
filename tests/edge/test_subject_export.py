"""What a device holds on a subject comes out as it was put in, as long as it may be shown and no longer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edge_runtime as er
from edge_runtime.cache.records import LET_GO
from edge_runtime.cli import main
from edge_runtime.serving.plain import plain
from edge_runtime.sync.personal_rows import row_slot, seal_row
from edge_runtime.wire import codec, seal
from edge_runtime.wire.messages import LaneEntry, Row
from tests.support.clock import ManualClock
from tests.support.consent_room import Room
from tests.support.shop import BASE_US, SHOP, shop_catalog

P = "personalization"
VIEWS = [{"item": "x", "price": 2.5, "category": "toys"}, {"item": "y", "price": 4.0, "category": "books"}]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BASE_US)


@pytest.fixture
def rt(tmp_path: Path, clock: ManualClock) -> Iterator[er.Runtime]:
    key = er.KeyFile(tmp_path / "device.key")
    with er.Runtime.open(tmp_path / "cache.db", catalog=shop_catalog(), key=key, clock=clock) as opened:
        yield opened


def put_in(rt: er.Runtime, clock: ManualClock, subject: str = "alice") -> None:
    """Events under one purpose, and a pushed row."""
    rt.consent.give(subject, [P], notice="2026-11")
    for n, fields in enumerate(VIEWS):
        clock.advance(seconds=1)
        assert rt.track("view", user=subject, id=f"{subject}-{n}", **fields) is er.ACCEPTED
    push(rt, subject, {"country": "DE"})


def push(rt: er.Runtime, subject: str, values: dict[str, Any] | None) -> None:
    key = rt._keyring.key(f"user:{subject}", P)
    assert key is not None
    entity = seal.subject_token(rt._keyring.pseudonym(f"user:{subject}"))
    packed = LET_GO if values is None else codec.pack(values)
    row = Row(1, entity, "profile", 1, BASE_US, BASE_US, key.grant, False, packed)
    slot = row_slot(key, "profile@1", entity)
    with rt._database.write("push") as tx:
        tx.put_personal_row(key.handle, slot, 1, seal_row(key, slot, row, bytes(16)))


def bar(rt: er.Runtime, state: str) -> None:
    """Somebody else decided: it comes through the lane."""
    pseudonym = rt._keyring.pseudonym("user:alice")
    denial = 0 if state == "restricted" else 1_000_000
    rt.consent.apply_lane([LaneEntry(1_000_000, pseudonym, P, state, 0, denial)], 1_000_000)


def test_what_comes_out_is_what_was_put_in(rt: er.Runtime, clock: ManualClock) -> None:
    """Events with ids, times and properties; rows; present values; the decision. It is JSON."""
    put_in(rt, clock)
    put_in(rt, clock, "bob")
    found = json.loads(json.dumps(rt.export("alice")))
    held = found["purposes"][P]
    assert found["subject"] == "user:alice"
    assert (held["state"], held["notice"], held["portable"]) == ("given", "2026-11", True)
    came_out = [{"item": e["entities"]["item"], **e["properties"]} for e in held["events"]]
    assert came_out == VIEWS
    assert [(e["id"], e["at"]) for e in held["events"]] == [
        ("alice-0", BASE_US + 1_000_000),
        ("alice-1", BASE_US + 2_000_000),
    ]
    assert [(row["view"], row["values"]) for row in held["rows"]] == [("profile@1", {"country": "DE"})]
    assert held["features"]["activity@1:views"]["value"] == 2
    assert held["features"]["activity@1:by_item"]["value"] == {"x": 1, "y": 1}
    assert held["features"]["profile@1:country"] == {
        "value": "DE",
        "status": "PRESENT",
        "event_time": BASE_US,
    }
    assert "bob" not in json.dumps(found)


def test_what_came_out_of_one_device_replays_to_the_same_features(rt: er.Runtime, clock: ManualClock) -> None:
    """Import: the events, tracked elsewhere, give the features that stood in the export."""
    put_in(rt, clock)
    held = rt.export("alice")["purposes"][P]
    events = [
        {"type": e["type"], "at": e["at"] / 1e6, "id": e["id"], **e["entities"], **e["properties"]}
        for e in held["events"]
    ]
    refs = [ref for ref in held["features"] if ref.startswith("activity@1")]
    points = [{"user": "alice", "at": clock.now_us() / 1e6}]
    table = er.replay(shop_catalog(), events, points=points, refs=refs)
    for ref in refs:
        assert plain(table.column(ref)[0]) == held["features"][ref]["value"], ref


def test_while_it_is_restricted_the_subject_may_look_and_nobody_may_use(
    rt: er.Runtime, clock: ManualClock
) -> None:
    """Art. 18(2) forbids use, not access: events and rows are shown, features are not worked out."""
    put_in(rt, clock)
    bar(rt, "restricted")
    assert rt.read("activity:views", user="alice").status is er.Status.REVOKED
    held = rt.export("alice")["purposes"][P]
    assert (held["state"], held["shown"], held["features"]) == ("restricted", True, {})
    assert (len(held["events"]), len(held["rows"])) == (2, 1)


@pytest.mark.parametrize("state", ["withdrawn", "revoked", "expired", "objected"])
def test_law_4_after_an_erasure_there_is_nothing_to_show(
    rt: er.Runtime, clock: ManualClock, state: str
) -> None:
    """The state alone stays, and why nothing is shown."""
    put_in(rt, clock)
    if state == "withdrawn":
        rt.consent.withdraw("alice", [P])
    else:
        bar(rt, state)
    held = rt.export("alice")["purposes"][P]
    assert (held["state"], held["shown"], held["reason"]) == (state, False, state)
    assert (held["events"], held["rows"], held["features"]) == ([], [], {})


def test_law_3_a_restricted_purpose_is_shown_no_longer_than_its_lease(tmp_path: Path) -> None:
    """A device without contact locks for everybody."""
    with Room(tmp_path) as room:
        room.enrol().answered()
        room.consents.give("alice", [P], notice="n")
        entry = LaneEntry(9, room.keyring.pseudonym("user:alice"), P, "restricted", 1, 0)
        room.consents.apply_lane([entry], 9)
        assert room.consents.access("user:alice", P) == (True, "restricted")
        assert not room.allowed()
        room.clock.advance(seconds=86_401)
        assert not room.consents.access("user:alice", P).allowed


def test_a_row_whose_values_were_let_go_says_so(rt: er.Runtime, clock: ManualClock) -> None:
    """Its times are still known."""
    put_in(rt, clock)
    push(rt, "alice", None)
    (row,) = rt.export("alice")["purposes"][P]["rows"]
    assert (row["values"], row["event_time"]) == (None, BASE_US)


def test_a_stranger_has_an_export_of_the_same_shape(rt: er.Runtime) -> None:
    """Unknown everywhere."""
    found = rt.export("nobody")
    assert {held["state"] for held in found["purposes"].values()} == {"unknown"}
    with pytest.raises(er.MalformedRequest):
        rt.export("")


def test_the_command_writes_a_file_for_its_owner_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And never over another one."""
    (tmp_path / "catalog.toml").write_text(SHOP)
    key, out = tmp_path / "device.key", tmp_path / "alice.json"
    with er.Runtime.open(tmp_path / "cache.db", catalog=shop_catalog(), key=er.KeyFile(key)) as rt:
        rt.consent.give("alice", [P], notice="n")
        rt.track("view", user="alice", item="x", price=1.0, category="toys")
    words = ["export", str(tmp_path / "cache.db"), "alice", "--catalog", str(tmp_path / "catalog.toml")]
    words += ["--key-file", str(key), "--out", str(out), "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["purposes"] == [P]
    assert out.stat().st_mode & 0o777 == 0o600
    assert len(json.loads(out.read_text())["purposes"][P]["events"]) == 1
    assert main(words) == 2
