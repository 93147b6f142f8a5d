"""A server's sync rooms and whole devices in one process, without sockets: tests hand the frames over."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgpack
import msgspec

from edge_runtime.catalog import Catalog
from edge_runtime.consent.decisions import Consents
from edge_runtime.consent.lease import ColdStart, Leases
from edge_runtime.consent.opening import open_cache
from edge_runtime.keys.identity import Identity
from edge_runtime.keys.providers import KeyFile
from edge_runtime.sync.dialogue import Dialogue
from edge_runtime.sync.memory import Memory
from edge_runtime.sync.outbox import Outbox
from edge_runtime.sync.replica import Replica
from edge_runtime.sync.reporting import Reporter
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import State
from sync_server.aggregates.collector import Collector
from sync_server.aggregates.collector_key import load_collector
from sync_server.aggregates.rounds import Rounds
from sync_server.catalog.purpose_leases import PurposeLeases
from sync_server.consent.decisions import API, Proposal, RecordedDecision
from sync_server.consent.office import ConsentOffice
from sync_server.devices.authority import load_authority
from sync_server.devices.enrolment import device_id_of
from sync_server.settings import Settings
from sync_server.store.sqlite import SqliteStore
from sync_server.sync.node import open_node
from sync_server.sync.stream import DeviceSession
from tests.support.clock import ManualClock
from tests.support.entropy import CountingEntropy
from tests.support.shop import shop_catalog

P = "personalization"
ALICE, BOB = "user:alice", "user:bob"


class Town:
    """The server: its real store, consent office, rounds and node in `folder`."""

    def __init__(
        self,
        folder: Path,
        clock: ManualClock | None = None,
        *,
        settings: Callable[[Settings], Settings] = lambda s: s,
        catalog: Catalog | None = None,
        leases: PurposeLeases | None = None,
    ) -> None:
        self.folder, self.catalog, self.leases = folder, catalog, leases or {}
        folder.mkdir(parents=True, exist_ok=True)
        self.clock = clock or ManualClock()
        self.entropy = CountingEntropy()
        self.settings = settings(Settings(data_dir=folder))
        path = self.settings.database
        self.authority = load_authority(self.settings.key_file, self.entropy, store_exists=path.exists())
        self.store = SqliteStore(
            path, self.settings.key_database, digest_key=self.authority.digest_key, entropy=self.entropy
        )
        said = (self.settings, self.entropy, lambda: [P, "measurement"], lambda: self.leases)
        self.office = ConsentOffice(self.store, self.authority, self.clock, *said)
        collector = load_collector(self.settings.collector_file, self.entropy)
        keys = (self.authority.tag_key, self.authority.signing, collector.public_key())
        self.rounds = Rounds(self.clock, self.entropy, *keys)
        rooms = (self.store, self.authority, self.office, self.rounds, self.entropy)
        self.node = open_node(*(self.settings, self.clock, *rooms), lambda: self.catalog, lambda: self.leases)
        told = self.node.hints.rounds_moved
        self.collector = Collector(self.settings, self.store, self.rounds, collector, told)

    def close(self) -> None:
        self.store.close()

    def enrol(self, public_key: bytes, patterns: Sequence[str] = ("all",)) -> str:
        """Enrol a device without the HTTP door; returns its id."""
        with self.store.write("enrol") as tx:
            tx.add_device(device_id_of(public_key), public_key, patterns, self.clock.now_us())
        return device_id_of(public_key)

    def pseudonym(self, subject: str) -> bytes:
        return self.authority.pseudonym(subject)

    def put(self, count: int, *, channel: str = "all", pad: int = 0, start: int = 0) -> None:
        """Publish `count` item rows."""
        with self.store.write("publish") as tx:
            for n in range(start, start + count):
                tx.put_row(channel, self.item_row(n, pad=pad))

    def forget(self, n: int) -> None:
        """Delete an item's row, and forget the delete: `all` has a new floor."""
        with self.store.write("forget") as tx:
            tx.put_row("all", msgspec.structs.replace(self.item_row(n), deleted=True, values=b""))
            tx.drop_deletes(2**62)

    def item_row(self, n: int, *, pad: int = 0, values: Mapping[str, object] | None = None) -> m.Row:
        plain = {"popularity": (n % 100) / 100, "co_bought": {noise(pad, n): 1.0}}
        body = plain if values is None else values
        return m.Row(0, f"item:{n}", "item_stats", 1, n, n, 0, False, packed(body))

    def put_profile(self, subject: str, country: str = "DE", grant: int | None = None) -> None:
        """Publish a subject's profile row under its live grant (or another)."""
        pseudonym = self.pseudonym(subject)
        with self.store.write("publish") as tx:
            live = tx.decision_state(pseudonym, P).grant if grant is None else grant
            row = self.profile_row(subject, live, country)
            tx.put_row(seal.personal_channel(pseudonym, P), row, pseudonym, P)

    def profile_row(self, subject: str, grant: int, country: str = "DE", seq: int = 0) -> m.Row:
        token = seal.subject_token(self.pseudonym(subject))
        return m.Row(seq, token, "profile", 1, 5, 6, grant, False, packed({"country": country}))

    def decide(self, subject: str, state: str, purpose: str = P) -> RecordedDecision:
        """A decision through the API."""
        with self.store.write("decide") as tx:
            return self.office.decide(
                tx,
                Proposal(
                    self.pseudonym(subject),
                    purpose,
                    state,
                    "2026-11",
                    tx.lane_head(),
                    self.clock.now_us(),
                    API,
                ),
            )

    def lane_head(self) -> int:
        with self.store.read() as tx:
            return tx.lane_head()

    def head(self, channel: str = "all") -> tuple[int, int]:
        with self.store.read() as tx:
            found = tx.channel_head(channel)
        return found.seq, found.digest


class Kiosk:
    """A device: its real keys, cache, consent room and replica in `folder`."""

    def __init__(
        self,
        town: Town,
        folder: Path,
        *,
        clock: ManualClock | None = None,
        patterns: Sequence[str] = ("all",),
        cold_start: ColdStart = "server",
        settings: SyncSettings | None = None,
        catalog: Catalog | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.town, self.folder, self.clock = town, folder, clock or town.clock
        self.settings = settings or SyncSettings()
        self.keyring, self.database = open_cache(str(folder / "cache.db"), KeyFile(folder / "device.key"))
        self.catalog = catalog or shop_catalog()
        self._enrol(patterns)
        self.leases = Leases(self.clock, self.keyring, self.database, cold_start)
        self.consents = Consents(
            self.catalog,
            self.keyring,
            self.database,
            self.clock,
            self.leases,
            forget=lambda subject, purposes: {"memory": 0},
        )
        self.changes: list[tuple[str | None, str]] = []
        self.replica = Replica(
            self.catalog,
            self.database,
            self.keyring,
            self.consents,
            self.leases,
            self.changes.extend,
            self.clock,
        )
        self.memory = Memory(())
        self.outbox = Outbox(self.database, self.consents, self.settings)

    def _enrol(self, patterns: Sequence[str]) -> None:
        if self.keyring.identity.enrolled:
            return
        town, key = self.town, self.keyring.signing_key()
        self.keyring.set_identity(
            Identity(
                device_id=town.enrol(seal.public_bytes(key), patterns),
                signing_seed=self.keyring.identity.signing_seed,
                pseudonym_key=town.authority.pseudonym_key,
                digest_key=town.authority.digest_key,
                server_key=town.authority.public_key,
                server_url="http://town",
                patterns=tuple(patterns),
            )
        )

    def close(self) -> None:
        self.database.close()

    @property
    def device_id(self) -> str:
        return self.keyring.identity.device_id

    def give(self, subject: str, purpose: str = P) -> None:
        self.consents.give(subject, [purpose], notice="2026-11")

    def personal_channel(self, subject: str, purpose: str = P) -> str:
        return seal.personal_channel(self.replica.pseudonym(subject), purpose)

    def stand(self, channel: str = "all") -> tuple[int, int]:
        """(cursor, digest) of a shared channel."""
        with self.database.read() as tx:
            state = tx.channel(channel)
        return (0, 0) if state is None else (state.cursor, state.digest)

    def rows(self) -> dict[str, bytes]:
        """entity -> values of the rows about nobody."""
        with self.database.read() as tx:
            return {row.entity: row.values for row in tx.rows()}

    def sealed_rows(self, subject: str, purpose: str = P) -> int:
        """How many sealed things hang on the subject's key (rows, and one for where the channel stands)."""
        key = self.keyring.key(subject, purpose)
        if key is None:
            return 0
        with self.database.read() as tx:
            return len(tx.personal_rows(key.handle))

    def dialogue(self, reporter: Reporter | None = None) -> Dialogue:
        chance = random.Random(self.clock.boot_us()).randbytes
        return Dialogue(self.replica, self.outbox, self.memory, self.settings, chance, reporter)


class Session:
    """One conversation between a kiosk and the town. Nothing moves unless the test says so."""

    def __init__(self, kiosk: Kiosk, reporter: Reporter | None = None) -> None:
        self.kiosk, self.node = kiosk, kiosk.town.node
        self.subscription = self.node.hints.subscribe()
        self.server = DeviceSession(self.node, self.subscription)
        self.device = kiosk.dialogue(reporter)
        self.heard: list[m.Message] = []
        """What the device heard, in order."""
        self.said: list[m.Message] = []

    def next(self) -> bytes | None:
        """The server's next frame, without handing it over."""
        if self.subscription.wake.is_set():
            self.subscription.wake.clear()
            self.server.look()
        return self.server.next()

    def hand_over(self, frame: bytes) -> None:
        """Give the device one frame, and the server what the device says to it."""
        self.heard.append(codec.decode(frame))
        self.answer(self.device.hear(frame, self.kiosk.clock.boot_us()))

    def answer(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self.said.append(codec.decode(frame))
            self.server.hear(frame)

    def step(self) -> bool:
        """One frame from server to device; False when the server has nothing to say."""
        frame = self.next()
        if frame is None:
            return False
        self.hand_over(frame)
        return True

    def tick(self) -> None:
        self.answer(self.device.tick(self.kiosk.clock.boot_us()))

    def settle(self, limit: int = 10_000) -> None:
        """Let both talk until neither has anything to say."""
        for _ in range(limit):
            if not self.step():
                self.tick()
                if not self.step():
                    return
        raise AssertionError("the two never fall silent")

    def open(self) -> None:
        """Talk until the session is live."""
        while self.device.state is not State.LIVE:
            assert self.step()

    def close(self) -> None:
        self.device.close()
        self.server.close()
        self.subscription.close()

    def heard_of(self, kind: type[m.Message]) -> list[m.Message]:
        return [message for message in self.heard if isinstance(message, kind)]


def noise(length: int, seed: int) -> str:
    """Text of so many letters that packing makes hardly smaller."""
    return base64.b64encode(random.Random(seed).randbytes(length)).decode()[:length]


def packed(values: Mapping[str, object]) -> bytes:
    """Values of a row."""
    return bytes(msgpack.packb(values))
