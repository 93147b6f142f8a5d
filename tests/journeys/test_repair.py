"""Checkpoints that do not match: only what differs is sent again, at most so often, whatever the reason."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import edge_runtime as er
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.sync.shelf import PersonalShelf
from edge_runtime.wire import codec, digest
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from sync_server.store.protocol import ReadTx
from sync_server.sync.patches import NotNow
from tests.journeys.test_withdrawal import Kiosk as RealKiosk
from tests.support.clock import ManualClock
from tests.support.shop_server import ShopServer
from tests.support.town import ALICE, Kiosk, P, Session, Town

ROWS = 640
HOUR_S = 3_600
Wrong = Callable[[Town, pytest.MonkeyPatch], None]


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town", settings=lambda s: replace(s, frame_rows=8))
    yield made
    made.close()


def synced(kiosk: Kiosk) -> Session:
    session = Session(kiosk)
    session.settle()
    return session


def rows_of(session: Session, kind: type[m.Patch] | type[m.Delta]) -> int:
    return sum(len(heard.rows) for heard in session.heard if isinstance(heard, kind))


def repairs(session: Session) -> list[m.Repair]:
    return [said for said in session.said if isinstance(said, m.Repair)]


def behind(session: Session) -> bool:
    return not session.device.caught_up


def equal(kiosk: Kiosk, town: Town, channel: str = "all") -> bool:
    """Row by row and in sum: what the device holds is what the server has."""
    with town.store.read() as tx:
        theirs = {(r.entity, r.view): r.seq for r in tx.channel_rows(channel, 0, 10**6) if not r.deleted}
    with kiosk.database.read() as tx:
        held = list(tx.rows_in_channel(channel))
    total = sum(digest.from_bytes(row_hash) for _, row_hash in held) % digest.MODULUS
    ours = {(row.entity, row.view): row.seq for row, _ in held}
    return theirs == ours and kiosk.stand(channel) == town.head(channel) == (town.head(channel)[0], total)


# ---- what may be wrong with one row ------------------------------------------------------------------------


def lose(kiosk: Kiosk, n: int) -> None:
    """As if row `n` had never been delivered."""
    with kiosk.database.write("lose") as tx:
        part = digest.from_bytes(tx.delete_row("all", f"item:{n}", "item_stats", 1) or b"")
        state = tx.channel("all")
        assert state is not None
        tx.set_channel("all", state.cursor, digest.add(state.digest, removed=part))


def keep_one_more(kiosk: Kiosk, n: int) -> None:
    """As if a delete had never been delivered."""
    row = m.Row(1, f"item:{100_000 + n}", "item_stats", 1, 5, 5, 0, False, b"\x80")
    put(kiosk, row)


def keep_another(kiosk: Kiosk, n: int) -> None:
    """As if an older state of the row stood here, with an event time from the future."""
    row = m.Row(1, f"item:{n}", "item_stats", 1, 2**60, 5, 0, False, b"\x80")
    put(kiosk, row)


def put(kiosk: Kiosk, row: m.Row) -> None:
    key = kiosk.keyring.identity.digest_key
    assert key is not None
    made = digest.row_hash(key, "all", row)
    with kiosk.database.write("spoil") as tx:
        placed = tx.put_row("all", row, digest.to_bytes(made), 1)
        state = tx.channel("all")
        assert state is not None
        before = digest.from_bytes(placed.before or b"")
        tx.set_channel("all", state.cursor, digest.add(state.digest, removed=before, added=made))


@pytest.mark.parametrize("spoil", [lose, keep_one_more, keep_another])
def test_one_wrong_row_is_repaired_with_its_sub_range_alone(
    town: Town, kiosk: Kiosk, spoil: Callable[[Kiosk, int], None]
) -> None:
    """Missing, one too many, another: one repair, a 64th of the rows, and what is read is the server's."""
    town.put(ROWS)
    synced(kiosk).close()
    spoil(kiosk, 77)
    assert not equal(kiosk, town)
    session = synced(kiosk)
    assert len(repairs(session)) == 1
    assert 0 < rows_of(session, m.Patch) <= ROWS // 64 * 3
    assert rows_of(session, m.Delta) == 0
    assert len({heard.range for heard in session.heard if isinstance(heard, m.Patch)}) == 1
    assert equal(kiosk, town)
    assert session.device.caught_up
    assert (None, "all") in kiosk.changes
    session.close()


def test_a_digest_that_was_summed_up_wrongly_is_counted_again_without_a_frame(
    town: Town, kiosk: Kiosk
) -> None:
    """Every row is right, only their sum is not: it is put right here, and counts as a repair."""
    town.put(20)
    synced(kiosk).close()
    with kiosk.database.write("spoil") as tx:
        tx.set_channel("all", kiosk_cursor(town), 12345)
    session = synced(kiosk)
    assert repairs(session) == []
    assert equal(kiosk, town)
    assert session.device.caught_up
    assert len(kiosk.memory.repairs_us["all"]) == 1
    session.close()


def kiosk_cursor(town: Town) -> int:
    return town.head()[0]


def test_many_wrong_rows_are_repaired_by_one_snapshot(town: Town, kiosk: Kiosk) -> None:
    """More sub-ranges than the setting: the channel is replaced, once, and that counts as one repair."""
    town.put(ROWS)
    synced(kiosk).close()
    for n in range(0, ROWS, 10):
        lose(kiosk, n)
    session = synced(kiosk)
    assert len(repairs(session)) == 1
    assert rows_of(session, m.Patch) == 0
    assert rows_of(session, m.Delta) == ROWS
    assert sum(isinstance(h, m.Delta) and h.replacing for h in session.heard) == 1
    assert equal(kiosk, town)
    assert session.device.caught_up
    session.close()


def test_rows_that_change_meanwhile_are_not_mistaken_for_wrong_ones(town: Town, kiosk: Kiosk) -> None:
    """With every frame a row is published or deleted (seed 5): one repair, few rows, all equal at the end."""
    town.put(ROWS)
    synced(kiosk).close()
    lose(kiosk, 77)
    chance, session = random.Random(5), Session(kiosk)
    for turn in range(120):
        if not session.step():
            session.tick()
        if turn % 2 == 0:
            with town.store.write("publish") as tx:
                row = town.item_row(chance.randrange(ROWS))
                row = msgspec.structs.replace(row, event_time_us=10_000 + turn, created_us=10_000 + turn)
                gone = chance.random() < 0.3  # a third
                tx.put_row(
                    "all", msgspec.structs.replace(row, deleted=gone, values=b"" if gone else row.values)
                )
    session.settle()
    assert equal(kiosk, town)
    assert session.device.caught_up
    assert len(repairs(session)) == 1
    assert rows_of(session, m.Patch) <= ROWS // 8
    session.close()


def test_what_changed_since_is_told_apart_from_what_is_wrong(town: Town, kiosk: Kiosk) -> None:
    """Ten rows are still to come and one is missing: only its sub-range is sent; else those of the ten."""
    town.put(ROWS)
    synced(kiosk).close()
    cursor = kiosk.stand()[0]
    homes = {home(kiosk, n) for n in range(ROWS, ROWS + 10)}
    missing = next(n for n in range(ROWS) if home(kiosk, n) not in homes)
    town.put(10, start=ROWS)
    assert town.node.patches.differing(repair_of(kiosk, cursor), 1) == sorted(homes)
    lose(kiosk, missing)
    assert town.node.patches.differing(repair_of(kiosk, cursor), 1) == [home(kiosk, missing)]


def home(kiosk: Kiosk, n: int) -> int:
    """The sub-range of item row `n`; which rows share one differs from town to town."""
    key = kiosk.keyring.identity.digest_key
    assert key is not None
    return digest.range_of(key, f"item:{n}", "item_stats", 1)


def repair_of(kiosk: Kiosk, cursor: int) -> m.Repair:
    digests = b"".join(map(digest.to_bytes, kiosk.replica.sums("all")[1]))
    return m.Repair(channel="all", seq=cursor, digests=digests)


@pytest.mark.parametrize(("beside", "asked"), [(False, 2), (True, 3)])
def test_another_row_goes_wrong_while_the_first_is_repaired(
    town: Town, kiosk: Kiosk, beside: bool, asked: int
) -> None:
    """The checkpoint after the patches differs again, at another seq: a second repair, at once.

    A sub-range with a row that changed meanwhile counts as merely still to come while another differs too: a
    wrong row `beside` that one has a repair of its own.
    """
    town.put(ROWS)
    synced(kiosk).close()
    new = home(kiosk, ROWS)
    away = [n for n in range(ROWS) if home(kiosk, n) != new]
    first, other = away[0], next(n for n in away if home(kiosk, n) != home(kiosk, away[0]))
    near = next(n for n in range(ROWS) if home(kiosk, n) == new)
    lose(kiosk, first)
    session = Session(kiosk)
    while not session.heard_of(m.Patch):
        assert session.step()
    lose(kiosk, other)
    lose(kiosk, near if beside else next(n for n in away if n not in (first, other)))
    town.put(1, start=ROWS)
    kiosk.clock.advance(us=town.settings.repair_look_us)
    session.settle()
    assert len(repairs(session)) == asked
    assert equal(kiosk, town)
    assert session.device.caught_up
    session.close()


def test_a_crash_between_two_patches_of_one_sub_range_loses_nothing(town: Town, tmp_path: Path) -> None:
    """Digest and rows move together: what came counts, and the rest is asked for again."""
    kiosk = Kiosk(town, tmp_path / "kiosk")
    town.put(64 * 20)
    synced(kiosk).close()
    lose(kiosk, 77)
    session = Session(kiosk)
    while not session.heard_of(m.Patch):
        assert session.step()
    first = session.heard_of(m.Patch)[0]
    assert isinstance(first, m.Patch)
    assert first.more
    session.close()
    kiosk.close()
    again = Kiosk(town, tmp_path / "kiosk")
    assert not equal(again, town)
    resumed = synced(again)
    assert equal(again, town)
    assert len(repairs(resumed)) == 1
    resumed.close()
    again.close()


# ---- personal channels -------------------------------------------------------------------------------------


def spoiled_profile(town: Town, kiosk: Kiosk) -> Session:
    """Alice's profile is held, and her channel's digest with one row more than there is."""
    kiosk.give(ALICE)
    session = synced(kiosk)
    town.put_profile(ALICE)
    session.settle()
    session.close()
    key = kiosk.keyring.key(ALICE, P)
    assert key is not None
    extra = msgspec.structs.replace(town.profile_row(ALICE, key.grant), view="old_profile", seq=1)
    with kiosk.database.write("spoil") as tx:
        shelf = PersonalShelf(tx, key)
        cursor, total = shelf.stand()
        shelf.put([extra], [digest.to_bytes(7)])
        shelf.move(cursor, digest.add(total, added=7))
    assert kiosk.sealed_rows(ALICE) == 3
    return Session(kiosk)


def test_a_personal_channel_is_repaired_under_its_key(town: Town, kiosk: Kiosk) -> None:
    """What hangs there too much goes; the frames are never packed, nor is a digest told of another's rows."""
    session = spoiled_profile(town, kiosk)
    session.settle()
    assert len(repairs(session)) == 1
    assert len(session.heard_of(m.Patch)) == 1
    assert kiosk.sealed_rows(ALICE) == 2
    assert session.device.caught_up
    session.close()


def test_law_2_a_withdrawal_overtakes_the_patches_and_they_bring_nothing_back(
    town: Town, kiosk: Kiosk
) -> None:
    """A personal patch read before the withdrawal changes nothing after it."""
    session = spoiled_profile(town, kiosk)
    while not repairs(session):
        assert session.step()
    queued = session.next()
    assert queued is not None
    patch = codec.decode(queued)
    assert isinstance(patch, m.Patch)
    town.decide(ALICE, "withdrawn")
    assert session.step()
    assert isinstance(session.heard[-1], m.Lane)
    session.hand_over(queued)
    assert kiosk.sealed_rows(ALICE) == 0
    with pytest.raises(WireFailure, match="no_permission"):
        kiosk.replica.apply_patch(patch, 0)
    session.settle()
    assert session.device.caught_up
    session.close()


# ---- a server that is wrong, or has enough -----------------------------------------------------------------


def wrong_head(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its digest of the channel is not the sum of its rows."""
    town.store._writer.execute("UPDATE channels SET digest = randomblob(16) WHERE channel = 'all'")
    town.node.fanout.moved("all")


def wrong_parts(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """And neither is one of its sub-ranges'."""
    wrong_head(town, monkeypatch)
    right = ReadTx.channel_range_digests

    def wrong(tx: ReadTx, channel: str) -> list[int]:
        return [total ^ (index == 3) for index, total in enumerate(right(tx, channel))]

    monkeypatch.setattr(ReadTx, "channel_range_digests", wrong)


@pytest.mark.parametrize("wrong", [wrong_head, wrong_parts])
def test_law_11_a_server_that_is_always_wrong_ends_in_diverged_and_no_loop(
    town: Town,
    kiosk: Kiosk,
    wrong: Callable[[Town, pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three repairs, few rows, then the channel is left and the app told; reconnecting starts no fourth."""
    town.put(ROWS)
    synced(kiosk).close()
    wrong(town, monkeypatch)
    session = synced(kiosk)
    assert len(repairs(session)) == 3
    assert len(session.heard) < 40
    assert rows_of(session, m.Patch) < 3 * ROWS // 16
    assert kiosk.memory.diverged == {"all"}
    assert session.device.refused == {"all": "digest_mismatch"}
    assert session.server.follows == ()
    assert len(kiosk.rows()) == ROWS
    for _ in range(5):
        session.close()
        session = synced(kiosk)
        assert repairs(session) == []
        assert len(session.heard) < 10
    kiosk.clock.advance(seconds=HOUR_S + 1)
    session.settle()
    assert len(repairs(session)) == 3, "after an hour once more, also in the session that runs"
    session.close()
    kiosk.clock.advance(seconds=HOUR_S + 1)
    later = synced(kiosk)
    assert len(repairs(later)) == 3
    later.close()


def test_a_repair_that_nobody_answers_is_asked_again(town: Town, kiosk: Kiosk) -> None:
    """Lost on a server that forgot it: after the resend time once more, and never a third at once."""
    town.put(ROWS)
    synced(kiosk).close()
    lose(kiosk, 77)
    session = Session(kiosk)
    session.open()
    while not any(isinstance(heard, m.Checkpoint) for heard in session.heard):
        frame = session.next()
        assert frame is not None
        session.heard.append(codec.decode(frame))
        for answer in session.device.hear(frame, kiosk.clock.boot_us()):
            said = codec.decode(answer)
            if not isinstance(said, m.Repair):
                session.answer([answer])
    session.settle()
    assert not equal(kiosk, town)
    kiosk.clock.advance(us=SyncSettings().resend_us)
    session.settle()
    assert len(repairs(session)) == 1
    assert equal(kiosk, town)
    assert session.device.caught_up
    session.close()


def test_law_11_a_device_is_patched_so_often_in_an_hour_and_waits_without_counting(
    tmp_path: Path,
) -> None:
    """Over the server's number it hears when to come again; that costs it none of its own repairs."""
    town = Town(tmp_path / "town", settings=lambda s: replace(s, device_repairs_per_hour=1))
    kiosk = Kiosk(town, tmp_path / "kiosk")
    town.put(ROWS)
    synced(kiosk).close()
    lose(kiosk, 1)
    synced(kiosk).close()
    assert equal(kiosk, town)
    lose(kiosk, 2)
    session = synced(kiosk)
    refused = [heard for heard in session.heard if isinstance(heard, m.Refusal)]
    assert [(r.code, r.about) for r in refused] == [("overloaded", "all")]
    assert 0 < refused[0].retry_after_us <= HOUR_S * 1_000_000
    assert len(kiosk.memory.repairs_us["all"]) == 1
    assert behind(session)
    assert "all" in session.server.follows
    kiosk.clock.advance(us=refused[0].retry_after_us + 1)
    session.settle()
    assert equal(kiosk, town)
    assert session.device.caught_up
    session.close()
    kiosk.close()
    town.close()


def test_law_12_a_repair_beyond_what_was_sent_ends_the_session(town: Town, kiosk: Kiosk) -> None:
    """And one of a channel that is not followed is no fault: it crossed the end of it."""
    session = synced(kiosk)
    sums = bytes(16 * m.RANGES)
    session.server.hear(codec.encode(m.Repair(channel="segment:x", seq=9, digests=sums)))
    assert session.next() is None
    with pytest.raises(WireFailure, match="out_of_turn"):
        session.server.hear(codec.encode(m.Repair(channel="all", seq=9, digests=sums)))


def test_law_12_a_patch_that_nobody_asked_for_changes_nothing(town: Town, kiosk: Kiosk) -> None:
    """Neither in a session, nor with a row of another sub-range, a gap, or an epoch to come."""
    town.put(20)
    session = synced(kiosk)
    with town.store.read() as tx:
        row = tx.channel_rows("all", 0, 1)[0]
    key = kiosk.keyring.identity.digest_key
    assert key is not None
    home = digest.range_of(key, row.entity, row.view, row.version)
    good = m.Patch(channel="all", range=home, base=0, upto=20, epoch=0, more=False, rows=[row])
    before = kiosk.rows(), kiosk.stand()
    session.hand_over(codec.encode(good))
    assert (kiosk.rows(), kiosk.stand()) == before
    for bad, code in (
        ({"range": (home + 1) % 64}, "malformed"),
        ({"upto": 0}, "malformed"),
        ({"base": 5, "upto": 20}, "stale_delta"),
        ({"epoch": 9}, "lane_behind"),
        ({"rows": [msgspec.structs.replace(row, grant=3)]}, "no_permission"),
    ):
        with pytest.raises(WireFailure, match=code):
            kiosk.replica.apply_patch(msgspec.structs.replace(good, **bad), 0)
        assert (kiosk.rows(), kiosk.stand()) == before
    session.close()


def subrange_of(town: Town, n: int) -> int:
    return digest.range_of(town.authority.digest_key, f"item:{n}", "item_stats", 1)


def test_law_11_a_channel_is_looked_through_once_in_a_while_whoever_asks(town: Town, tmp_path: Path) -> None:
    """Ten devices at one head: one look, which serves at later ones, but for what changed: come again."""
    town.put(ROWS)
    kiosks = [Kiosk(town, tmp_path / f"kiosk{n}") for n in range(10)]
    for kiosk in kiosks:
        synced(kiosk).close()
        lose(kiosk, 77)
    for kiosk in kiosks:
        synced(kiosk).close()
        assert equal(kiosk, town)
    assert town.node.patches.looks == 1
    home = subrange_of(town, 77)
    elsewhere = [n for n in range(ROWS, ROWS + 100) if subrange_of(town, n) != home][:10]
    for number, kiosk in zip(elsewhere, kiosks, strict=True):  # the head moves, and the look still serves
        lose(kiosk, 77)
        town.put(1, start=number)
        session = synced(kiosk)
        assert equal(kiosk, town)
        assert len(repairs(session)) == 1
        session.close()
    assert town.node.patches.looks == 1
    changed = elsewhere[-1]
    synced(kiosks[0]).close()
    lose(kiosks[0], changed)  # in a sub-range that changed since
    session = synced(kiosks[0])
    assert town.node.patches.looks == 1
    assert [heard.code for heard in session.heard if isinstance(heard, m.Refusal)] == ["overloaded"]
    kiosks[0].clock.advance(us=SyncSettings().resend_us)
    session.settle()
    assert town.node.patches.looks == 2
    assert equal(kiosks[0], town)
    session.close()
    for kiosk in kiosks:
        kiosk.close()


def test_sums_from_before_rows_left_without_a_delete_serve_nobody(town: Town, kiosk: Kiosk) -> None:
    """The floor was raised since: what changed is not known any more, so it is looked through again."""
    town.put(ROWS)
    synced(kiosk).close()
    cursor, patches = kiosk.stand()[0], town.node.patches
    lose(kiosk, 77)
    assert len(patches.differing(repair_of(kiosk, cursor), 1)) == 1
    town.forget(3)
    with pytest.raises(NotNow):
        patches.differing(repair_of(kiosk, cursor), 1)
    patches.differing(repair_of(kiosk, cursor), 1 + town.settings.repair_look_us)
    assert patches.looks == 2


def test_a_clock_that_was_set_back_refuses_nobody_a_repair(town: Town) -> None:
    """Neither for what was asked for in the future, nor for a look from there."""
    patches, most = town.node.patches, town.settings.device_repairs_per_hour
    for _ in range(most):
        patches.admit("dev", 2**50)
    with pytest.raises(NotNow):
        patches.admit("dev", 2**50)
    patches.admit("dev", 2**49)


# ---- a big channel -----------------------------------------------------------------------------------------


def test_a_channel_of_100_000_rows_is_repaired_with_a_64th_of_them(tmp_path: Path) -> None:
    """One row is missing: about 1,563 of 100,000 rows come, and neither side looks at all for long."""
    town = Town(tmp_path / "town")
    kiosk = Kiosk(town, tmp_path / "kiosk")
    town.put(100_000)
    synced(kiosk).close()
    lose(kiosk, 77)
    session = Session(kiosk)
    began, slowest = time.perf_counter(), 0.0
    while not session.device.caught_up:
        at = time.perf_counter()
        frame = session.next()
        slowest = max(slowest, time.perf_counter() - at)
        if frame is None:
            session.tick()
        else:
            session.hand_over(frame)
    took = time.perf_counter() - began
    assert rows_of(session, m.Patch) < 2_000
    assert rows_of(session, m.Delta) == 0
    assert kiosk.stand() == town.head()
    print(f"repaired in {took:.2f} s, slowest server frame {slowest * 1000:.1f} ms")
    session.close()
    kiosk.close()
    town.close()


# ---- over sockets ------------------------------------------------------------------------------------------


async def test_a_linked_runtime_is_repaired_while_it_runs(tmp_path: Path) -> None:
    """Quiet and caught up; a row is lost here, the next change shows it, it is back; then diverged."""
    clock = ManualClock()
    async with ShopServer(tmp_path / "server", clock) as server:
        kiosk = RealKiosk(tmp_path / "kiosk", clock)
        await kiosk.enrol(server)

        async def publish(start: int, count: int) -> None:
            now_s = clock.now_us() // 1_000_000
            rows = [
                {"entity": f"item:{n}", "event_time": now_s, "values": {"popularity": 0.5}}
                for n in range(start, start + count)
            ]
            assert (await server.publish("item_stats", rows)).body["accepted"] == count

        await publish(0, 200)
        with kiosk.opened() as rt:
            states: list[str] = []
            link = rt.sync()
            link.on_state = lambda state, why: states.append(state)
            async with asyncio.timeout(30), link:
                await link.caught_up()
                for turn in range(4):
                    lose_in(rt, 7)
                    assert rt.read("item_stats:popularity", item="7").status is not er.Status.PRESENT
                    clock.advance(us=server.settings.repair_look_us)
                    await publish(300 + turn, 1)
                    if turn < 3:
                        while rt.read("item_stats:popularity", item="7").status is not er.Status.PRESENT:
                            await asyncio.sleep(0.01)
                        await link.caught_up()
                while link.state != "diverged":
                    await asyncio.sleep(0.01)
                assert states[-1] == "diverged"
                assert rt.read("item_stats:popularity", item="8").status is er.Status.PRESENT


def lose_in(rt: er.Runtime, n: int) -> None:
    with rt._database.write("lose") as tx:
        part = digest.from_bytes(tx.delete_row("all", f"item:{n}", "item_stats", 1) or b"")
        state = tx.channel("all")
        assert state is not None
        tx.set_channel("all", state.cursor, digest.add(state.digest, removed=part))
    rt._far_side._changed([(None, "all")])
