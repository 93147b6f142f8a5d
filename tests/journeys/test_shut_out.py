"""A device that its server shuts out wipes itself, hands in the proof, and links no more.

Nobody but the server can do that to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest

import edge_runtime as er
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.consent.shut_out import POINTS, ShutOut
from edge_runtime.errors import StorageFull, SyncRefused
from edge_runtime.sync.link import Link
from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import State
from edge_runtime.wire.failure import WireFailure
from sync_server.consent import statement
from sync_server.devices.authority import rotate_key
from tests.journeys.test_withdrawal import ALICE as SHOPPER
from tests.journeys.test_withdrawal import Kiosk as RealKiosk
from tests.journeys.test_withdrawal import shopping, synced
from tests.support.clock import ManualClock
from tests.support.consent_room import die_at, killed
from tests.support.shop_server import ShopServer
from tests.support.town import ALICE, BOB, Kiosk, P, Session, Town

HOUR_S = 3_600


def full(town: Town, kiosk: Kiosk) -> Session:
    """Rows about nobody, and alice with a profile row and a lease."""
    town.put(30)
    kiosk.give(ALICE)
    session = Session(kiosk)
    session.settle()
    town.put_profile(ALICE)
    session.settle()
    assert kiosk.sealed_rows(ALICE) == 2
    assert kiosk.consents.permission(ALICE, P).allowed
    return session


def revoke(town: Town, kiosk: Kiosk) -> None:
    with town.store.write("revoke") as tx:
        tx.revoke_device(kiosk.device_id, town.clock.now_us())


def until_the_end(session: Session) -> str:
    """Talk until the device ends the session; the code with which it does."""
    with pytest.raises(SyncRefused) as caught:
        session.settle()
    return caught.value.code


def empty(kiosk: Kiosk) -> bool:
    with kiosk.database.read() as tx:
        nothing = not tx.channels() and not tx.handles() and not list(tx.rows())
    return nothing and list(kiosk.keyring.every_key()) == [] and kiosk.leases.state == "locked"


def nothing_waits(kiosk: Kiosk) -> bool:
    return not kiosk.outbox.receipts_wait


def wiped_us(town: Town, kiosk: Kiosk) -> int | None:
    with town.store.read() as tx:
        device = tx.device(kiosk.device_id)
    assert device is not None
    return device.wiped_us


# ---- how it ends -------------------------------------------------------------------------------------------


def test_law_4_a_live_session_wipes_and_hands_in_the_proof(town: Town, kiosk: Kiosk) -> None:
    """Rows, keys, cursors and lease go; the receipt names nobody, verifies, and is kept by the server."""
    session = full(town, kiosk)
    revoke(town, kiosk)
    assert until_the_end(session) == "device_revoked"
    assert isinstance(session.heard[-2], m.Revoked)
    assert empty(kiosk)
    assert (None, "all") in kiosk.changes
    assert kiosk.replica.shut_out.standing == "wiped"
    note = session.said[-1]
    assert isinstance(note, m.ReceiptNote)
    receipt = codec.unpack(note.receipt, codec.FRAME_LIMIT_BYTES)
    assert isinstance(receipt, dict)
    assert (receipt["subject"], receipt["kind"], receipt["keys_destroyed"]) == (bytes(16), "erased", 1)
    assert wiped_us(town, kiosk) is not None
    with town.store.read() as tx:
        assert tx.receipt(receipt["id"]) is not None


def test_law_4_its_last_word_settles_every_revocation_that_waited_for_it(town: Town, kiosk: Kiosk) -> None:
    """Shut out before it heard of them: the real receipt of a real wipe, in the server and for a verifier."""
    full(town, kiosk).close()
    for subject in (ALICE, BOB):
        town.decide(subject, "withdrawn")
    town.office.settle()
    revoke(town, kiosk)
    assert until_the_end(Session(kiosk)) == "device_revoked"
    with town.store.read() as tx:
        rows = tx.revocations(10)
        assert len(rows) == 2
        for row in rows:
            (target,) = tx.targets(row.id)
            stopped = town.office.enforced(target)
            assert (target.acked_us, stopped and stopped.by) == (None, "wiped")
            document = town.office.outcome(tx, row)
            verified = statement.verify(document, town.authority.public_key)
            assert [(r.subject, r.shut_out) for r in verified.receipts] == [(bytes(16), True)]


def test_a_revocation_goes_before_everything_that_waits(town: Town, kiosk: Kiosk) -> None:
    """In mid-snapshot, with decisions and replies queued: the very next frame is the end."""
    town.put(3_000)
    session = Session(kiosk)
    session.open()
    assert session.step()
    town.decide(BOB, "withdrawn")
    revoke(town, kiosk)
    frame = session.next()
    assert frame is not None
    assert isinstance(codec.decode(frame), m.Revoked)
    assert session.server.follows == ()


def test_a_device_that_was_away_hears_it_instead_of_a_welcome(town: Town, kiosk: Kiosk) -> None:
    """No Welcome, no lane, no row; and the receipts that waited since before are handed in with the last."""
    full(town, kiosk).close()
    kiosk.consents.withdraw(ALICE)  # offline: the decision itself is not taken any more
    revoke(town, kiosk)
    session = Session(kiosk)
    assert until_the_end(session) == "device_revoked"
    assert {type(heard) for heard in session.heard} == {m.Challenge, m.Revoked, m.ReceiptAck}
    assert empty(kiosk)
    assert wiped_us(town, kiosk) is not None


def test_revoked_while_the_lane_drains_and_between_hello_and_welcome(town: Town, kiosk: Kiosk) -> None:
    """At every frame of an opening the end is told in the next one that may carry it."""
    for steps in (1, 2):
        session = Session(kiosk)
        for _ in range(steps):
            assert session.step()
        revoke(town, kiosk)
        with pytest.raises(SyncRefused, match="device_revoked"):
            session.settle()
        assert session.device.state is State.LEAVING
        session.close()
        with town.store.write("undo") as tx:
            tx.execute("UPDATE devices SET revoked_us = NULL")


def test_law_12_nobody_but_the_server_in_this_session_can_say_so(town: Town, kiosk: Kiosk) -> None:
    """Unsigned, signed by another, or said yesterday: refused, and nothing is erased."""
    session = full(town, kiosk)
    yesterday = town.node.signing.revoked(kiosk.device_id, bytes(32))
    other = town.node.signing.revoked("dev-other", session.server._nonce)
    for forged in (m.Revoked(signature=bytes(64)), yesterday, other):
        with pytest.raises(WireFailure, match="bad_signature"):
            session.hand_over(codec.encode(forged))
        assert kiosk.replica.shut_out.standing == "in"
        session.close()
        session = Session(kiosk)
        session.settle()
    session.close()
    for greeted in (False, True):
        session = Session(kiosk)
        while greeted and session.device.state is not State.GREETED:
            assert session.step()
        if not greeted:
            session.open()
        with pytest.raises(SyncRefused, match="device_revoked"):
            session.device.hear(codec.encode(m.Refusal(code="device_revoked")), 0)
        assert kiosk.replica.shut_out.standing == "in"
        session.close()
    assert kiosk.sealed_rows(ALICE) == 2
    assert len(kiosk.rows()) == 30


@pytest.mark.parametrize("point", POINTS)
def test_law_6_a_kill_in_the_middle_is_finished_at_the_next_opening(
    town: Town, tmp_path: Path, point: str
) -> None:
    """Killed with the mark alone, with the keys gone, with all gone: the rest follows, and is proved."""
    kiosk = Kiosk(town, tmp_path / "kiosk")
    full(town, kiosk).close()
    kiosk.close()

    def work() -> None:
        mine = Kiosk(town, tmp_path / "kiosk")
        rooms = (mine.database, mine.keyring, mine.consents, mine.leases)
        ShutOut(*rooms, step=die_at(point)).carry_out()

    assert killed(work)
    again = Kiosk(town, tmp_path / "kiosk")
    assert again.replica.shut_out.standing == ("wiped" if point == "dropped" else "wiping")
    again.replica.shut_out.finish()
    assert empty(again)
    assert again.outbox.receipts_wait
    revoke(town, again)
    session = Session(again)
    assert until_the_end(session) == "device_revoked"
    assert wiped_us(town, again) is not None
    assert nothing_waits(again)
    again.close()


def test_a_receipt_that_the_server_does_not_take_is_not_brought_for_ever(town: Town, kiosk: Kiosk) -> None:
    """Refused once, it goes: a device that is out has nothing else to wait for."""
    full(town, kiosk).close()
    with kiosk.database.write("poison") as tx:
        body = seal.canonical({"id": b"p" * 16})
        note = m.ReceiptNote(receipt=body, signature=bytes(64))
        tx.enqueue("receipt", b"p" * 16, codec.encode(note))
    revoke(town, kiosk)
    codes = []
    for _ in range(3):
        session = Session(kiosk)
        codes.append(until_the_end(session))
        session.close()
    assert codes == ["bad_signature", "device_revoked", "device_revoked"]
    assert not kiosk.outbox.receipts_wait
    assert wiped_us(town, kiosk) is not None


def test_law_11_a_revoked_device_does_not_stay_for_ever(town: Town, kiosk: Kiosk) -> None:
    """What it babbles counts for nothing, and after a while the session ends."""
    session = full(town, kiosk)
    revoke(town, kiosk)
    assert session.next() is not None
    assert session.server.patience_us == town.settings.leaving_us
    session.server.hear(codec.encode(m.Follow(channel="all", cursor=0)))
    assert session.next() is None
    town.clock.advance(us=town.settings.leaving_us + 1)
    with pytest.raises(WireFailure, match="device_revoked"):
        session.server.hear(codec.encode(m.Follow(channel="all", cursor=0)))


def test_law_11_a_full_disk_delays_the_wiping_and_loses_nothing_of_it(
    town: Town, kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room for the mark, then none for the end: told again, begun again, and done once there is room."""
    full(town, kiosk).close()
    revoke(town, kiosk)
    room = kiosk.database.write
    times = iter(["fails", "writes", "fails"])

    def write(name: str) -> AbstractContextManager[WriteTransaction]:
        if name == "shut_out" and next(times, "writes") == "fails":
            raise StorageFull("no room")
        return room(name)

    monkeypatch.setattr(kiosk.database, "write", write)
    for standing in ("in", "wiping"):
        session = Session(kiosk)
        with pytest.raises(StorageFull):
            session.settle()
        session.close()
        assert kiosk.replica.shut_out.standing == standing
    session = Session(kiosk)
    assert until_the_end(session) == "device_revoked"
    assert empty(kiosk)
    assert wiped_us(town, kiosk) is not None


def test_law_1_nothing_personal_is_collected_any_more_on_whatever_basis(town: Town, tmp_path: Path) -> None:
    """What a contract allows is over too, also after a restart; another enrolment begins anew."""
    purpose = {"title": "Orders", "legal_basis": "contract", "terminal_access": "strictly_necessary"}
    catalog = er.Catalog.from_dict(
        {
            "catalog": {"name": "orders", "version": 1},
            "purposes": {"orders": {**purpose, "lease": "24h", "retention": "30d"}},
            "entities": {"user": {"personal": True}},
        }
    )
    kiosk = Kiosk(town, tmp_path / "orders", catalog=catalog)
    assert kiosk.consents.key(ALICE, "orders") is not None
    kiosk.replica.shut_out.carry_out()
    for _ in range(2):
        for subject in (ALICE, BOB):
            permission = kiosk.consents.permission(subject, "orders")
            assert (permission.allowed, permission.reason) == (False, "the device was revoked")
            assert kiosk.consents.key(subject, "orders") is None
        kiosk.close()
        kiosk = Kiosk(town, tmp_path / "orders", catalog=catalog)
    before = kiosk.consents.permits.of([(BOB, "orders")])
    assert before is not None
    kiosk.replica.shut_out.ended()
    assert not kiosk.consents.permits.holds(before)
    assert kiosk.consents.key(BOB, "orders") is not None
    kiosk.close()


def test_gives_that_were_not_told_yet_are_told_no_more_and_withdrawals_are(town: Town, kiosk: Kiosk) -> None:
    """The key of a consent is gone with the device; a denial stands for whoever holds the subject's data."""
    full(town, kiosk).close()
    kiosk.consents.withdraw(ALICE)
    kiosk.give(BOB)
    kiosk.replica.shut_out.carry_out()
    with kiosk.database.read() as tx:
        left = [msgspec.msgpack.decode(i.payload, type=m.Decision).state for i in tx.outbox("decision")]
    assert set(left) == {"withdrawn"}


def test_a_revoked_device_that_trusts_an_earlier_key_learns_the_new_one_first(
    town: Town, kiosk: Kiosk, tmp_path: Path
) -> None:
    """It can only believe the end under a key that it was led to."""
    full(town, kiosk).close()
    town.close()
    rotate_key(town.settings.key_file, town.entropy)
    later = Town(town.folder, town.clock)
    kiosk.town = later
    revoke(later, kiosk)
    session = Session(kiosk)
    assert until_the_end(session) == "device_revoked"
    assert [type(heard) for heard in session.heard[:3]] == [m.Challenge, m.Welcome, m.Revoked]
    assert empty(kiosk)
    later.close()


# ---- whole runtimes and a whole server ---------------------------------------------------------------------


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def server(tmp_path: Path, clock: ManualClock) -> AsyncIterator[ShopServer]:
    async with ShopServer(tmp_path / "server", clock) as made:
        yield made


async def stopped(link: Link) -> SyncRefused:
    async with asyncio.timeout(20):
        await link.stopped()
        with pytest.raises(SyncRefused) as caught:
            await link.caught_up()
    return caught.value


async def test_law_6_a_runtime_killed_while_it_wipes_is_empty_when_it_opens(
    server: ShopServer, tmp_path: Path, clock: ManualClock
) -> None:
    """kill -9 when only the mark stands: opening finishes it, and the next link hands in the proof."""
    kiosk = RealKiosk(tmp_path / "kiosk", clock)
    await kiosk.enrol(server)
    device = (await server.call("GET", "/v1/devices")).body["devices"][0]["device_id"]
    with kiosk.opened() as rt:
        async with synced(rt):
            shopping(rt)
    assert (await server.call("DELETE", f"/v1/devices/{device}")).status == 200

    def work() -> None:
        with kiosk.opened() as rt:
            rt._far_side.shut_out._step = die_at("marked")
            rt._far_side.shut_out.carry_out()

    assert killed(work)
    with kiosk.opened() as rt:
        assert rt.status()["revoked"] is True
        assert rt.status()["subjects"] == 0
        assert rt.consent.state(SHOPPER, "personalization") == "unknown"
        async with rt.sync() as link:
            assert (await stopped(link)).code == "device_revoked"
    assert (await server.call("GET", f"/v1/devices/{device}")).body["wiped_at"] is not None


async def test_it_ends_by_long_poll_as_well(server: ShopServer, tmp_path: Path, clock: ManualClock) -> None:
    """A poll that waits is answered with the end; the receipt goes up with the next. Enrolling anew needs no
    restart."""
    kiosk = RealKiosk(tmp_path / "kiosk", clock)
    await kiosk.enrol(server)
    device = (await server.call("GET", "/v1/devices")).body["devices"][0]["device_id"]
    with kiosk.opened() as rt:
        link = rt.sync()
        link._sessions._ways.put_off(clock.boot_us())
        async with link:
            await asyncio.wait_for(link.caught_up(), 20)
            assert link.way == "poll"
            shopping(rt)
            await asyncio.wait_for(link.caught_up(), 20)
            assert (await server.call("DELETE", f"/v1/devices/{device}")).status == 200
            assert (await stopped(link)).code == "device_revoked"
        assert (rt.status()["subjects"], rt.status()["revoked"]) == (0, True)
        assert (await server.call("GET", f"/v1/devices/{device}")).body["wiped_at"] is not None
        token = (await server.call("POST", "/v1/device-tokens", {})).body["token"]
        assert await asyncio.to_thread(rt.enrol, str(server.client.make_url("")), token) != device
        assert rt.status()["revoked"] is False


async def test_a_runtime_is_locked_for_good_and_enrolling_anew_ends_that(
    server: ShopServer, tmp_path: Path, clock: ManualClock
) -> None:
    """Over HTTP and WebSocket: revoked while linked, after a restart, and as another device."""
    kiosk = RealKiosk(tmp_path / "kiosk", clock)
    await kiosk.enrol(server)
    device = (await server.call("GET", "/v1/devices")).body["devices"][0]["device_id"]
    with kiosk.opened() as rt:
        async with rt.sync() as link:
            await asyncio.wait_for(link.caught_up(), 20)
            shopping(rt)
            await asyncio.wait_for(link.caught_up(), 20)
            assert rt.status()["revoked"] is False
            assert (await server.call("DELETE", f"/v1/devices/{device}")).status == 200
            assert (await stopped(link)).code == "device_revoked"
            assert link.state == "locked"
        told = (await server.call("GET", f"/v1/devices/{device}")).body
        assert told["revoked"] is True
        assert told["wiped_at"] is not None
        assert rt.consent.state(SHOPPER, "personalization") == "unknown"
        assert rt.track("view", user=SHOPPER, item="x") is er.NO_CONSENT
        assert rt.status()["revoked"] is True
    with kiosk.opened() as rt:
        assert rt.status()["revoked"] is True
        assert rt.status()["lease"] == "locked"
        contact = (await server.call("GET", f"/v1/devices/{device}")).body["contact_at"]
        clock.advance(seconds=60)
        async with rt.sync() as link:
            assert (await stopped(link)).code == "device_revoked"
            assert link.state == "locked"
        assert (await server.call("GET", f"/v1/devices/{device}")).body["contact_at"] == contact
        background = await asyncio.to_thread(rt.sync_in_background)
        with pytest.raises(SyncRefused, match="device_revoked"):
            await asyncio.to_thread(background.wait_caught_up, 20)
        await asyncio.to_thread(background.close)
        token = (await server.call("POST", "/v1/device-tokens", {})).body["token"]
        fresh = await asyncio.to_thread(rt.enrol, str(server.client.make_url("")), token)
        assert fresh != device
        assert rt.status()["revoked"] is False
        async with synced(rt) as link:
            assert link.state == "fresh"
            shopping(rt)
            await asyncio.wait_for(link.caught_up(), 20)
            assert rt.consent.state(SHOPPER, "personalization") == "given"
    with kiosk.opened() as rt:
        assert rt.status()["revoked"] is False
