"""Law 7 on absent rows: of a subject, under other catalogs, under the signature, and what is remembered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import edge_runtime as er
from edge_runtime.cache.records import ChannelState
from edge_runtime.sync.gate import Match, Plain
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from tests.support.absent import (
    ELSEWHERE,
    FEATURE,
    NOT_FOUND,
    ON_ITS_WAY,
    demanding,
    profile,
    publish,
    reason,
    register,
    regroup,
    told_whole,
    until_heard,
)
from tests.support.town import ALICE, P, Session, Town
from tests.support.warm import Device, live, warm_catalog, warm_town, with_alice


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = warm_town(tmp_path / "town", frame_rows=2)
    yield made
    made.close()


@pytest.fixture
def device(town: Town, tmp_path: Path) -> Iterator[Device]:
    made = Device(town, tmp_path / "device")
    yield made
    made.close()


# ---- a subject's channel ------------------------------------------------------------------------------


def test_law_7_a_subjects_row_is_not_found_only_where_its_channel_is_whole(
    town: Town, device: Device
) -> None:
    """Not before the first checkpoint, not in a snapshot, not while rows are on their way in."""
    session = with_alice(device)
    assert profile(device) == NOT_FOUND
    town.put_profile(ALICE, "FR")
    session.settle()
    assert device.status("profile:country", user="alice") is er.Status.EXPIRED, "it came, from long ago"
    channel = device.replica.fetched.channel(ALICE, P)
    session.answer([codec.encode(m.Follow(channel=channel, cursor=0))])
    with town.store.write("drop") as tx:
        tx.put_row(
            channel,
            msgspec.structs.replace(town.profile_row(ALICE, 1), created_us=9, deleted=True, values=b""),
            town.pseudonym(ALICE),
            P,
        )
    until_heard(session, m.Delta, lambda: None)
    assert profile(device) == ON_ITS_WAY
    session.settle()
    assert profile(device) == NOT_FOUND
    with town.store.write("tiers") as tx:
        tx.rows_come_in(coming=True)
    town.node.heads.poll()
    session.settle()
    assert profile(device) == ELSEWHERE
    assert reason(device, "none") == ELSEWHERE
    with town.store.write("tiers") as tx:
        tx.rows_come_in(coming=False)
    town.node.heads.poll()
    session.settle()
    assert profile(device) == reason(device, "none") == NOT_FOUND
    device.rt.consent.withdraw("alice", [P])
    assert profile(device).startswith("REVOKED")
    session.close()


# ---- another catalog ----------------------------------------------------------------------------------


def test_law_7_under_another_catalog_nothing_is_not_found_before_its_first_session(
    town: Town, device: Device, tmp_path: Path
) -> None:
    """What the old one had pushed says nothing about the views of the new one."""
    publish(town, 1)
    live(device).close()
    assert reason(device, "none") == NOT_FOUND
    device.close()
    catalog = warm_catalog(2)
    rt = er.Runtime.open(
        tmp_path / "device" / "cache.db",
        catalog=catalog,
        key=er.KeyFile(tmp_path / "device" / "device.key"),
        clock=town.clock,
        settings=er.Settings(sweep_interval_us=0),
    )
    try:
        assert rt.read(FEATURE, item="none").reason == ON_ITS_WAY
        assert rt.read(FEATURE, item="1").status is er.Status.PRESENT
    finally:
        rt.close()
    again = Device(town, tmp_path / "device", catalog=catalog)
    assert reason(again, "none") == ON_ITS_WAY
    session = live(again)
    assert reason(again, "none") == ELSEWHERE, "a catalog that the server does not know may push anything"
    session.close()
    register(town, catalog)
    town.node.pushed._known.clear()
    session = live(again)
    assert reason(again, "none") == NOT_FOUND
    session.close()
    again.close()


def test_law_7_what_is_on_demand_by_now_is_not_called_not_found_under_a_catalog_that_pushes_it(
    town: Town, device: Device, tmp_path: Path
) -> None:
    """An older app looks for pushes; its rows left as deletes. A newer one beside it goes on as before."""
    other = Device(town, tmp_path / "other", catalog=demanding(2))
    publish(town, 1)
    register(town, warm_catalog())
    session = live(device)
    assert reason(device, "none") == NOT_FOUND
    town.catalog = demanding(2)
    with town.store.write("tiers") as tx:
        tx.look_again()
    session.settle()
    assert reason(device, "none") == reason(device, 2) == ELSEWHERE
    with town.store.write("tiers") as tx:
        row = tx.row_state("item:1", "item_stats", 1)
        assert row is not None
        tx.move_row(row, (), 2)
    session.settle()
    assert reason(device, 1) == ELSEWHERE
    newer = live(other)
    assert told_whole(other), "its catalog pushes no more than the server's"
    for row_number in (3, 4):
        publish(town, row_number)
        session.settle()
        newer.settle()
        assert (told_whole(device), told_whole(other)) == (False, True)
    newer.close()
    session.close()
    other.close()


# ---- the word itself ----------------------------------------------------------------------------------


def test_law_7_whether_a_channel_is_whole_is_signed(town: Town, device: Device) -> None:
    """Turned on the way, it is refused: nobody between the two makes an absence certain."""
    publish(town, 1)
    publish(town, 2)
    regroup(town, 2, joined="gold")
    session = Session(device)  # type: ignore[arg-type]
    until_heard(session, m.Delta, lambda: None)
    said = None
    while not isinstance(said, m.Checkpoint):
        frame = session.next()
        assert frame is not None
        said = codec.decode(frame)
    assert not said.whole
    with pytest.raises(WireFailure, match="bad_signature"):
        session.device.hear(codec.encode(msgspec.structs.replace(said, whole=True)), 0)
    assert reason(device, 2) == ON_ITS_WAY
    session.close()


# ---- what is remembered -------------------------------------------------------------------------------


def test_law_7_a_checkpoint_of_another_seq_says_nothing_and_a_stale_comparison_changes_nothing(
    town: Town, device: Device
) -> None:
    """An older checkpoint that comes late takes nothing back; what moved meanwhile is not judged."""
    publish(town, 1)
    session = live(device)
    late = session.heard[-1]
    assert isinstance(late, m.Checkpoint)
    publish(town, 2)
    session.settle()
    assert device.replica.compare(late) is Match.ELSEWHERE
    assert told_whole(device)
    device.replica._judge(Plain("all"), ChannelState(1, 0, whole=True), None)
    assert told_whole(device)
    session.close()


def test_law_7_a_restored_server_takes_it_back_from_empty_channels_too(town: Town, device: Device) -> None:
    """An empty channel stands at nothing before and after: what was said of it is forgotten all the same."""
    session = with_alice(device)
    session.close()
    assert profile(device) == reason(device, "none") == NOT_FOUND
    device.replica.continuity.begin(b"another incarnat", [], restored=True)
    assert profile(device) == reason(device, "none") == ON_ITS_WAY


def test_law_4_of_a_subject_who_is_forgotten_no_gap_is_remembered(town: Town, device: Device) -> None:
    """Which rows were looked for and not there is said of somebody, too."""
    session = with_alice(device)
    assert profile(device) == NOT_FOUND
    assert any("alice" in entity for _, entity in device.rt._source._gaps)
    device.rt.consent.withdraw("alice", [P])
    assert not any("alice" in entity for _, entity in device.rt._source._gaps)
    session.close()


def test_law_11_no_more_gaps_are_remembered_than_rows(town: Town, device: Device) -> None:
    source = device.rt._source
    source._rows_limit = 8
    session = live(device)
    for n in range(40):
        assert reason(device, f"none{n}") == NOT_FOUND
        assert len(source._gaps) <= 8
    source.changed([("item_stats@1", "item:none39")])
    assert ("item_stats@1", "item:none39") not in source._gaps
    session.close()
