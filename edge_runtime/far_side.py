"""The far side of a runtime: enrolment, the links to its server, and the rounds they answer.

Everything that speaks to a network is imported when it is first asked for, so a runtime that never syncs
loads none of it.
"""

from __future__ import annotations

import secrets
import threading
from base64 import urlsafe_b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from edge_runtime.aggregates.counts import standing
from edge_runtime.cache.database import Database
from edge_runtime.cache.room import Room
from edge_runtime.catalog import Catalog
from edge_runtime.clock import Clock
from edge_runtime.consent.decisions import Consents
from edge_runtime.consent.lease import Leases
from edge_runtime.consent.record import ConsentRecord
from edge_runtime.consent.registry_pin import check_pinned
from edge_runtime.consent.shut_out import ShutOut
from edge_runtime.errors import DatabaseUnreadable, MalformedRequest, NotEnrolled, SyncRefused
from edge_runtime.keys.keyring import Keyring
from edge_runtime.presence import Presence
from edge_runtime.serving.value import FeatureValue
from edge_runtime.settings import Settings
from edge_runtime.wire.seal import personal_channel

if TYPE_CHECKING:
    from edge_runtime.aggregates.report import Reporter
    from edge_runtime.sync.background import BackgroundSync
    from edge_runtime.sync.fetch import Fetch
    from edge_runtime.sync.fetch_queue import FetchQueue
    from edge_runtime.sync.link import Link, OnState
    from edge_runtime.sync.replica import Replica
    from edge_runtime.sync.settings import SyncSettings


class FarSide:
    """Ties one runtime's rooms to links. Thread-safe.

    Args:
        lock: the runtime's lock; enrolment changes the identity under it.
        presence: whose channels are worth following.
        room: says whether values of rows may be kept now.
        changed: called after rows changed, see `Replica`; takes the runtime's lock itself.
        read: `read(ref, subject)` for reports, judged now.
    """

    def __init__(
        self,
        catalog: Catalog,
        database: Database,
        keyring: Keyring,
        consents: Consents,
        leases: Leases,
        clock: Clock,
        lock: threading.RLock,
        presence: Presence,
        *,
        settings: Settings,
        room: Room,
        changed: Callable[[Sequence[tuple[str | None, str]]], None],
        read: Callable[[str, str], FeatureValue],
    ) -> None:
        self._catalog, self._database, self._keyring = catalog, database, keyring
        self._consents, self._leases, self._clock, self._lock = consents, leases, clock, lock
        self._presence = presence
        self._settings, self._room, self._changed, self._read = settings, room, changed, read
        self._fetches: FetchQueue | None = None
        self._background: list[BackgroundSync] = []
        self._links: WeakSet[Link] = WeakSet()
        self._tickets: dict[str, bytes] = {}
        """Personal channel -> the backend's ticket, for every link of this runtime."""
        consents.queued = self._poke
        self.shut_out = ShutOut(database, keyring, consents, leases, changed)

    def enrol(self, url: str, token: str) -> str:
        """See `Runtime.enrol`."""
        from edge_runtime.sync.background import run_alone
        from edge_runtime.sync.enrol import enrol

        if self.shut_out.standing == "in":
            return run_alone(enrol(self._keyring, url, token, lock=self._lock, accepts=self._pinnable))
        self.shut_out.finish()
        fresh = secrets.token_bytes(32)
        made = run_alone(
            enrol(self._keyring, url, token, lock=self._lock, seed=fresh, accepts=self._pinnable)
        )
        self.shut_out.ended()
        return made

    def _pinnable(self, registry_key: bytes | None) -> None:
        check_pinned(self._catalog, registry_key, self._database)

    def rotate_identity(self) -> None:
        """See `Runtime.rotate_identity`."""
        if not self._keyring.enrolled:
            raise NotEnrolled("a standalone runtime signs for nobody; enrol first")
        self._keyring.begin_key_change()
        with self._lock:
            self._poke()

    def link(self, url: str | None, settings: SyncSettings | None, on_state: OnState | None = None) -> Link:
        """See `Runtime.sync`."""
        from edge_runtime.sync.link import Link

        with self._lock:
            link = Link(self._replica(), url, self._clock, settings, self._reporter(), on_state=on_state)
            link.memory.tickets = self._tickets
            link.memory.fetches = self._queue()
            self._links.add(link)
            return link

    def background(
        self, url: str | None, settings: SyncSettings | None, on_state: OnState | None = None
    ) -> BackgroundSync:
        """See `Runtime.sync_in_background`."""
        from edge_runtime.sync.background import BackgroundSync

        background = BackgroundSync(self.link(url, settings, on_state))
        with self._lock:
            self._background = [b for b in self._background if not b.closed] + [background]
        return background

    def admit(self, subject: str, purposes: Sequence[str], ticket: str) -> ConsentRecord:
        """See `Runtime.admit`."""
        with self._lock:
            raw = _ticket_bytes(ticket)
            record = self._consents.admit(subject, purposes, raw)
            self._note(record.subject)
            pseudonym = self._keyring.pseudonym(record.subject)
            self._tickets.update({personal_channel(pseudonym, p): raw for p in record.purposes})
            self._poke()
            return record

    def fetch(self, view: str, entities: Mapping[str, str | Collection[str]]) -> Fetch:
        """See `Runtime.fetch`."""
        from edge_runtime.sync.fetch import Fetch
        from edge_runtime.sync.fetch_places import places_of

        if not self._keyring.enrolled:
            raise NotEnrolled("no identity at a server yet; enrol first")
        places = places_of(self._catalog, view, entities, self._settings.id_limit_bytes)
        fetch = Fetch(places[0].view_key, len(places))
        held = [p for p in places if p.subject is None or self._keyring.key(p.subject, p.purpose or "")]
        for _ in range(len(places) - len(held)):  # nothing of these subjects can be kept here
            fetch.failed(SyncRefused("no_permission"))
        with self._lock:
            for place in held:
                if place.subject is not None:
                    self._note(place.subject)
            self._queue().add(held, fetch)
            self._poke()
        return fetch

    def leave(self, subject: str) -> None:
        """A subject walked away: its channels close; what came through them stays where it is."""
        if self._keyring.keys_of(subject):
            self._presence.left(subject, self._clock.now_us())
            self._poke()

    def _note(self, subject: str) -> None:
        kind, _, bare = subject.partition(":")
        self._presence.note({kind: bare}, self._clock.now_us())

    def forget(self, subject: str, purposes: Collection[str], code: str) -> None:
        """Nothing of a subject under these purposes is wanted on demand any more; `code` says why."""
        if self._fetches is not None:
            self._fetches.forget(subject, purposes, SyncRefused(code))

    def status(self) -> dict[str, object] | None:
        """How the link that runs stands, see `Link.status`; None when none does."""
        return next((link.status() for link in self._links if link.running), None)

    def aggregates(self) -> dict[str, int]:
        """What became of aggregate reports and offers, see `counts.COUNTS`; empty when unreadable."""
        with suppress(DatabaseUnreadable), self._database.read() as tx:
            return standing(tx)
        return {}

    def close(self) -> None:
        """End every link that runs in a thread of its own. Never call it under the runtime's lock."""
        with self._lock:
            running = list(self._background)
        for background in running:
            background.close()
        if self._fetches is not None:
            self._fetches.close()

    def _queue(self) -> FetchQueue:
        """What is wanted on demand, for every link of this runtime; call it under the lock."""
        from edge_runtime.sync.fetch_queue import FetchQueue

        if self._fetches is None:
            self._fetches = FetchQueue(self._settings.fetch_waiting)
        return self._fetches

    def _poke(self) -> None:
        """A decision or receipt waits; called under the runtime's lock, as links are made under it."""
        for link in self._links:
            link.poke()

    def _replica(self) -> Replica:
        from edge_runtime.sync.replica import Replica

        rooms = (self._catalog, self._database, self._keyring, self._consents, self._leases)
        return Replica(
            *rooms,
            self._changed,
            self._clock,
            self._room,
            fetched_rows=self._settings.fetched_rows,
            fetched_rows_of_subject=self._settings.fetched_rows_of_subject,
            here_until_us=self._presence.here_until_us,
            came=lambda: self._presence.came,
            shut_out=self.shut_out,
        )

    def _reporter(self) -> Reporter:
        from edge_runtime.aggregates.chance import system_bits
        from edge_runtime.aggregates.report import Reporter

        return Reporter(
            self._catalog,
            self._database,
            self._keyring,
            self._consents,
            self._read,
            self._clock,
            system_bits,
            self._settings.report_spread_us,
            self._settings.remembered_answers,
        )


def _ticket_bytes(ticket: str) -> bytes:
    """A ticket as the API gives it: base64url without padding."""
    try:
        return urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
    except (NotBase64, ValueError):
        raise MalformedRequest("ticket", "base64url, as the API gave it", "something else") from None
