"""The server of the simulated town: the rooms that `build_app` puts together, restarted from the disk."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from edge_runtime.wire import ticket
from sync_server.api import features, rooms
from sync_server.app import build_app
from sync_server.consent.decisions import API, Proposal, RecordedDecision
from sync_server.devices.enrolment import device_id_of
from sync_server.events import kinds, recipients
from sync_server.housekeeping import Housekeeping
from sync_server.restore.backup import back_up, back_up_keys
from sync_server.restore.rebuild import Sources, restore
from sync_server.settings import HOUR_US, MINUTE_US, Settings
from sync_server.store.destinations import DestinationRow
from sync_server.store.protocol import Store
from sync_server.store.recipients import RecipientRow
from sync_server.store.records import Committed
from sync_server.sync.node import Node
from tests.support.clock import ManualClock
from tests.support.simulation import shops

PATTERNS = ("all", "segment:*")
ONWARD = "crm"
KEPT_US = 48 * HOUR_US
"""How long a delete stays a row here: short, so that floors rise often."""


class SimServer:
    """One node. `folder` holds one data directory after another, each a copy that a crash left."""

    def __init__(
        self, folder: Path, clock: ManualClock, chance: random.Random, *, journalled: bool = False
    ) -> None:
        self._folder, self.clock, self._chance = folder, clock, chance
        self._life = 0
        self.deaf = False
        """Whether hints are lost: what commits is found by the next poll alone."""
        self._catalog = folder / "town.toml"
        folder.mkdir(parents=True)
        self._journal, self._backup = folder / "journal", folder / "backup"
        if journalled:
            self._journal.mkdir()
        self._catalog.write_text(shops.NEW)
        self._open()

    def _open(self) -> None:
        self.settings = Settings(
            data_dir=self._folder / f"life-{self._life}",
            catalog=self._catalog,
            partitions=3,
            lease_us=6 * HOUR_US,
            delete_kept_us=KEPT_US,
            session_age_us=6 * HOUR_US,
            ticket_life_us=30 * MINUTE_US,
            erasure_due_us=24 * HOUR_US,
            frame_rows=3,
            snapshots=2,
            journals=(self._journal,) if self._journal.exists() else (),
        )
        self.app = build_app(self.settings, self.clock, self._chance.randbytes)
        self.authority, self.office = self.app[rooms.AUTHORITY], self.app[rooms.OFFICE]
        self.store: Store = self.app[rooms.STORE]
        self.app[rooms.REGISTRY].register(shops.CATALOGS[0], self.clock.now_us())
        self.node: Node = self.app[rooms.SYNC_DOOR]._node
        chores = (self.app[rooms.COLLECTOR],)
        self._keeper = Housekeeping(self.store, self.node.admission, self.clock, self.settings, chores)
        heard = self.node.hints.committed

        def perhaps_heard(moved: Committed) -> None:
            if not self.deaf:
                heard(moved)

        listeners = self.store._listeners  # type: ignore[attr-defined]
        listeners[:] = [perhaps_heard if one == heard else one for one in listeners]

    def crash(self) -> None:
        """`kill -9`: what was committed is there, nothing else."""
        before = self.settings.data_dir
        self._life += 1
        after = self._folder / f"life-{self._life}"
        shutil.copytree(before, after)
        self.store.close()
        shutil.rmtree(before)
        self._open()

    def back_up(self) -> None:
        """Copy the store, and its keys elsewhere, in place of the copies before."""
        for place in (self._backup, self._backup.with_name("keys")):
            shutil.rmtree(place, ignore_errors=True)
        back_up(self.settings, self._backup, self.clock.now_us())
        back_up_keys(self.settings, self._backup.with_name("keys"), None, force=True)

    def restore(self) -> bool:
        """Lose all but the last backup and the journal, and begin anew from them; False without one."""
        if not self._backup.exists():
            return False
        before = self.settings.data_dir
        self._life += 1
        self.store.close()
        key = self._folder / "server.key"
        shutil.copy(self.settings.key_file, key)
        shutil.rmtree(before)
        keys, journals = self._backup.with_name("keys"), [self._journal]
        sources = Sources(backup=self._backup, authority=key, keys=keys, journals=journals)
        settings = replace(self.settings, data_dir=self._folder / f"life-{self._life}")
        done = restore(sources, settings, self.clock.now_us(), self._chance.randbytes)
        assert done.whole, done.why
        self._open()
        return True

    def close(self) -> None:
        self.store.close()

    # ---- what the platform does --------------------------------------------------------------------------

    def enrol(self, public_key: bytes) -> str:
        with self.store.write("enrol") as tx:
            tx.add_device(device_id_of(public_key), public_key, PATTERNS, self.clock.now_us())
        return device_id_of(public_key)

    def publish(
        self,
        view: str,
        entity: object,
        mark: int | None,
        *,
        age_s: int = 0,
        lag: int = 0,
        segments: Sequence[str] | None = None,
    ) -> tuple[str | None, int]:
        """Publish one row, a delete when `mark` is None; its refusal code, and the `as_of` it named.

        Args:
            age_s: how old its event time is.
            lag: how far behind the lane's head the publishing job had read.
            segments: those of its entity from now on; None leaves them.
        """
        door: Any = SimpleNamespace(app=self.app)  # what the publishing door asks of a request
        check = features._row_check(door, self.app[rooms.REGISTRY].active.view(view))
        now_us = self.clock.now_us()
        said: dict[str, object] = {"deleted": True} if mark is None else {"values": {"mark": mark}}
        if segments is not None:
            said["segments"] = list(segments)
        row = check.check({"entity": entity, "event_time": now_us // 1_000_000 - age_s, **said})
        with self.store.write("publish") as tx:
            as_of = max(tx.lane_head() - lag, 0)
            publish = features.Publish(view=view, rows=[], as_of=as_of)
            return features._publishing(door, check, publish).write_rows(tx, [row])[0].code, as_of

    def decide(self, subject: str, purpose: str, state: str, lag: int = 0) -> RecordedDecision:
        """A decision through the API, by somebody who had seen the lane up to `lag` before its head."""
        with self.store.write("decide") as tx:
            base = max(tx.lane_head() - lag, 0)
            pseudonym, now_us = self.authority.pseudonym(subject), self.clock.now_us()
            proposal = Proposal(pseudonym, purpose, state, "2026-11", base, now_us, API)
            return self.office.decide(tx, proposal)

    def revoke(self, subject: str, initiator: Literal["subject", "controller"]) -> None:
        """Everything of a subject."""
        with self.store.write("revoke") as tx:
            self.office.revoke(tx, self.authority.pseudonym(subject), None, initiator, "2026-11")

    def ticket(self, device_id: str, subject: str, purposes: tuple[str, ...]) -> bytes:
        """As the app's backend gets it for one device."""
        until_us = self.clock.now_us() + self.settings.ticket_life_us
        pseudonym = self.authority.pseudonym(subject)
        return ticket.issue(self.authority.signing, device_id, pseudonym, purposes, until_us)

    def ask_onward(self) -> None:
        """From now on another system is asked about every revocation, and told by a stream that it polls."""
        stream = DestinationRow(
            *(ONWARD, "poll", "", "", b"", (kinds.ACCEPTED,), None, ""), None, "enabled", "", 0
        )
        with self.store.write("recipient") as tx:
            tx.destinations.put(stream)
            recipients.register(tx, RecipientRow(ONWARD, None, ONWARD, 0), self.settings.recipients)

    def acknowledge(self, most: int) -> list[str]:
        """The other system acknowledges what it was told and answers what it owes; returns for what."""
        now_us = self.clock.now_us()
        with self.store.write("recipient_answer") as tx:
            for told in tx.events.owed(ONWARD, 1_000):
                tx.events.acknowledged(ONWARD, told.event.jti, now_us)
            owing = tx.recipients.owing(ONWARD)[:most]
            for revocation in owing:
                recipients.answer(tx, revocation, ONWARD, "erased", "", now_us)
        return owing

    # ---- what it does by itself --------------------------------------------------------------------------

    def poll(self) -> None:
        """Read the heads, as the node does every few seconds."""
        self.node.heads.poll()
        self.node.admission.tick(self.clock.now_us())

    def sweep(self) -> None:
        """Forget old deletes: floors rise."""
        self._keeper.sweep()

    def drop_fences(self) -> None:
        """As the chore does: what every device has heard stays in the lane for nobody."""
        with self.store.write("drop_fences") as tx:
            tx.forgetting.drop_fences(self.clock.now_us() - self.settings.evidence_kept_us, 100)

    def lane_head(self) -> int:
        with self.store.read() as tx:
            return tx.lane_head()

    def head(self, channel: str) -> tuple[int, int]:
        with self.store.read() as tx:
            found = tx.channel_head(channel)
        return found.seq, found.digest
