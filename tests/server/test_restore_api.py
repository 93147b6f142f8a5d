"""`/v1/restore` and what a closed server says at its other doors."""

from __future__ import annotations

import shutil
from pathlib import Path

from sync_server.restore.backup import back_up, back_up_keys
from sync_server.restore.rebuild import Sources, restore
from sync_server.settings import Settings
from tests.support.clock import ManualClock
from tests.support.entropy import CountingEntropy
from tests.support.shop_server import FakeDevice, ShopServer


async def restored(folder: Path, clock: ManualClock) -> ShopServer:
    """A shop with a device and a consent, lost and restored without a journal."""
    async with ShopServer(folder / "old", clock) as shop:
        await FakeDevice(shop, 1).enrol()
        assert (await shop.give("alice")).status == 201
        made = await shop.call("POST", "/v1/tokens", {"name": "job", "scopes": ["operator"]})
        (folder / "token").write_text(made.body["token"])
        assert (await shop.call("GET", "/v1/restore")).status == 404
        back_up(shop.settings, folder / "backup", clock.now_us())
        back_up_keys(shop.settings, folder / "keys", None, force=True)
    shutil.rmtree(folder / "old")
    sources = Sources(backup=folder / "backup", keys=folder / "keys")
    done = restore(sources, Settings(data_dir=folder / "new"), clock.now_us(), CountingEntropy())
    assert (done.whole, done.why) == (False, "there is no journal")
    return ShopServer(folder / "new", clock)


async def test_a_closed_server_says_so_at_every_door_and_takes_denials(tmp_path: Path) -> None:
    """Gives and rows of subjects wait; withdrawals, shared rows and the probes do not."""
    async with await restored(tmp_path, ManualClock()) as shop:
        state = (await shop.call("GET", "/v1/restore")).body
        assert (state["state"], state["waiting"], state["opened_by"], state["lost"]) == ("closed", 1, None, 0)
        ready = await shop.call("GET", "/readyz", token=None)
        assert ready.status == 200
        assert ready.body["restore"] == {
            "state": "closed",
            "waiting": 1,
            "open_at_latest": state["open_at_latest"],
        }
        refused = await shop.give("bob")
        assert (refused.status, refused.body["code"]) == (503, "catching_up")
        assert refused.headers["Retry-After"] == "10"
        rows = [{"entity": "user:alice", "event_time": 1_700_000_000, "values": {"country": "DE"}}]
        personal = await shop.publish("profile", rows, as_of=1)
        assert (personal.status, personal.body["code"]) == (503, "catching_up")
        items = [{"entity": "item:1", "event_time": 1_700_000_000, "values": {"popularity": 0.5}}]
        assert (await shop.publish("item_stats", items)).body["accepted"] == 1
        assert (await shop.revoke("alice", **{"Idempotency-Key": "k"})).status == 202
        token = (tmp_path / "token").read_text()
        assert (await shop.call("GET", "/v1/restore", token=token)).status == 401
        metrics = (await shop.call("GET", "/metrics")).body.decode()
        assert "edge_sync_restore_closed 1" in metrics
        assert "edge_sync_restore_waiting 1" in metrics


async def test_an_operator_opens_it_once(tmp_path: Path) -> None:
    async with await restored(tmp_path, ManualClock()) as shop:
        opened = await shop.call("POST", "/v1/restore/open")
        assert (opened.status, opened.body["state"], opened.body["opened_by"]) == (200, "open", "operator")
        again = await shop.call("POST", "/v1/restore/open")
        assert (again.status, again.body["code"]) == (409, "not_restored")
        assert (await shop.give("bob")).status == 201
    async with ShopServer(tmp_path / "new", shop.clock) as shop:  # also after its next start
        assert (await shop.call("GET", "/v1/restore")).body["state"] == "open"
