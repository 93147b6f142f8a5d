"""A town whose rows come on demand, and a device with a whole runtime that asks for them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import edge_runtime as er
from edge_runtime.consent.opening import open_cache
from edge_runtime.keys.identity import Identity
from edge_runtime.sync.dialogue import Dialogue
from edge_runtime.sync.reporting import Reporter
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from sync_server.settings import Settings as ServerSettings
from tests.support.clock import ManualClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.shop import SHOP
from tests.support.town import P, Session, Town, packed

HOUR_S = 3_600
WARM = """
[views.item_vec]
version = 1
entity = "item"
source = "server"
ttl = "1h"
owner = "search"
tier = "warm"
[views.item_vec.features]
look = { dtype = "float32[2]" }
rank = { dtype = "float64", range = [0, 1], default = 0.5 }

[views.taste]
version = 1
entity = ["user", "item"]
source = "server"
purpose = "personalization"
ttl = "1h"
owner = "search"
tier = "warm"
[views.taste.features]
likes = { dtype = "float64" }

[views.secret]
version = 1
entity = "item"
source = "server"
ttl = "1h"
owner = "search"
tier = "cold"
[views.secret.features]
margin = { dtype = "float64" }

[services.near]
version = 1
features = ["item_vec:rank"]
"""


def warm_catalog(version: int = 1) -> er.Catalog:
    """The shop's, with views on demand about items, and about a user and an item; and a cold one."""
    return er.Catalog.from_toml((SHOP + WARM).replace("version = 1", f"version = {version}", 1))


def warm_town(folder: Path, clock: ManualClock | None = None, **limits: Any) -> Town:
    """A town that has this catalog in force."""

    def limited(settings: ServerSettings) -> ServerSettings:
        return replace(settings, **limits)

    return Town(folder, clock, settings=limited, catalog=warm_catalog())


def publish(
    town: Town,
    view: str,
    *parts: str,
    at_us: int | None = None,
    created_us: int | None = None,
    deleted: bool = False,
    grant: int | None = None,
    **values: object,
) -> None:
    """Write a row that stands in no channel: `publish(town, "taste", "user:alice", "item:a", likes=1.0)`."""
    subject = next((town.pseudonym(part) for part in parts if part.startswith("user:")), None)
    token = None if subject is None else seal.subject_token(subject)
    entity = "|".join(token if token and part.startswith("user:") else part for part in parts)
    now_us = town.clock.now_us()
    with town.store.write("publish") as tx:
        live = 0 if subject is None else tx.decision_state(subject, P).grant
        row = m.Row(
            *(0, entity, view, 1, now_us if at_us is None else at_us),
            *(now_us if created_us is None else created_us, live if grant is None else grant),
            *(deleted, b"" if deleted else packed(values)),
        )
        standing = tx.row_state(entity, view, 1)
        tx.write_row(standing, row, (), subject, None if subject is None else P)


class Device:
    """A runtime in `folder`, enrolled in the town; made again after `close`, as after a restart."""

    def __init__(
        self,
        town: Town,
        folder: Path,
        *,
        catalog: er.Catalog | None = None,
        settings: er.Settings | None = None,
        sync: SyncSettings | None = None,
        disk: FaultyDisk | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.town, self.clock = town, town.clock
        catalog, settings = catalog or warm_catalog(), settings or er.Settings(sweep_interval_us=0)
        path, key = folder / "cache.db", er.KeyFile(folder / "device.key")
        if disk is None:
            self.rt = er.Runtime.open(path, catalog=catalog, key=key, clock=self.clock, settings=settings)
        else:
            keyring, database = open_cache(str(path), key, vfs=disk.name)
            self.rt = er.Runtime(catalog, database, keyring, self.clock, settings)
        self._enrol()
        link = self.rt._far_side.link("http://town", sync)
        self.memory, self.replica = link.memory, link._replica
        self._outbox, self._settings = link._sessions._outbox, link._sessions._settings
        self.replica.continuity.fit_catalog()

    def _enrol(self) -> None:
        keyring, town = self.rt._keyring, self.town
        if keyring.identity.enrolled:
            return
        key = keyring.signing_key()
        keyring.set_identity(
            Identity(
                device_id=town.enrol(seal.public_bytes(key)),
                signing_seed=keyring.identity.signing_seed,
                pseudonym_key=town.authority.pseudonym_key,
                digest_key=town.authority.digest_key,
                server_key=town.authority.public_key,
                server_url="http://town",
                patterns=("all",),
            )
        )

    def dialogue(self, reporter: Reporter | None = None) -> Dialogue:
        """One conversation, for `town.Session`."""
        chance = random.Random(self.clock.boot_us()).randbytes
        return Dialogue(self.replica, self._outbox, self.memory, self._settings, chance, reporter)

    def status(self, ref: str, **entities: str) -> er.Status:
        """How a feature reads now."""
        return self.rt.read(ref, **entities).status

    def stands(self) -> Mapping[str, tuple[int, int]]:
        """Cursor and digest of each shared channel."""
        with self.rt._database.read() as tx:
            return {name: (state.cursor, state.digest) for name, state in tx.channels().items()}

    def close(self) -> None:
        self.rt.close()


def live(device: Device) -> Session:
    session = Session(device)  # type: ignore[arg-type]
    session.settle()
    return session


def with_alice(device: Device) -> Session:
    """A session that follows alice's channel."""
    device.rt.consent.give("alice", [P], notice="2026-11")
    session = live(device)
    assert any(isinstance(said, m.Follow) for said in session.said)
    return session


def vec(device: Device, item: str = "a") -> er.Status:
    return device.status("item_vec:look", item=item)


def likes(device: Device, user: str = "alice", item: str = "a") -> er.Status:
    return device.status("taste:likes", user=user, item=item)
