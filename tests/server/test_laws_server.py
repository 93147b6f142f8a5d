"""Laws that hold twice on the server are held to each half alone: one guard gone must not go unnoticed."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.aggregates.mechanisms import mechanism_for, question_of
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.sealed_report import Answered, seal_report
from sync_server.aggregates.intake import bring
from sync_server.store.records import GrantedLease
from sync_server.store.sqlite import SqliteStore
from tests.support.shop import shop_catalog
from tests.support.shop_server import FakeDevice, ShopServer
from tests.support.town import ALICE, BOB, Kiosk, P, Session, Town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town", settings=lambda s: replace(s, frame_rows=10))
    yield made
    made.close()


def payload_keys(town: Town) -> int:
    with contextlib.closing(sqlite3.connect(town.settings.key_database)) as db:
        return int(db.execute("SELECT count(*) FROM payload_keys").fetchone()[0])


# ---- law 2: a withdrawal wins ------------------------------------------------------------------------------


def test_law_2_a_withdrawal_overtakes_a_frame_that_was_encoded_before_it(town: Town, tmp_path: Path) -> None:
    """The second follower would get the first one's bytes, read at an older epoch: decisions go first."""
    first, second = Kiosk(town, tmp_path / "first"), Kiosk(town, tmp_path / "second")
    sessions = [Session(kiosk) for kiosk in (first, second)]
    for session in sessions:
        session.settle()
    town.put(40)
    frame = sessions[0].next()
    assert frame is not None
    early = codec.decode(frame)
    assert isinstance(early, m.Delta)
    assert early.more
    town.decide(BOB, "withdrawn")
    built = town.node.fanout.built
    kinds = []
    while (frame := sessions[1].next()) is not None:
        kinds.append(type(codec.decode(frame)))
    assert kinds[:2] == [m.Lane, m.Delta], "the lane before any row"
    assert town.node.fanout.built - built < 4, "and the bytes were the first one's"
    for session, kiosk in zip(sessions, (first, second), strict=True):
        session.close()
        kiosk.close()


def test_law_2_a_ticket_from_before_a_withdrawal_counts_for_nobody_after_a_new_give(
    town: Town, tmp_path: Path
) -> None:
    """Withdrawn and given again: the answer drawn under the older consent stays out."""
    kiosk = Kiosk(town, tmp_path / "kiosk")
    purpose, subject = "measurement", town.pseudonym(ALICE)
    town.decide(ALICE, "given", purpose)
    with town.store.write("round") as tx:
        row, _ = town.rounds.open(tx, shop_catalog().model, "visits_band", 3_600_000_000)
        device = tx.device(kiosk.device_id)
        assert device is not None
        request = m.TicketRequest(round_id=row.id, subjects=[subject])
        (granted,) = town.rounds.issue_tickets(tx, device, request).granted
    town.decide(ALICE, "withdrawn", purpose)
    town.decide(ALICE, "given", purpose)
    answer = mechanism_for(question_of(shop_catalog().metrics["visits_band"])).randomize(0, lambda n: 0)
    answered = Answered(row.definition, [granted.ticket], answer)
    sealed = seal_report(row.collector, row.id, answered)
    with town.store.write("report") as tx:
        assert bring(tx, town.rounds, kiosk.device_id, m.Report(round_id=row.id, sealed=[sealed])).stored
    town.collector.step(0)
    with town.store.read() as tx:
        assert tx.aggregates.refusals(row.id) == {"no_permission": 1}
        assert tx.aggregates.tally(row.id) == {}
    kiosk.close()


# ---- law 3: offline is bounded -----------------------------------------------------------------------------


async def test_law_3_a_shorter_lease_never_shortens_one_that_may_still_run(shop: ShopServer) -> None:
    """The device may have got the longer one: a revocation waits for the end of that."""
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease()
    short = GrantedLease(shop.clock.now_us(), shop.clock.now_us() + 1, {}, "server")
    with shop.store.write("lease") as tx:
        longer = tx.device(device.device_id)
        assert longer is not None
        assert tx.grant_lease(device.device_id, tx.lane_head(), short)
        after = tx.device(device.device_id)
    assert after is not None
    assert after.lease_until_us == longer.lease_until_us > shop.clock.now_us() + 1


async def test_law_3_the_highest_counter_ever_told_is_kept(shop: ShopServer) -> None:
    """A restored device whose first session broke before its Welcome is told at the next."""
    device = await FakeDevice(shop, 1).enrol()
    for counter in (5, 2, 2):
        with shop.store.write("contact") as tx:
            tx.note_contact(device.device_id, shop.clock.now_us(), counter)
    with shop.store.read() as reading:
        known = reading.device(device.device_id)
    assert known is not None
    assert known.counter == 5


# ---- law 4: erased here too, and proven --------------------------------------------------------------------


@pytest.mark.parametrize("state", ["withdrawn", "objected", "refused"])
def test_law_4_a_denial_destroys_the_servers_own_key_and_rows(town: Town, state: str) -> None:
    """The key store holds nothing of the pair any more; another subject's key stays."""
    for subject in (ALICE, BOB):
        town.decide(subject, "given")
        town.put_profile(subject)
    assert payload_keys(town) == 2
    town.decide(ALICE, state)
    assert payload_keys(town) == 1
    with town.store.read() as tx:
        left = tx.execute("SELECT count(*) FROM rows WHERE deleted = 0").fetchone()[0]
    assert left == 1


async def test_law_4_holding_none_is_no_answer_of_a_device_that_nobody_waited_for(shop: ShopServer) -> None:
    """Without a live lease at the commit it is no target; only one that erased something reopens."""
    target = await FakeDevice(shop, 1).enrol()
    assert target.lease()
    stranger = await FakeDevice(shop, 2).enrol()
    made = await shop.revoke("alice", [P])
    subject = shop.pseudonym("alice")
    denials = [d["seq"] for d in made.body["denials"]]
    body, signature = stranger.receipt(subject, [P], denials, kind="held_none", canary=None)
    assert stranger.hand_in(body, signature).revocations == ()
    found = (await shop.call("GET", made.headers["Location"])).body
    assert (found["counters"]["targets"], found["counters"]["receipts"]) == (1, 0)
    assert not found["amended"]


async def test_law_4_a_receipt_in_another_devices_name_is_refused(shop: ShopServer) -> None:
    """Signed well, by a device that is not the one it names: it answers for nobody."""
    first, second = await FakeDevice(shop, 1).enrol(), await FakeDevice(shop, 2).enrol()
    assert first.lease()
    assert second.lease()
    made = await shop.revoke("alice", [P])
    denials = [d["seq"] for d in made.body["denials"]]
    honest, second.device_id = second.device_id, first.device_id
    body, signature = second.receipt(shop.pseudonym("alice"), [P], denials)
    second.device_id = honest
    with pytest.raises(WireFailure, match="bad_signature"):
        second.hand_in(body, signature)
    assert (await shop.call("GET", made.headers["Location"])).body["counters"]["erased"] == 0


# ---- law 10: every signal is a hint ------------------------------------------------------------------------


async def test_law_10_the_poll_runs_by_itself_and_wakes_who_waits(town: Town, tmp_path: Path) -> None:
    """Every hint lost for ever: a session still hears of rows and of decisions."""
    kiosk = Kiosk(town, tmp_path / "kiosk")
    session = Session(kiosk)
    session.settle()
    polling = asyncio.create_task(town.node.heads.run(1))
    settings = town.settings
    other = SqliteStore(  # another node: what is written there hints nobody here
        settings.database,
        settings.key_database,
        digest_key=town.authority.digest_key,
        entropy=town.entropy,
    )
    for change in ("rows", "decision"):
        session.subscription.wake.clear()
        with other.write("elsewhere") as tx:
            if change == "rows":
                tx.put_row("all", town.item_row(1))
            else:
                town.office.revoke(tx, town.pseudonym(ALICE), [P], "subject", "2026-11")
        async with asyncio.timeout(10):
            await session.subscription.wake.wait()
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    other.close()
    session.close()
    kiosk.close()
