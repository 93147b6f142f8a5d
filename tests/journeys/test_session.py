"""A device session from both ends: real store, real caches, frames handed over one at a time."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from edge_runtime.errors import SyncRefused
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from sync_server.store.sqlite import SqliteStore
from tests.support.clock import ManualClock
from tests.support.town import ALICE, BOB, Kiosk, P, Session, Town

HOUR_S = 3_600


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town", settings=lambda s: replace(s, frame_rows=8))
    yield made
    made.close()


def synced(kiosk: Kiosk) -> Session:
    session = Session(kiosk)
    session.settle()
    return session


def with_alice(town: Town, kiosk: Kiosk) -> Session:
    """A session in which alice gave here and her profile row arrived."""
    kiosk.give(ALICE)
    session = synced(kiosk)
    town.put_profile(ALICE)
    session.settle()
    assert kiosk.sealed_rows(ALICE) == 2
    return session


# ---- the plain way -----------------------------------------------------------------------------------------


def test_a_new_device_gets_everything_and_says_so(town: Town, kiosk: Kiosk) -> None:
    """First sync, catch-up and live are one path: afterwards cursor and digest equal the server's."""
    town.put(300)
    session = synced(kiosk)
    assert kiosk.stand() == town.head()
    assert len(kiosk.rows()) == 300
    assert session.device.caught_up
    town.put(3, start=299)
    session.settle()
    assert kiosk.stand() == town.head()
    assert len(kiosk.rows()) == 302
    assert session.device.caught_up
    session.close()


def test_a_consent_taken_here_opens_its_channel_and_a_withdrawal_ends_it(town: Town, kiosk: Kiosk) -> None:
    """Give, record, follow from 0, receive sealed rows; a withdrawal at the server: all gone, a receipt."""
    session = with_alice(town, kiosk)
    assert session.device.caught_up
    town.decide(ALICE, "withdrawn")
    session.settle()
    assert kiosk.consents.state(ALICE, P) == "withdrawn"
    assert kiosk.keyring.key(ALICE, P) is None
    assert [type(said) for said in session.said].count(m.ReceiptNote) == 1
    assert len(session.heard_of(m.ReceiptAck)) == 1
    assert session.device.caught_up
    with town.store.read() as tx:
        device = tx.device(kiosk.device_id)
        assert device is not None
        assert device.lane_acked == tx.lane_head()
    session.close()


def test_deletes_and_changed_rows_reach_the_device(town: Town, kiosk: Kiosk) -> None:
    """A delete is a row; the digest agrees after it."""
    town.put(20)
    session = synced(kiosk)
    with town.store.write("publish") as tx:
        tx.put_row("all", msgspec.structs.replace(town.item_row(3), deleted=True, values=b""))
        tx.put_row("all", town.item_row(4, values={"popularity": 0.5}))
    session.settle()
    assert "item:3" not in kiosk.rows()
    assert len(kiosk.rows()) == 19
    assert kiosk.stand() == town.head()
    assert session.device.caught_up
    session.close()


# ---- law 2: a withdrawal wins ------------------------------------------------------------------------------


def test_law_2_a_revocation_overtakes_100_queued_delta_frames_in_mid_snapshot(
    town: Town, kiosk: Kiosk
) -> None:
    """More than a hundred frames wait when the withdrawal commits: the very next frame is the decision."""
    session = with_alice(town, kiosk)
    town.put(1_000)  # 125 frames of 8 rows
    for _ in range(20):
        assert session.step()
    assert isinstance(session.heard[-1], m.Delta)
    town.decide(ALICE, "withdrawn")
    assert session.step()
    assert isinstance(session.heard[-1], m.Lane)
    assert kiosk.keyring.key(ALICE, P) is None
    assert isinstance(session.said[-1], m.Decisions | m.ReceiptNote | m.Unfollow | m.LaneAck)
    assert any(said == m.LaneAck(upto=town.lane_head()) for said in session.said)
    before = len(session.heard_of(m.Delta))
    session.settle()
    assert len(session.heard_of(m.Delta)) - before >= 100
    assert kiosk.stand() == town.head()
    session.close()


def test_law_2_a_delta_queued_before_a_withdrawal_never_revives(town: Town, kiosk: Kiosk) -> None:
    """A personal frame from before the withdrawal changes nothing after it, nor after a new give."""
    session = with_alice(town, kiosk)
    town.put_profile(ALICE, "FR")
    queued = session.next()
    assert queued is not None
    assert isinstance(codec.decode(queued), m.Delta)
    town.decide(ALICE, "withdrawn")
    assert session.step()  # the lane
    session.hand_over(queued)
    assert kiosk.sealed_rows(ALICE) == 0
    session.settle()
    kiosk.give(ALICE)
    session.settle()
    old = codec.decode(queued)
    assert isinstance(old, m.Delta)
    late = msgspec.structs.replace(old, base=0, replacing=True)
    applied = kiosk.replica.apply(late)
    assert applied.kept == 0
    assert dict(applied.stubs) == {"another grant": 1}
    session.close()


def test_law_2_a_give_made_offline_before_a_withdrawal_is_superseded(town: Town, tmp_path: Path) -> None:
    """Another kiosk's give, taken before it saw the withdrawal, comes too late: what it collected goes."""
    first, second = Kiosk(town, tmp_path / "a"), Kiosk(town, tmp_path / "b")
    session = with_alice(town, first)
    synced(second).close()
    second.give(ALICE)  # offline
    town.decide(ALICE, "withdrawn")
    session.settle()
    late = synced(second)
    assert second.consents.state(ALICE, P) != "given"
    assert second.keyring.key(ALICE, P) is None
    with town.store.read() as tx:
        assert tx.decision_state(town.pseudonym(ALICE), P).state == "withdrawn"
    late.close()
    session.close()
    first.close()
    second.close()


def test_law_2_an_unheard_withdrawal_still_goes_first(town: Town, kiosk: Kiosk) -> None:
    """Written by another node, without a hint: the next personal frame's epoch makes the session drain."""
    session = with_alice(town, kiosk)
    other = another_node(town)
    pseudonym = town.pseudonym(BOB)
    with other.write("elsewhere") as tx:
        town.office.revoke(tx, pseudonym, [P], "subject", "2026-11")
    town.put_profile(ALICE, "UK")  # its frame is read at the new epoch
    assert session.step()
    lane = session.heard[-1]
    assert isinstance(lane, m.Lane)
    assert lane.upto == town.lane_head()
    session.settle()
    assert session.device.caught_up
    other.close()
    session.close()


# ---- law 3: offline is bounded -----------------------------------------------------------------------------


def test_law_3_a_lease_refused_for_an_unheard_withdrawal_brings_it(town: Town, kiosk: Kiosk) -> None:
    """Written by another node, without a hint: the decisions go before the refusal."""
    session = with_alice(town, kiosk)
    upto, other = town.lane_head(), another_node(town)
    with other.write("elsewhere") as tx:
        town.office.revoke(tx, town.pseudonym(BOB), [P], "subject", "2026-11")
    assert session.next() is None
    session.server.hear(codec.encode(m.LeaseRequest(id=bytes(16), upto=upto, cold_start="server")))
    lane, refusal = (codec.decode(session.next() or b"") for _ in range(2))
    assert isinstance(lane, m.Lane)
    assert lane.upto == town.lane_head() > upto
    assert isinstance(refusal, m.Refusal)
    assert (refusal.code, refusal.about) == ("lane_behind", bytes(16).hex())
    other.close()
    session.close()


def test_law_3_yesterdays_welcome_and_lease_are_refused(town: Town, kiosk: Kiosk) -> None:
    """Both answered another nonce: replayed in a new session they open nothing."""
    session = synced(kiosk)
    welcome, lease = session.heard_of(m.Welcome)[0], session.heard_of(m.Lease)[0]
    session.close()
    kiosk.clock.reboot()
    again = Session(kiosk)
    assert again.step()
    with pytest.raises(WireFailure, match="bad_nonce"):
        again.hand_over(codec.encode(welcome))
    assert kiosk.leases.state == "locked"
    again.close()
    third = Session(kiosk)
    third.open()
    with pytest.raises(WireFailure, match="bad_nonce"):
        third.hand_over(codec.encode(lease))
    assert kiosk.leases.state == "locked"
    third.close()


def test_law_3_a_lease_is_renewed_at_half_its_life_and_its_end_locks(town: Town, kiosk: Kiosk) -> None:
    """At half life one request goes out; without any contact the features lock at the end."""
    session = with_alice(town, kiosk)
    requests = [said for said in session.said if isinstance(said, m.LeaseRequest)]
    assert len(requests) == 1
    kiosk.clock.advance(seconds=12 * HOUR_S + 1)
    session.settle()
    assert len([said for said in session.said if isinstance(said, m.LeaseRequest)]) == 2
    session.close()
    kiosk.clock.advance(seconds=23 * HOUR_S)
    assert kiosk.consents.permission(ALICE, P).allowed
    kiosk.clock.advance(seconds=HOUR_S)
    assert not kiosk.consents.permission(ALICE, P).allowed
    again = synced(kiosk)
    assert kiosk.consents.permission(ALICE, P).allowed
    again.close()


def test_law_3_no_lease_for_a_device_that_has_not_enforced_the_lane(town: Town, kiosk: Kiosk) -> None:
    """The lane moved while the request was under way: refused, drained, asked again."""
    session = Session(kiosk)
    session.open()
    session.settle()
    kiosk.clock.advance(seconds=12 * HOUR_S + 1)
    town.decide(BOB, "withdrawn")
    session.tick()  # asks before it heard of the withdrawal
    session.settle()
    refused = session.heard_of(m.Refusal)
    assert [r.code for r in refused if isinstance(r, m.Refusal)] == ["lane_behind"]
    kiosk.clock.advance(seconds=2)
    session.settle()
    assert len(session.heard_of(m.Lease)) == 2
    session.close()


def test_law_3_a_device_restored_from_an_older_image_opens_nothing_that_was_erased(
    town: Town, tmp_path: Path
) -> None:
    """The server has seen a higher root counter: all consent goes, once, and new consents work again."""
    kiosk = Kiosk(town, tmp_path / "kiosk")
    with_alice(town, kiosk).close()
    kiosk.give(BOB)
    synced(kiosk).close()
    kiosk.close()
    shutil.copytree(tmp_path / "kiosk", tmp_path / "image")
    newer = Kiosk(town, tmp_path / "kiosk")
    newer.consents.withdraw(BOB)  # an erasure: the counter moves
    Session(newer).open()  # its Hello tells the counter; the withdrawal itself is lost with the device
    newer.close()
    older = Kiosk(town, tmp_path / "image")
    assert older.consents.state(BOB, P) == "given"
    session = synced(older)
    assert older.consents.state(BOB, P) != "given"
    assert older.consents.state(ALICE, P) != "given"
    assert list(older.keyring.every_key()) == []
    assert older.sealed_rows(ALICE) == 0
    session.close()
    older.give(ALICE)
    again = synced(older)
    assert older.consents.state(ALICE, P) == "given"
    assert again.device.caught_up
    again.close()
    older.close()


# ---- law 6: what is durable --------------------------------------------------------------------------------


def test_law_6_a_crash_between_frames_resumes_at_the_cursor_with_equal_digests(
    town: Town, tmp_path: Path
) -> None:
    """An image taken between any two frames goes on where it stood, replaces nothing and ends equal."""
    kiosk = Kiosk(town, tmp_path / "kiosk")
    town.put(200)
    session = Session(kiosk)
    session.open()
    for _ in range(12):
        assert session.step()
    cursor, _ = kiosk.stand()
    assert 0 < cursor < town.head()[0]
    shutil.copytree(tmp_path / "kiosk", tmp_path / "crashed")
    session.close()
    kiosk.close()
    survivor = Kiosk(town, tmp_path / "crashed")
    assert survivor.stand()[0] == cursor
    resumed = synced(survivor)
    deltas = [d for d in resumed.heard_of(m.Delta) if isinstance(d, m.Delta)]
    assert deltas[0].base == cursor
    assert not any(d.replacing for d in deltas)
    assert survivor.stand() == town.head()
    assert resumed.device.caught_up
    resumed.close()
    survivor.close()


def test_law_6_decisions_and_receipts_are_told_until_they_are_acknowledged(
    town: Town, tmp_path: Path
) -> None:
    """Given offline, restarted, acknowledgement lost: told again, recorded once."""
    kiosk = Kiosk(town, tmp_path / "kiosk")
    kiosk.give(ALICE)
    kiosk.close()
    again = Kiosk(town, tmp_path / "kiosk")
    session = Session(again)
    session.open()
    assert any(isinstance(said, m.Decisions) for said in session.said)
    session.close()  # before the acknowledgement was heard
    assert town.lane_head() == 1
    later = synced(again)
    assert any(isinstance(said, m.Decisions) for said in later.said)
    assert town.lane_head() == 1
    assert again.outbox.empty
    key = again.keyring.key(ALICE, P)
    assert key is not None
    assert key.grant == 1
    later.close()
    again.close()


# ---- law 10: signals are hints -----------------------------------------------------------------------------


def another_node(town: Town) -> SqliteStore:
    """The same store opened by somebody else: what is written there hints nobody here."""
    settings, authority = town.settings, town.authority
    return SqliteStore(
        settings.database, settings.key_database, digest_key=authority.digest_key, entropy=town.entropy
    )


def test_law_10_a_lost_hint_only_delays(town: Town, kiosk: Kiosk) -> None:
    """Rows and decisions written without a hint arrive after the next poll of the heads."""
    session = with_alice(town, kiosk)
    other = another_node(town)
    with other.write("elsewhere") as tx:
        tx.put_row("all", town.item_row(1))
        town.office.revoke(tx, town.pseudonym(ALICE), [P], "subject", "2026-11")
    session.settle()
    assert kiosk.stand()[0] < town.head()[0]
    assert kiosk.keyring.key(ALICE, P) is not None
    assert town.node.heads.poll() >= 2
    session.settle()
    assert kiosk.stand() == town.head()
    assert kiosk.keyring.key(ALICE, P) is None
    assert town.node.heads.poll() == 0
    other.close()
    session.close()


# ---- law 12: bad input changes nothing ---------------------------------------------------------------------


def test_law_12_garbage_never_crashes_a_device_nor_changes_it(town: Town, kiosk: Kiosk) -> None:
    """Two thousand damaged server frames (seed 12): each is taken whole, or refused with nothing changed."""
    town.put(30)
    session = with_alice(town, kiosk)
    rng = random.Random(12)
    frames = [codec.encode(heard) for heard in session.heard]
    session.close()
    for n in range(2_000):
        if n % 50 == 0:
            session = Session(kiosk)
            session.open()
        before, frame = standing(kiosk), damaged(rng, frames)
        if is_lane(frame):
            continue  # a legal decision is the server's word, and moves the lane for good
        try:
            session.device.hear(frame, kiosk.clock.boot_us())
        except WireFailure:
            assert standing(kiosk) == before
        except SyncRefused:
            assert standing(kiosk) == before
        if n % 50 == 49:
            session.close()
    kiosk.clock.advance(seconds=HOUR_S + 1)
    final = synced(kiosk)
    assert kiosk.stand() == town.head()
    final.close()


def standing(kiosk: Kiosk) -> object:
    lane = kiosk.replica.lane_position()
    held = kiosk.keyring.every_key()
    keys = sorted((key.subject, key.purpose, key.grant) for key in held)
    return kiosk.stand(), kiosk.rows(), lane, keys, kiosk.sealed_rows(ALICE), kiosk.leases.remaining_us()


def is_lane(frame: bytes) -> bool:
    try:
        return isinstance(codec.decode(frame), m.Lane)
    except WireFailure:
        return False


def damaged(rng: random.Random, frames: list[bytes]) -> bytes:
    frame = bytearray(rng.choice(frames))
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        return bytes(frame[: rng.randrange(len(frame))])
    for _ in range(rng.randrange(1, 4)):
        frame[rng.randrange(len(frame))] = rng.randrange(256)
    return bytes(frame)


def test_law_12_garbage_never_crashes_a_server_nor_changes_it(town: Town, kiosk: Kiosk) -> None:
    """2,000 damaged device frames (seed 21): each is a legal message, or refused and changes nothing."""
    kiosk.give(ALICE)
    session = synced(kiosk)
    town.decide(ALICE, "withdrawn")
    session.settle()
    rng = random.Random(21)
    frames = [codec.encode(said) for said in session.said]
    session.close()
    for n in range(2_000):
        if n % 25 == 0:
            session = Session(kiosk)
            session.open()
        writes = dict(town.store.transactions())
        head = town.lane_head()
        try:
            session.server.hear(damaged(rng, frames))
        except WireFailure:
            assert town.lane_head() == head
            moved = {k for k, v in town.store.transactions().items() if v != writes.get(k)}
            assert moved <= {"lease", "lane_ack"}
        while session.server.next() is not None:
            pass
        if n % 25 == 24:
            session.close()


# ---- wrong digests, catalogs, restores ---------------------------------------------------------------------


def spoil(kiosk: Kiosk) -> None:
    cursor, digest = kiosk.stand()
    with kiosk.database.write("spoil") as tx:
        tx.set_channel("all", cursor, digest ^ 1)


def test_a_wrong_digest_is_repaired_and_then_called_diverged(town: Town, kiosk: Kiosk) -> None:
    """Followed anew at most three times an hour; then the channel stands still and the device says so."""
    town.put(20)
    session = synced(kiosk)
    for n in range(3):
        spoil(kiosk)
        town.put(1, start=100 + n)
        session.settle()
        assert kiosk.stand() == town.head()
        assert session.device.caught_up
    spoil(kiosk)
    town.put(1, start=200)
    session.settle()
    assert kiosk.memory.diverged == {"all"}
    assert len(kiosk.rows()) == 24
    session.close()
    kiosk.clock.advance(seconds=HOUR_S + 1)
    again = synced(kiosk)
    assert kiosk.memory.diverged == set()
    assert kiosk.stand() == town.head()
    again.close()


def test_a_restored_server_is_followed_from_nothing(town: Town, kiosk: Kiosk) -> None:
    """A new signed incarnation: every cursor starts over and the snapshot replaces."""
    town.put(20)
    synced(kiosk).close()
    town.node.signing.incarnation = bytes(16)
    session = synced(kiosk)
    deltas = [d for d in session.heard_of(m.Delta) if isinstance(d, m.Delta)]
    assert deltas[0].replacing
    assert kiosk.stand() == town.head()
    assert kiosk.replica.continuity.incarnation() == bytes(16)
    session.close()


def test_a_server_with_a_shorter_lane_is_not_believed(town: Town, kiosk: Kiosk, tmp_path: Path) -> None:
    """The device refuses it, and the server refuses a device that is further on than itself."""
    with_alice(town, kiosk).close()
    with kiosk.database.write("ahead") as tx:
        tx.set_lane_position(99)
    session = Session(kiosk)
    with pytest.raises(WireFailure, match="rolled_back"):
        session.settle()
    session.close()


def test_another_catalog_starts_the_channels_over(town: Town, kiosk: Kiosk) -> None:
    """What the old catalog had no place for was a stub; under the new one it is asked for again."""
    town.put(20)
    kiosk.replica.continuity.fit_catalog()
    synced(kiosk).close()
    kiosk.replica.continuity.fit_catalog()
    assert kiosk.stand()[0] > 0
    with kiosk.database.write("older") as tx:
        tx.set_meta("sync.catalog", b"another")
    kiosk.replica.continuity.fit_catalog()
    assert kiosk.stand() == (0, 0)
    assert len(kiosk.rows()) == 20
    session = synced(kiosk)
    assert kiosk.stand() == town.head()
    session.close()


def test_rows_that_do_not_fit_leave_the_digest_whole(town: Town, kiosk: Kiosk) -> None:
    """Unknown views are stubs, wrong values are dropped, and the checkpoint still agrees."""
    with town.store.write("publish") as tx:
        tx.put_row("all", town.item_row(1, values={"popularity": "high", "co_bought": {"a": 1.0}}))
        tx.put_row("all", msgspec.structs.replace(town.item_row(2), view="nobody_knows"))
        tx.put_row("all", msgspec.structs.replace(town.item_row(3), values=b"\xc1"))
    session = synced(kiosk)
    rows = kiosk.rows()
    assert codec.unpack(rows["item:1"], 100) == {"co_bought": {"a": 1.0}}
    assert rows["item:2"] == b""
    assert codec.unpack(rows["item:3"], 100) == {}
    assert kiosk.stand() == town.head()
    assert session.device.caught_up
    session.close()


def test_law_5_a_personal_row_in_a_shared_channel_is_refused_whole(town: Town, kiosk: Kiosk) -> None:
    """Nothing about a subject rests in plain text, whatever the server sends: the channel is left."""
    with town.store.write("publish") as tx:
        tx.put_row("all", town.item_row(1))
        tx.put_row("all", msgspec.structs.replace(town.item_row(2), entity="user:alice", view="profile"))
    session = synced(kiosk)
    assert kiosk.rows() == {}
    assert session.device.refused == {"all": "no_permission"}
    assert session.server.follows == ()
    session.close()


def test_law_1_rows_wait_for_a_lease_and_are_not_lost(town: Town, tmp_path: Path) -> None:
    """A lease that ended while connected: personal frames are refused, and come again with the next lease."""
    clock = ManualClock()
    kiosk = Kiosk(town, tmp_path / "kiosk", clock=clock, settings=SyncSettings())
    session = with_alice(town, kiosk)
    clock.advance(seconds=25 * HOUR_S)
    town.put_profile(ALICE, "FR")
    frame = session.next()
    assert frame is not None
    session.hand_over(frame)
    channel = kiosk.personal_channel(ALICE)
    assert kiosk.replica.cursor(channel) < town.head(channel)[0]
    session.settle()
    assert kiosk.consents.permission(ALICE, P).allowed
    assert kiosk.replica.cursor(channel) == town.head(channel)[0]
    assert session.device.caught_up
    session.close()
    kiosk.close()
