"""A withdrawn customer cannot be brought back: not by a queued row, an offline give, or a restored copy."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.sync.link import Link
from tests.support.clock import ManualClock
from tests.support.shop_server import CATALOG, ShopServer

ALICE, P = "alice", "personalization"
FILES = ("cache.db", "cache.db-keys", "device.key")
PATIENCE_S = 20


class Kiosk:
    """One kiosk's folder; opened and closed as its app would."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.folder, self.clock = folder, clock
        folder.mkdir()

    @contextmanager
    def opened(self, **more: object) -> Iterator[er.Runtime]:
        rt = er.Runtime.open(
            self.folder / "cache.db",
            catalog=er.Catalog.load(CATALOG),
            key=er.KeyFile(self.folder / "device.key"),
            clock=self.clock,
            recover="discard" if more else None,
        )
        with rt:
            yield rt

    async def enrol(self, server: ShopServer) -> None:
        token = (await server.call("POST", "/v1/device-tokens", {})).body["token"]
        with self.opened() as rt:
            await asyncio.to_thread(rt.enrol, str(server.client.make_url("")), token)
            async with synced(rt):
                pass

    def save(self, place: Path) -> None:
        shutil.copytree(self.folder, place)

    def restore(self, place: Path, names: tuple[str, ...] = FILES) -> None:
        for name in names:
            shutil.copy2(place / name, self.folder / name)


@asynccontextmanager
async def synced(rt: er.Runtime) -> AsyncIterator[Link]:
    async with rt.sync() as link:
        await asyncio.wait_for(link.caught_up(), PATIENCE_S)
        yield link
        await asyncio.wait_for(link.caught_up(), PATIENCE_S)


def shopping(rt: er.Runtime) -> None:
    rt.consent.give(ALICE, [P], notice="2026-11")
    for n in range(4):
        rt.track("view", user=ALICE, item=f"i{n}", price=1.5)
    rt.flush()


def reads(rt: er.Runtime) -> set[er.Status]:
    return {rt.read(f"activity:{name}", user=ALICE).status for name in ("views_5m", "last_items", "by_item")}


@pytest.fixture
async def server(tmp_path: Path, clock: ManualClock) -> AsyncIterator[ShopServer]:
    async with ShopServer(tmp_path / "server", clock) as made:
        yield made


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def revoked(server: ShopServer) -> str:
    answer = await server.revoke(ALICE, [P])
    assert answer.status == 202
    return str(answer.headers["Location"])


async def test_law_2_and_4_withdrawn_everywhere_and_proven(
    server: ShopServer, tmp_path: Path, clock: ManualClock
) -> None:
    kiosks = [Kiosk(tmp_path / f"kiosk{n}", clock) for n in range(3)]
    for kiosk in kiosks:
        await kiosk.enrol(server)
    for kiosk in kiosks[:2]:  # alice is seen on two of three
        with kiosk.opened() as rt:
            async with synced(rt):
                shopping(rt)
    location = await revoked(server)
    for kiosk in kiosks:
        with kiosk.opened() as rt:
            async with synced(rt):
                assert reads(rt) == {er.Status.REVOKED}
                assert rt.track("view", user=ALICE, item="x") is er.NO_CONSENT
    status = (await server.call("GET", location)).body
    assert status["state"] == "completed"
    counters = status["counters"]
    assert counters["targets"] == counters["receipts"] == 3
    assert counters["held_none"] == 1


async def test_law_2_a_give_recorded_offline_before_the_withdrawal_stays_dead(
    server: ShopServer, tmp_path: Path, clock: ManualClock
) -> None:
    one, other = Kiosk(tmp_path / "one", clock), Kiosk(tmp_path / "other", clock)
    for kiosk in (one, other):
        await kiosk.enrol(server)
    with one.opened() as rt:
        async with synced(rt):
            shopping(rt)
    with other.opened() as rt:
        async with synced(rt):
            pass
        shopping(rt)  # offline: recorded here, not yet at the server
    await revoked(server)
    with other.opened() as rt:
        async with synced(rt):
            assert reads(rt) == {er.Status.REVOKED}
            assert rt.consent.state(ALICE, P) != "given"
    answer = await server.call("GET", f"/v1/consents?subject={ALICE}&purpose={P}")
    assert answer.body["states"][P]["state"] == "withdrawn"
    with one.opened() as rt:
        async with synced(rt):
            assert reads(rt) == {er.Status.REVOKED}


async def test_law_4_yesterdays_database_and_keystore_do_not_open(
    server: ShopServer, tmp_path: Path, clock: ManualClock
) -> None:
    kiosk = Kiosk(tmp_path / "kiosk", clock)
    await kiosk.enrol(server)
    with kiosk.opened() as rt:
        async with synced(rt):
            shopping(rt)
    kiosk.save(tmp_path / "yesterday")
    with kiosk.opened() as rt:
        async with synced(rt):
            rt.consent.withdraw(ALICE, [P])
    kiosk.restore(tmp_path / "yesterday", ("cache.db", "cache.db-keys"))
    before = (kiosk.folder / "cache.db-keys").read_bytes()
    with pytest.raises(er.KeystoreMismatch), kiosk.opened():
        pass
    assert (kiosk.folder / "cache.db-keys").read_bytes() == before
    with kiosk.opened(recover="discard") as rt:
        assert reads(rt) == {er.Status.REVOKED}
        assert rt.consent.state(ALICE, P) != "given"


async def test_law_3_with_yesterdays_key_too_it_stays_closed_until_the_server_has_answered(
    server: ShopServer, tmp_path: Path, clock: ManualClock
) -> None:
    kiosk = Kiosk(tmp_path / "kiosk", clock)
    await kiosk.enrol(server)
    with kiosk.opened() as rt:
        async with synced(rt):
            shopping(rt)
            assert reads(rt) == {er.Status.PRESENT}
    kiosk.save(tmp_path / "yesterday")
    with kiosk.opened() as rt:
        async with synced(rt):
            rt.consent.withdraw(ALICE, [P])
    kiosk.restore(tmp_path / "yesterday")
    with kiosk.opened() as rt:
        assert rt.status()["lease"] == "locked"
        assert reads(rt) == {er.Status.REVOKED}
        assert rt.track("view", user=ALICE, item="x") is er.NO_CONSENT
        async with synced(rt):
            assert reads(rt) == {er.Status.REVOKED}
            assert rt.consent.state(ALICE, P) != "given"


async def test_law_3_the_lease_ends_whatever_the_wall_clock_says(
    server: ShopServer, tmp_path: Path, clock: ManualClock
) -> None:
    kiosk = Kiosk(tmp_path / "kiosk", clock)
    await kiosk.enrol(server)
    with kiosk.opened() as rt:
        async with synced(rt):
            shopping(rt)
        assert reads(rt) == {er.Status.PRESENT}
        clock.advance(seconds=23 * 3600)
        assert rt.status()["lease"] == "fresh"
        clock.set_wall(clock.now_us() - 48 * 3_600_000_000)
        clock.advance(seconds=2 * 3600)
        assert reads(rt) == {er.Status.REVOKED}
        assert rt.status()["lease"] == "locked"


async def test_law_10_a_kiosk_that_heard_nothing_catches_up_from_the_log(
    server: ShopServer, tmp_path: Path, clock: ManualClock
) -> None:
    kiosk = Kiosk(tmp_path / "kiosk", clock)
    await kiosk.enrol(server)
    for n in range(3):  # three publishes while nobody listens
        rows = [{"entity": f"item:i{n}", "event_time": 1_700_000_000 + n, "values": {"popularity": 0.5}}]
        answer = await server.publish("item_stats", rows)
        assert answer.body["accepted"] == 1
    with kiosk.opened() as rt:
        async with synced(rt):
            found = [rt.read("item_stats:popularity", item=f"i{n}", at=1_700_000_010) for n in range(3)]
    assert [f.value for f in found] == [0.5] * 3
