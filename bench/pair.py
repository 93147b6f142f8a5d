"""A server's rooms and a whole device in one process, without a socket between them: what benches drive.

Everything is the product's own: the server's store, office and fan-out, the device's runtime and dialogue.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

import edge_runtime as er
from edge_runtime.keys.identity import Identity
from edge_runtime.sync.dialogue import Dialogue
from edge_runtime.sync.memory import Memory
from edge_runtime.sync.outbox import Outbox
from edge_runtime.sync.replica import Replica
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from sync_server.aggregates.collector_key import load_collector
from sync_server.aggregates.rounds import Rounds
from sync_server.clock import SystemClock
from sync_server.consent.office import ConsentOffice
from sync_server.devices.authority import load_authority
from sync_server.devices.enrolment import device_id_of
from sync_server.devices.entropy import system_entropy
from sync_server.settings import Settings
from sync_server.store.sqlite import SqliteStore
from sync_server.sync.node import open_node
from sync_server.sync.stream import DeviceSession

PURPOSE = "personalization"


class ServerRooms:
    """A server on a fresh folder: store, consent office, fan-out."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        settings, clock = Settings(data_dir=folder), SystemClock()
        self.authority = load_authority(settings.key_file, system_entropy, store_exists=False)
        self.store = SqliteStore(
            settings.database,
            settings.key_database,
            digest_key=self.authority.digest_key,
            entropy=system_entropy,
        )
        office = ConsentOffice(self.store, self.authority, clock, settings, system_entropy, lambda: [PURPOSE])
        collector = load_collector(settings.collector_file, system_entropy)
        keys = (self.authority.tag_key, self.authority.signing, collector.public_key())
        rounds = Rounds(clock, system_entropy, *keys)
        self.node = open_node(settings, clock, self.store, self.authority, office, rounds, system_entropy)

    def enrol(self, rt: er.Runtime) -> None:
        """Make `rt` a device of this server, without the HTTP door between them."""
        identity = rt._keyring.identity
        public_key = seal.public_bytes(rt._keyring.signing_key())
        with self.store.write("enrol") as tx:
            tx.add_device(device_id_of(public_key), public_key, ("all",), SystemClock().now_us())
        rt._keyring.set_identity(
            Identity(
                device_id=device_id_of(public_key),
                signing_seed=identity.signing_seed,
                pseudonym_key=self.authority.pseudonym_key,
                digest_key=self.authority.digest_key,
                server_key=self.authority.public_key,
                server_url="http://bench",
                patterns=("all",),
            )
        )

    def put(self, rows: Iterable[m.Row], channel: str = "all") -> None:
        """Publish rows about nobody."""
        with self.store.write("publish") as tx:
            for row in rows:
                tx.put_row(channel, row)

    def put_personal(self, subject: str, rows: Iterable[m.Row]) -> None:
        """Publish rows of one subject under its live grant."""
        pseudonym = self.authority.pseudonym(subject)
        channel = seal.personal_channel(pseudonym, PURPOSE)
        with self.store.write("publish") as tx:
            grant = tx.decision_state(pseudonym, PURPOSE).grant
            for row in rows:
                tx.put_row(channel, msgspec.structs.replace(row, grant=grant), pseudonym, PURPOSE)

    def frames(self, channel: str, cursor: int) -> Iterator[tuple[bytes, int]]:
        """(frame, cursor after it) of everything after `cursor`, as the fan-out makes them; 0 replaces."""
        replacing = cursor == 0
        while True:
            built = self.node.fanout.delta(channel, cursor, replacing=replacing)
            yield built.frame, built.upto
            if not built.more:
                return
            cursor, replacing = built.upto, False


@contextmanager
def device(folder: Path, catalog: er.Catalog, server: ServerRooms) -> Iterator[er.Runtime]:
    """A runtime on a fresh encrypted file, enrolled at `server`."""
    folder.mkdir()
    key = er.KeyFile(folder / "device.key")
    with er.Runtime.open(folder / "cache.db", catalog=catalog, key=key) as rt:
        server.enrol(rt)
        yield rt


def converse(server: ServerRooms, rt: er.Runtime) -> Replica:
    """One session between the two until neither has anything to say; returns the device's replica."""
    settings = SyncSettings()
    replica = rt._far_side._replica()
    outbox = Outbox(rt._database, rt._consents, settings)
    dialogue = Dialogue(replica, outbox, Memory(()), settings, os.urandom, None)
    subscription = server.node.hints.subscribe()
    session = DeviceSession(server.node, subscription)
    boot_us = er.SystemClock().boot_us
    quiet = False
    while not quiet:
        subscription.wake.clear()
        session.look()
        said, quiet = dialogue.tick(boot_us()), True
        while (frame := session.next()) is not None:
            said, quiet = said + dialogue.hear(frame, boot_us()), False
        for answer in said:
            session.hear(answer)
        quiet = quiet and not said
    assert dialogue.caught_up
    dialogue.close()
    session.close()
    subscription.close()
    return replica
