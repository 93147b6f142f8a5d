"""Bad input on the wire, a table: the code, whose fault it is, whether to come again, and what happens next.

Whatever goes wrong goes wrong for an hour: never a loop; then all is well by itself.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgpack
import msgspec
import pytest

from edge_runtime.errors import SyncRefused
from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.refusal import CODES
from sync_server.errors import ROW_CODES
from sync_server.features.values import RowFault
from tests.support.simulation import shops
from tests.support.simulation.cable import Cable
from tests.support.simulation.chance import seeded
from tests.support.simulation.device import SimDevice
from tests.support.simulation.world import World

Proxy = Callable[[str, bytes], list[bytes]]
ALICE, P = "user:alice", shops.P
HOUR_S = 3_600
SESSIONS_AN_HOUR = 400
"""Full jitter up to 32 s is 225 sessions an hour, by and large; a loop would be thousands."""


class Hour:
    """A town with one device that holds rows about alice; somebody stands on the way."""

    def __init__(self, folder: Path) -> None:
        self.world = World(1, folder / "town", devices=1)
        self.device: SimDevice = self.world.devices["d0"]
        self.cable: Cable = self.world.cables["d0"]
        self.said: Counter[str] = Counter()
        """Message, or code of a refusal -> how often the device said it."""
        for item in range(5):
            self.publish(item)
        self.world.do_give(0, 0, 0)
        self.world.rest()
        self.publish_about_alice()
        self.world.rest()

    def publish(self, item: int) -> None:
        self.world.do_publish(1, 0, item, 0, 0, False)

    def publish_about_alice(self) -> None:
        self.world.do_publish(3, 0, 0, 0, 0, False)

    def held(self) -> str:
        """A hash of everything that can be read on the device, and of where its channels stand."""
        sums = hashlib.blake2b()
        for seen in self.device.held():
            sums.update(repr(seen).encode())
        sums.update(repr((self.device.shared_rows(), self.device.stands())).encode())
        return sums.hexdigest()

    def go_wrong(self, proxy: Proxy, seconds: int = HOUR_S) -> int:
        """Meddle with every frame for a time, with new rows now and then; how many sessions that made."""
        before = self.cable.sessions
        said = self.cable._said

        def heard(message: m.Message) -> None:
            self.said[message.code if isinstance(message, m.Refusal) else type(message).__name__] += 1
            said(message)

        self.cable._said, self.cable.proxy = heard, proxy
        self.cable.cut()
        for second in range(seconds):
            if second % 300 == 0:
                self.publish(second // 300 % 5)
            for clock in (self.world.server.clock, self.device.clock):
                clock.advance(seconds=1)
            self.world.server.poll()
            self.cable.connect()
            for _ in range(400):
                if not (self.cable.pull() | self.cable.deliver_down() | self.cable.deliver_up()):
                    break
            else:
                raise AssertionError("a loop within a second")
            self.cable.tick()
        self.cable._said = said
        return self.cable.sessions - before

    def well_again(self) -> None:
        """Nobody meddles any more: all becomes equal, and nothing forbidden was read meanwhile."""
        self.cable.proxy = lambda direction, frame: [frame]
        self.cable.cut()
        self.world.touch("d0", server=True)
        self.world.check()
        self.world.rest()


@pytest.fixture
def hour(tmp_path: Path) -> Iterator[Hour]:
    with seeded(1):
        made = Hour(tmp_path)
        yield made
        made.world.close()


def changed(kind: type[m.Message], **fields: object) -> Proxy:
    """Every message of one kind comes with other fields."""

    def proxy(direction: str, frame: bytes) -> list[bytes]:
        message = codec.decode(frame)
        if not isinstance(message, kind):
            return [frame]
        return [codec.encode(msgspec.structs.replace(message, **fields))]

    return proxy


def instead(kind: type[m.Message], frame: bytes) -> Proxy:
    """In place of every message of one kind comes this."""
    return lambda direction, one: [frame if isinstance(codec.decode(one), kind) else one]


def with_gap(direction: str, frame: bytes) -> list[bytes]:
    """Every delta begins one further on than it does."""
    message = codec.decode(frame)
    if not isinstance(message, m.Delta) or message.replacing:
        return [frame]
    return [codec.encode(msgspec.structs.replace(message, base=message.base + 1, rows=[]))]


def lane_with_gap(direction: str, frame: bytes) -> list[bytes]:
    message = codec.decode(frame)
    if not isinstance(message, m.Lane):
        return [frame]
    return [codec.encode(msgspec.structs.replace(message, base=message.base + 1, upto=message.upto + 1))]


def spoken_in(version: int, kind: type[m.Message]) -> Proxy:
    def proxy(direction: str, frame: bytes) -> list[bytes]:
        if not isinstance(codec.decode(frame), kind):
            return [frame]
        return [bytes(msgpack.packb({**msgpack.unpackb(frame), "v": version}))]

    return proxy


def bomb(size: int) -> bytes:
    return msgspec.msgpack.encode(m.Packed(size=size, body=zlib.compress(bytes(30_000_000))))


@dataclass(frozen=True)
class Bad:
    """One row of the table."""

    proxy: Proxy
    code: str
    """With which one side refuses it."""
    fault: str
    retry: bool
    """Both as `refusal.CODES` says."""
    sessions: int = SESSIONS_AN_HOUR
    """Most sessions that an hour of it makes: one for what ends no session."""


TABLE = {
    "a Welcome with a wrong signature": Bad(
        changed(m.Welcome, signature=bytes(64)), "bad_signature", "device", False
    ),
    "a Hello with a wrong signature": Bad(
        changed(m.Hello, signature=bytes(64)), "bad_signature", "device", False
    ),
    "a checkpoint with a wrong signature": Bad(
        changed(m.Checkpoint, signature=bytes(64)), "bad_signature", "device", False
    ),
    "a lease with a wrong signature": Bad(
        changed(m.Lease, signature=bytes(64)), "bad_signature", "device", False
    ),
    "yesterday's Welcome": Bad(changed(m.Welcome, nonce=bytes(32)), "bad_nonce", "device", False),
    "rows of an epoch that was not drained": Bad(
        changed(m.Delta, epoch=1 << 40), "lane_behind", "device", True
    ),
    "a gap between two deltas": Bad(with_gap, "stale_delta", "server", True),
    "a gap in the lane": Bad(lane_with_gap, "stale_delta", "server", True),
    "a frame that is too large": Bad(
        instead(m.Welcome, bytes(codec.FRAME_LIMIT_BYTES + 1)), "too_large", "device", False
    ),
    "a frame that is too large for the server": Bad(
        instead(m.Hello, bytes(codec.FRAME_LIMIT_BYTES + 1)), "too_large", "device", False
    ),
    "a zip bomb that says how large it is": Bad(
        instead(m.Delta, bomb(1 << 20)), "too_large", "device", False
    ),
    "a zip bomb that lies": Bad(instead(m.Delta, bomb(1_000)), "malformed", "device", False),
    "nonsense": Bad(instead(m.Lane, b"\xc1nonsense"), "malformed", "device", False),
    "a version that is not spoken": Bad(spoken_in(99, m.Welcome), "unsupported_version", "device", False),
    "a version that the server does not speak": Bad(
        spoken_in(99, m.Hello), "unsupported_version", "device", False
    ),
    "a refusal that nobody knows": Bad(
        instead(m.Welcome, codec.encode(m.Refusal(code="because"))), "internal", "server", True
    ),
    "a message out of turn": Bad(
        instead(m.Welcome, codec.encode(m.Drop(channel="all"))), "out_of_turn", "device", False
    ),
    "a channel that nobody may follow": Bad(
        changed(m.Hello), "channel_forbidden", "device", False, sessions=2
    ),
    "a lease asked for at an old epoch": Bad(
        changed(m.LeaseRequest, upto=0), "lane_behind", "device", True, sessions=2
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_bad_input_for_an_hour_is_refused_by_its_code_and_never_a_loop(hour: Hour, name: str) -> None:
    """Refused each time, nothing taken in; the device stays away longer and longer; then all is well."""
    bad = TABLE[name]
    meaning = CODES[bad.code]
    assert (meaning.fault, meaning.retry) == (bad.fault, bad.retry)
    if name == "a channel that nobody may follow":
        hour.device.link.memory.wanted = ("secret",)
    refused = Counter(hour.cable.refusals)
    sessions = hour.go_wrong(bad.proxy)
    assert 1 <= sessions <= bad.sessions, sessions
    if bad.sessions == SESSIONS_AN_HOUR:
        count = hour.cable.refusals[bad.code] - refused[bad.code]
        assert count >= sessions - 1 > 60, (count, sessions, hour.cable.refusals)
    hour.device.link.memory.wanted = ()
    hour.well_again()


def test_a_channel_that_nobody_may_follow_is_asked_for_once_a_session(hour: Hour) -> None:
    """`channel_forbidden`: the rest of the session goes on, and nobody asks again in it."""
    hour.device.link.memory.wanted = ("secret",)
    hour.go_wrong(lambda direction, frame: [frame], seconds=600)
    assert hour.cable.dialogue is not None
    assert hour.cable.dialogue.refused == {"secret": "channel_forbidden"}
    assert hour.said["Hello"] == 1
    assert hour.said["Follow"] <= 1
    assert hour.device.stands()["all", b""] == hour.world.server.head("all")


def test_a_gap_is_followed_anew_so_often_and_then_the_session_is_left(hour: Hour) -> None:
    """`stale_delta`: at once from our cursor, eight times a session at most."""
    before = hour.held()
    sessions = hour.go_wrong(with_gap)
    assert hour.said["Follow"] <= 10 * sessions
    assert hour.said["stale_delta"] > sessions
    assert hour.held() == before  # nothing of any of it was taken in


def test_rows_that_do_not_add_up_are_repaired_so_often_in_an_hour(hour: Hour) -> None:
    """`digest_mismatch`: three repairs an hour, then the channel is `diverged` and all else goes on."""

    def other_rows(direction: str, frame: bytes) -> list[bytes]:
        message = codec.decode(frame)
        if not isinstance(message, m.Delta | m.Patch) or not message.rows or message.channel != "all":
            return [frame]
        rows = [msgspec.structs.replace(row, created_us=row.created_us + 1) for row in message.rows]
        return [codec.encode(msgspec.structs.replace(message, rows=rows))]

    hour.world.known[hour.device.name].damaged.add("all")
    sessions = hour.go_wrong(other_rows, seconds=3_500)
    assert sessions <= 2
    assert hour.said["Repair"] <= 3
    assert hour.device.link.memory.diverged == {"all"}
    for clock in (hour.world.server.clock, hour.device.clock):
        clock.advance(seconds=HOUR_S)
    hour.cable.tainted = True
    hour.well_again()


@pytest.mark.parametrize("wall_us", [0, 1_000_000, 2_208_988_800_000_000], ids=["epoch", "1970", "2040"])
def test_a_device_whose_clock_is_wrong_by_decades_syncs_and_is_leased(hour: Hour, wall_us: int) -> None:
    """No refusal at all: nobody trusts a device's clock, and its lease counts on another."""
    hour.device.clock.set_wall(wall_us)
    refused = dict(hour.cable.refusals)
    hour.publish(0)
    hour.publish_about_alice()
    hour.world.do_deny(0, 1, 0, False)
    hour.world.rest()
    assert hour.cable.refusals == refused
    assert hour.device.rt._leases.state == "fresh"


# ---- about somebody ----------------------------------------------------------------------------------------


def test_a_ticket_of_another_device_opens_nothing_on_either_side(hour: Hour) -> None:
    """`ticket_invalid`: the app's fault, not tried again by itself; the device refuses it first."""
    assert (CODES["ticket_invalid"].fault, CODES["ticket_invalid"].retry) == ("caller", False)
    server, device = hour.world.server, hour.device
    hour.world.do_decide(1, 0, 0, 0)  # bob, elsewhere
    hour.world.rest()
    stolen = server.ticket("dev-other", "user:bob", (P,))
    with pytest.raises(SyncRefused, match="ticket_invalid"):
        device.rt.consent.admit("user:bob", [P], stolen)
    assert device.rt.consent.state("user:bob", P) == "unknown"
    device.rt.consent.admit("user:bob", [P], server.ticket(device.device_id, "user:bob", (P,)))
    channel = seal.personal_channel(hour.world.pseudonym("user:bob"), P)
    device.link.memory.tickets[channel] = stolen
    hour.go_wrong(lambda direction, frame: [frame], seconds=600)
    assert hour.cable.dialogue is not None
    assert hour.cable.dialogue.refused == {channel: "ticket_invalid"}
    assert hour.said["Follow"] <= 3
    assert hour.cable.refusals.get("ticket_invalid") is None  # the session goes on


def test_rows_of_a_stale_grant_are_refused_at_the_door_and_stubs_on_the_device(hour: Hour) -> None:
    """`stale_grant`: the publisher reads the lane again. What gets to a device all the same says nothing."""
    assert (CODES["stale_grant"].fault, CODES["stale_grant"].retry) == ("caller", True)
    world, device = hour.world, hour.device
    world.do_deny(0, 0, 0, False)
    world.rest()
    world.do_give(0, 0, 0)
    world.rest()
    code, as_of = world.server.publish("profile", ALICE, world.oracle.next_mark(), lag=world.oracle.ledger)
    assert (code, as_of) == ("stale_grant", 0)
    token = seal.subject_token(world.pseudonym(ALICE))
    row = m.Row(10**6, token, "profile", 1, 5, 6, 1, False, codec.pack({"mark": 10**6}))
    channel = seal.personal_channel(world.pseudonym(ALICE), P)
    cursor = device.replica.cursor(channel)
    late = m.Delta(channel=channel, base=cursor, upto=10**6, epoch=0, replacing=False, more=False, rows=[row])
    applied = device.replica.apply(late)
    assert (applied.kept, dict(applied.stubs)) == (0, {"another grant": 1})
    world.touch("d0")
    world.check()


def test_a_value_out_of_the_catalogs_range_is_refused_at_the_door_and_left_out_on_the_device(
    hour: Hour,
) -> None:
    """At the server's door `wrong_type` and its kin, the publisher's fault. On a device, whose catalog may be
    another: the feature is left out, its row and digest stand, nobody asks for it again."""
    with pytest.raises(RowFault) as caught:
        hour.world.server.publish("stock", "item:0", 2**63)
    assert caught.value.code in ROW_CODES

    def out_of_range(direction: str, frame: bytes) -> list[bytes]:
        message = codec.decode(frame)
        if not isinstance(message, m.Delta) or message.channel != "all":
            return [frame]
        rows = [msgspec.structs.replace(row, values=codec.pack({"mark": "many"})) for row in message.rows]
        return [codec.encode(msgspec.structs.replace(message, rows=rows))]

    sessions = hour.go_wrong(out_of_range, seconds=600)
    assert sessions <= 2
    assert all(codec.unpack(values, 99) != {"mark": "many"} for values in hour.device.shared_rows().values())


def test_every_code_of_the_table_is_one_that_may_be_said() -> None:
    assert {bad.code for bad in TABLE.values()} <= CODES.keys()
    with pytest.raises(AssertionError):
        WireFailure("no_such_code", "")
