"""What a person can learn of one device: how far it is, what is wrong with it and what helps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from sync_server.cli.doctor import device_text
from sync_server.devices.findings import Facts, findings
from sync_server.settings import HOUR_US, Settings
from sync_server.store.records import ChannelHead, DeviceRow
from sync_server.sync.presence import Presence, Standing
from tests.support.shop_server import FakeDevice, ShopServer
from tests.support.town import ALICE, Kiosk, Session, Town

NOW_US = 10**15


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town", settings=lambda s: replace(s, frame_rows=10, snapshots=1))
    yield made
    made.close()


def standing(**more: object) -> Standing:
    usual = Standing(
        state="live",
        stage="in",
        transport="websocket",
        since_us=NOW_US - 5,
        until_us=None,
        lane_sent=3,
        lane_acked=3,
        cursors={"all": 7},
        compared={"all": 7},
        snapshots={},
        mismatched={},
        refused={},
    )
    return replace(usual, **more)  # type: ignore[arg-type]


def codes(facts: Facts) -> list[str]:
    found = findings(facts)
    assert all(f.text and f.do for f in found)
    return [f.code for f in found]


def test_findings_say_what_is_wrong_and_nothing_else() -> None:
    """One table of what can be: facts on the left, findings on the right."""
    device = DeviceRow("dev-1", bytes(32), ("all",), 1, NOW_US - 10, 3, 0, NOW_US + 20 * HOUR_US, False)
    well = Facts(device, standing(), {"all": ChannelHead(7, 0, 0)}, 3, NOW_US, Settings(Path("nowhere")))
    gone = standing(until_us=NOW_US - 1)

    def of(**more: object) -> Facts:
        return replace(well, device=replace(device, **more))  # type: ignore[arg-type]

    table: list[tuple[Facts, list[str]]] = [
        (well, []),
        (of(revoked=True), ["revoked"]),
        (replace(of(contact_us=None), standing=None), ["never_seen"]),
        (replace(well, standing=None), ["offline"]),
        (replace(well, standing=gone), ["offline"]),
        (replace(of(lease_until_us=NOW_US - 1), standing=gone), ["locked"]),
        (replace(of(lease_until_us=NOW_US + HOUR_US), standing=None), ["locks_soon"]),
        (of(lane_acked=1), ["lane_behind"]),
        (replace(well, standing=standing(stage="guest")), ["no_rows"]),
        (replace(well, heads={"all": ChannelHead(9, 0, 0)}), ["channel_behind"]),
        (replace(well, standing=standing(snapshots={"all": "waiting"})), ["snapshot_waits"]),
        (replace(well, standing=standing(snapshots={"all": "streaming"})), []),
        (replace(well, standing=standing(mismatched={"all": 2})), ["digest_differs"]),
        (replace(well, standing=standing(refused={"x": "channel_forbidden"})), ["channel_refused"]),
    ]
    for facts, wanted in table:
        assert codes(facts) == wanted


def test_no_finding_names_a_personal_channel() -> None:
    """A pseudonym stands for a person, also in what an operator reads."""
    device = DeviceRow("dev-1", bytes(32), ("all",), 1, NOW_US, 3, 0, 0, False)
    personal = "~abcdefghijklmnopqrstuvwxyz/ads"
    here = standing(mismatched={personal: 1}, refused={personal: "no_permission"}, cursors={personal: 1})
    for finding in findings(Facts(device, here, {}, 3, NOW_US, Settings(Path("nowhere")))):
        assert "~" not in finding.text + finding.do
    assert "~" not in repr(here)


def test_a_session_is_shown_as_it_stands_and_remembered_after_its_end(town: Town, tmp_path: Path) -> None:
    """Cursor, checkpoint, lane, snapshots that flow and wait, what was refused and what differed."""
    town.put(35)
    first, second = (Kiosk(town, tmp_path / f"kiosk{n}") for n in range(2))
    one, two = Session(first), Session(second)
    one.open()
    while len(one.heard_of(m.Delta)) < 2:
        one.step()
    two.settle()
    presence = town.node.presence
    here, waiting = presence.of(first.device_id), presence.of(second.device_id)
    assert here is not None
    assert waiting is not None
    assert (here.snapshots, waiting.snapshots) == ({"all": "streaming"}, {"all": "waiting"})
    assert 0 < here.cursors["all"] < 35
    one.settle()
    two.settle()
    town.decide(ALICE, "withdrawn")
    one.server.hear(codec.encode(m.Follow(channel="secret", cursor=0)))
    one.server.hear(codec.encode(m.Refusal(code="digest_mismatch", about="all")))
    one.settle()
    here = presence.of(first.device_id)
    assert here is not None
    assert (here.cursors, here.compared) == ({"all": 35}, {"all": 35})
    assert (here.lane_sent, here.lane_acked, here.until_us) == (1, 1, None)
    assert (here.refused, here.mismatched) == ({"secret": "channel_forbidden"}, {"all": 1})
    one.close()
    ended = presence.of(first.device_id)
    assert ended is not None
    assert ended.until_us == town.clock.now_us()
    assert ended.cursors == {"all": 35}
    assert len(presence) == 1
    for device in (first, second):
        device.close()


def test_law_11_the_gone_are_forgotten_in_the_order_of_their_going() -> None:
    """And a device that came back before its old session ended is here."""

    class Here:
        def __init__(self, device_id: str) -> None:
            self.device_id = device_id

        def standing(self) -> Standing:
            return standing()

    presence = Presence(2)
    for name in "abc":
        session = Here(name)
        presence.came(session)
        presence.left(session, standing(until_us=1))
    assert [presence.of(name) is None for name in "abc"] == [True, False, False]
    old, new = Here("d"), Here("d")
    presence.came(old)
    presence.came(new)
    presence.left(old, standing(until_us=1))
    found = presence.of("d")
    assert found is not None
    assert found.until_us is None


async def test_the_api_and_the_text_show_a_device(shop: ShopServer) -> None:
    """Without a session, unknown, and as a person reads it."""
    device = await FakeDevice(shop, 1).enrol()
    reply = await shop.call("GET", f"/v1/devices/{device.device_id}")
    assert reply.status == 200
    assert reply.body["session"] is None
    assert [f["code"] for f in reply.body["findings"]] == ["never_seen"]
    text = device_text(reply.body)
    assert "not connected" in text
    assert "never_seen" in text
    assert (await shop.call("GET", "/v1/devices/dev-none")).status == 404
