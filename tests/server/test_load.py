"""The load tool: its devices keep the rules of the wire, its figures are right, a whole run ends."""

from __future__ import annotations

import json
import random
import resource
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import State
from edge_runtime.wire.failure import WireFailure
from sync_server.clock import SystemClock
from sync_server.load import command, figures
from sync_server.load.command import LoadFailed, Plan
from sync_server.load.device import Enrolled, Reader, SimDevice, Turnaway
from sync_server.sync.stream import DeviceSession
from tests.support.clock import ManualClock
from tests.support.shop_server import ShopServer
from tests.support.town import ALICE, Town

SEED = 20261130


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town", settings=lambda s: replace(s, frame_rows=10))
    yield made
    made.close()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[ShopServer]:
    """At the present time: the tool stamps its probes by the clock of this machine."""
    async with ShopServer(tmp_path / "data", ManualClock(SystemClock().now_us())) as server:
        yield server


class Talk:
    """A simulated device and its session on the server."""

    def __init__(self, town: Town, device: SimDevice) -> None:
        self.device, self.subscription = device, town.node.hints.subscribe()
        self.server = DeviceSession(town.node, self.subscription)
        device.begin()

    def settle(self) -> None:
        while True:
            if self.subscription.wake.is_set():
                self.subscription.wake.clear()
                self.server.look()
            frame = self.server.next()
            if frame is None:
                return
            for answer in self.device.hear(frame):
                self.server.hear(answer)


def simulated(town: Town, *, leases: bool = False, whole: bool = True) -> SimDevice:
    key = Ed25519PrivateKey.generate()
    device_id = town.enrol(seal.public_bytes(key))
    enrolled = Enrolled(device_id, key, town.authority.digest_key, town.authority.public_key, ("all",))
    return SimDevice(enrolled, Reader(), random.Random(SEED).randbytes, leases=leases, whole=whole)


@pytest.mark.parametrize("whole", [True, False])
def test_a_simulated_device_ends_equal_to_the_server(town: Town, whole: bool) -> None:
    """First sync, changes, deletes, a lease and a denial: cursor and digest are the server's."""
    town.put(35)
    device = simulated(town, leases=True, whole=whole)
    talk = Talk(town, device)
    talk.settle()
    assert device.fresh
    town.put(5, start=33)
    town.decide(ALICE, "given")
    town.decide(ALICE, "withdrawn")
    with town.store.write("delete") as tx:
        tx.put_row("all", msgspec.structs.replace(town.item_row(1), deleted=True, values=b""))
    town.node.hints.channel_moved("all")
    talk.settle()
    assert device.fresh
    assert device.denials == 1
    assert device.mismatched == 0
    assert device.cursors["all"] == town.head()[0]
    assert not whole or device.digests["all"] == town.head()[1]


def test_a_simulated_device_refuses_what_breaks_a_rule(town: Town) -> None:
    """A gap, an epoch ahead, another's signature, a lane that goes back: each its code, nothing moved."""
    town.put(5)
    device = simulated(town)
    Talk(town, device).settle()
    before = dict(device.cursors)
    delta = m.Delta(channel="all", base=5, upto=9, epoch=0, replacing=False, more=False, rows=[])
    checkpoint = m.Checkpoint(channel="all", seq=5, digest=bytes(16), whole=True, signature=bytes(64))
    cases: list[tuple[m.Message, str]] = [
        (msgspec.structs.replace(delta, base=4), "stale_delta"),
        (msgspec.structs.replace(delta, epoch=1), "lane_behind"),
        (checkpoint, "bad_signature"),
    ]
    for message, code in cases:
        with pytest.raises(WireFailure, match=code):
            device.hear(codec.encode(message))
    assert device.cursors == before
    with pytest.raises(Turnaway, match="going_away"):
        device.hear(codec.encode(m.Refusal(code="going_away", retry_after_us=7)))


def test_a_wrong_digest_is_noticed_and_said(town: Town) -> None:
    """The device that compares digests says so; it is not fresh."""
    town.put(5)
    device = simulated(town)
    talk = Talk(town, device)
    talk.settle()
    device.digests["all"] ^= 1
    town.put(1, start=9)
    town.node.hints.channel_moved("all")
    talk.settle()
    assert (device.mismatched, device.fresh) == (1, False)
    assert device.state is State.LIVE


# ---- figures ---------------------------------------------------------------------------------------------


def test_figures_of_nothing_and_of_many() -> None:
    """No division by nothing; nearest rank; every value falls into one bucket."""
    assert figures.summary([])["p99"] is None
    assert figures.histogram([], "ms") == []
    values = [float(n) for n in range(1, 101)]
    assert figures.summary(values) == {"count": 100, "p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}
    rng = random.Random(SEED)
    for _ in range(200):
        many = [rng.lognormvariate(0, 4) for _ in range(rng.randrange(1, 50))]
        counted = figures.buckets(many)
        assert sum(count for _, _, count in counted) == len(many)
        assert len(counted) <= 15
        assert all(a < b for a, b, _ in counted)
        lines = figures.histogram(many, "s")
        assert lines[-1].endswith("100.0 %")


# ---- the run ---------------------------------------------------------------------------------------------


def plan(server: ShopServer, devices: int, **more: object) -> Plan:
    usual = Plan(
        url=str(server.client.make_url("")),
        token=(server.settings.token_file).read_text().strip(),
        devices=devices,
        per_s=1_000,
        patience_s=20,
        hold_s=0,
        probes=2,
        view=None,
        channels=(),
        whole=10,
        leases=False,
        keep=False,
        quiet=True,
        seed=SEED,
    )
    return replace(usual, **more)  # type: ignore[arg-type]


async def test_a_run_measures_every_device_and_takes_them_out_again(shop: ShopServer) -> None:
    """All fresh, each probe seen by each device, no fault; afterwards none of them is enrolled any more."""
    rows = [{"entity": f"item:{n}", "event_time": 1, "values": {"popularity": 0.5}} for n in range(50)]
    await shop.publish("item_stats", rows)
    result, text = await command.run(plan(shop, 20))
    assert result["fresh"]["devices"] == 20
    assert (result["faults"], result["mismatched"]) == ({}, 0)
    assert result["publish_to_device_ms"]["count"] == 40
    assert result["rows"] >= 20 * 50 + 40
    assert "20 devices at" in text
    assert "Publish to device" in text
    json.dumps(result)
    listed = (await shop.call("GET", "/v1/devices")).body
    assert listed["counts"] == {"enrolled": 20, "live": 0, "revoked": 20}


async def test_a_run_that_cannot_be_says_why(shop: ShopServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong token, no such view, nobody there, too few files: one sentence each."""
    for wrong, why in (
        (plan(shop, 1, token="no"), "unauthorized"),
        (plan(shop, 1, view="nowhere"), "no pushed view"),
        (plan(shop, 1, url="http://127.0.0.1:9"), "does not answer"),
        (plan(shop, 10**9), "open files"),
    ):
        if why == "open files":
            monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
        with pytest.raises(LoadFailed, match=why):
            await command.run(wrong)
