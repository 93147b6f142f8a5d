"""A simulated device: a whole runtime over an encrypted cache; its link is driven by hand."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

import edge_runtime as er
from edge_runtime.keys.keyring import DataKey, Identity
from edge_runtime.sync.dialogue import Dialogue
from edge_runtime.sync.link import Link
from edge_runtime.sync.personal_rows import open_delivered, stand_slot
from edge_runtime.sync.replica import Replica
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import digest, seal
from edge_runtime.wire.messages import Row
from tests.support.clock import ManualClock
from tests.support.simulation import shops
from tests.support.simulation.server import PATTERNS, SimServer

_values = msgspec.msgpack.Decoder(dict[str, object]).decode


SEGMENTS_OF = {"d0": ("segment:gold", "segment:new"), "d1": ("segment:gold",)}
"""What the app on a device follows besides `all`."""


class Seen(NamedTuple):
    """A mark that somebody could read on a device."""

    view: str
    entity: str
    """As the server names it: a plain id, a token, or a composite with one."""
    pair: tuple[str, str] | None
    """(subject, purpose); None for a row about nobody."""
    mark: int


class Look(NamedTuple):
    """What a read of one place says, as `Seen` names it."""

    view: str
    entity: str
    pair: tuple[str, str] | None
    mark: int | None
    status: er.Status


class SimDevice:
    """One device and all that rests on it. `folder` holds one copy after another, each what a crash left."""

    def __init__(
        self, name: str, server: SimServer, folder: Path, chance: random.Random, skew_us: int
    ) -> None:
        self.name, self._server, self._folder, self._chance = name, server, folder, chance
        self.clock = ManualClock(server.clock.now_us() + skew_us, 1_000_000_000 + skew_us % 77)
        self._life, self.version = 0, 0
        self.segments: tuple[str, ...] = SEGMENTS_OF.get(name, ())
        self.newest_event_us: dict[str, int] = {}
        """Subject -> the latest time of an event that was ever accepted here."""
        folder.mkdir(parents=True)
        self._place.mkdir()
        self.open()

    @property
    def _place(self) -> Path:
        return self._folder / f"life-{self._life}"

    # ---- living and dying --------------------------------------------------------------------------------

    def open(self) -> None:
        settings = er.Settings(commit_interval_us=3_600_000_000, sweep_interval_us=0, free_space_bytes=0)
        key = er.KeyFile(self._place / "device.key")
        catalog = shops.CATALOGS[self.version]
        self.rt = er.Runtime.open(
            self._place / "cache.db", catalog=catalog, key=key, clock=self.clock, settings=settings
        )
        self._enrol()
        self.link: Link = self.rt.sync(settings=SyncSettings(refollows=8))
        self.link.memory.wanted = self.segments
        self.replica: Replica = self.link._replica

    def _enrol(self) -> None:
        keyring, server = self.rt._keyring, self._server
        if keyring.identity.enrolled:
            return
        device_id = server.enrol(seal.public_bytes(keyring.signing_key()))
        authority = server.authority
        with self.rt._lock:
            keyring.set_identity(
                Identity(
                    device_id=device_id,
                    signing_seed=keyring.identity.signing_seed,
                    pseudonym_key=authority.pseudonym_key,
                    digest_key=authority.digest_key,
                    server_key=authority.public_key,
                    server_url="http://town",
                    patterns=PATTERNS,
                )
            )

    def close(self) -> None:
        self.rt.close()

    def crash(self) -> None:
        """`kill -9`: opened again from what is on disk; what only waited in memory is gone."""
        before = self._place
        self._life += 1
        shutil.copytree(before, self._place)
        self.rt.close()
        shutil.rmtree(before)
        self.open()

    def restart(self, version: int | None = None) -> None:
        """Closed in order and opened again, perhaps under another catalog."""
        self.rt.close()
        self.version = self.version if version is None else version
        self.open()

    # ---- its link ----------------------------------------------------------------------------------------

    @property
    def device_id(self) -> str:
        return self.rt._keyring.identity.device_id

    def dialogue(self) -> Dialogue:
        """A new session, as the link begins one."""
        self.replica.continuity.fit_catalog()
        own = self.link._sessions
        rooms = (own._replica, own._outbox, own._memory, own._settings, self._chance.randbytes)
        return Dialogue(*rooms, own._reporter)

    def boot_us(self) -> int:
        return self.clock.boot_us()

    # ---- what can be read here ---------------------------------------------------------------------------

    def readable(self) -> Iterator[Seen]:
        """Every mark that an app could read now."""
        return (Seen(*look[:3], look.mark) for look in self.looked() if look.mark is not None)

    def looked(self) -> Iterator[Look]:
        """Every place as an app would read it now, through the runtime's own reads."""
        for item in shops.ITEMS:
            for view in shops.SHARED_VIEWS[: 2 + self.version]:
                yield from self._seen(view, item, None, item=item[5:])
        for subject in shops.SUBJECTS:
            token = seal.subject_token(self.rt._keyring.pseudonym(subject))
            for view, purpose in (("profile", shops.P), ("habits", shops.M)):
                yield from self._seen(view, token, (subject, purpose), user=subject[5:])
            for item in shops.ITEMS[:2]:
                names = {"user": subject[5:], "item": item[5:]}
                yield from self._seen("basket", f"{token}|{item}", (subject, shops.P), **names)

    def _seen(self, view: str, entity: str, pair: tuple[str, str] | None, **ids: str) -> Iterator[Look]:
        found = self.rt.read(f"{view}:mark", **ids)
        assert found.value is None or isinstance(found.value, int)
        yield Look(view, entity, pair, found.value, found.status)

    def counted(self, subject: str, feature: str) -> object:
        """What an app reads as a number of events of a subject; None where it may not know.

        Under a wall clock that was set back a read lies before the newest event. A journal that was trimmed
        does not tell that any more: the runtime says so and gives no number (docs/features.md).
        """
        try:
            return self.rt.read(feature, user=subject[5:]).value
        except er.ReadInPast:
            newest_us = self.newest_event_us.get(subject, 0)
            assert self.clock.now_us() < newest_us, f"{self.name}: {subject} is read at or after {newest_us}"
            return None

    def held(self) -> Iterator[Seen]:
        """Every mark that rests under a living key, permission or not."""
        for key in self.rt._keyring.every_key():
            for row in self._sealed(key):
                if len(row.values) > 1 and "mark" in (values := _values(row.values)):
                    mark = values["mark"]
                    assert isinstance(mark, int)
                    yield Seen(row.view, row.entity, (key.subject, key.purpose), mark)

    def _sealed(self, key: DataKey) -> Iterator[Row]:
        stand = stand_slot(key)
        with self.rt._database.read() as tx:
            part = tx.personal_part(key.handle, b"", 1_000)
        for slot, _, sealed in part:
            if slot != stand:
                yield open_delivered(key, slot, sealed).row

    def personal_rows(self, channel: str) -> dict[tuple[str, str], bytes] | None:
        """(entity, view) -> values kept of a personal channel; None without a key."""
        for key in self.rt._keyring.every_key():
            name = seal.personal_channel(self.rt._keyring.pseudonym(key.subject), key.purpose)
            if name == channel:
                return {(row.entity, row.view): row.values for row in self._sealed(key)}
        return None

    def shared_rows(self, channel: str = "all") -> dict[tuple[str, str], bytes]:
        """(entity, view) -> values kept of rows about nobody that a channel brought; empty for a stub."""
        with self.rt._database.read() as tx:
            return {(row.entity, row.view): row.values for row, _ in tx.rows_in_channel(channel)}

    def lose_a_row(self, which: int) -> bool:
        """Damage that adds up: a row of `all` and its part of the digest are gone, as if never brought."""
        with self.rt._database.write("damage") as tx:
            rows, state = list(tx.rows_in_channel("all")), tx.channel("all")
            if not rows or state is None:
                return False
            row, row_hash = rows[which % len(rows)]
            tx.delete_row("all", row.entity, row.view, row.version)
            part = int.from_bytes(row_hash, "big")
            tx.set_channel("all", state.cursor, digest.add(state.digest, removed=part))
        self.replica._changed([(None, "all")])
        return True

    def stands(self) -> dict[tuple[str, bytes], tuple[int, int]]:
        """(channel, handle of its key or nothing) -> (cursor, digest)."""
        found: dict[tuple[str, bytes], tuple[int, int]] = {}
        with self.rt._database.read() as tx:
            for name, state in tx.channels().items():
                found[name, b""] = state.cursor, state.digest
        for key in self.rt._keyring.every_key():
            name = seal.personal_channel(self.rt._keyring.pseudonym(key.subject), key.purpose)
            stand = self.replica.stand(name)
            if stand is not None:
                found[name, key.handle] = stand
        return found
