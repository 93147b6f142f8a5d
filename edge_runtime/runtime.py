"""Runtime: opens the rooms, hands calls on, closes in reverse. It wires; the rooms work.

OPEN FIRST. Order of opening: root slot and keystore, database, consent, session states, reads. Every public
call holds one lock for a short time; none waits for the network, and only `flush` waits for the disk.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike, fspath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from edge_runtime.assignments import Assignment, Assignments
from edge_runtime.cache.database import Database
from edge_runtime.cache.evolution import evolve
from edge_runtime.cache.group_commit import GroupCommit
from edge_runtime.cache.process import Ownership
from edge_runtime.cache.upkeep import Upkeep
from edge_runtime.cache.working_set import WorkingSet
from edge_runtime.catalog import Catalog
from edge_runtime.clock import Clock, SystemClock
from edge_runtime.consent import registry_pin
from edge_runtime.consent.decisions import Consents
from edge_runtime.consent.grace import Grace
from edge_runtime.consent.lease import Leases
from edge_runtime.consent.record import ConsentRecord
from edge_runtime.consent.rotation import rekey, rotate_root
from edge_runtime.errors import RuntimeClosed
from edge_runtime.far_side import FarSide
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.providers import KeyProvider
from edge_runtime.presence import Presence
from edge_runtime.recovery.opening import open_recovered
from edge_runtime.serving.cache_source import CacheSource
from edge_runtime.serving.plan import Matrix, Vector
from edge_runtime.serving.reader import Reader
from edge_runtime.serving.remembered import Remembered
from edge_runtime.serving.value import FeatureValue
from edge_runtime.session.admission import Admission
from edge_runtime.session.event import Event, EventLimits
from edge_runtime.session.plan import compile_catalog
from edge_runtime.settings import Settings
from edge_runtime.subject_export import export_subject
from edge_runtime.tracking import Tracker, TrackSummary, chunks

if TYPE_CHECKING:
    from edge_runtime.cache.swept import Swept
    from edge_runtime.serving.scoring import Bindable, Model, Scores
    from edge_runtime.sync.background import BackgroundSync
    from edge_runtime.sync.fetch import Fetch
    from edge_runtime.sync.link import Link, OnState
    from edge_runtime.sync.settings import SyncSettings


class Runtime:
    """Personalization for one app or kiosk: features, consent and sync over one encrypted file.

    Thread-safe. Use as a context manager, or call `close()`.

    Example:
        >>> import edge_runtime as er
        >>> catalog = er.Catalog.from_dict({"catalog": {"name": "tiny", "version": 1}})
        >>> with er.Runtime.open(":memory:", catalog=catalog, key=er.KeyMemory()) as rt:
        ...     rt.status()["authority"]
        'standalone'
    """

    def __init__(
        self,
        catalog: Catalog,
        database: Database,
        keyring: Keyring,
        clock: Clock,
        settings: Settings,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        """Use `Runtime.open`; this only ties rooms together.

        Args:
            free_bytes: tells the free space on the database's volume; asks the volume by default.
        """
        registry_pin.check_pinned(catalog, keyring.identity.registry_key, database)
        self.catalog, self._database, self._keyring = catalog, database, keyring
        self._clock, self._settings = clock, settings
        keyring.hold_at_most(settings.live_subjects)
        self._lock = threading.RLock()
        self._closed = False
        self._ownership = Ownership(self, "runtime", self._lock)
        plan = compile_catalog(catalog)
        self._leases = Leases(clock, keyring, database, cold_start=settings.cold_start)
        known = evolve(database, keyring, catalog, plan, clock.now_us())
        self._states = WorkingSet(
            database, clock, plan, catalog.events, known, settings.live_states, settings.snapshot_every_events
        )
        self._commit = GroupCommit(database, self._states.due, self._states.missed, self._lock)
        self._consents = Consents(
            catalog, keyring, database, clock, self._leases, forget=self._forget, lock=self._lock
        )
        personal = [kind.name for kind in catalog.entities.values() if kind.personal]
        self._presence = Presence(personal, settings.presence_timeout_us, clock.now_us())
        limits = EventLimits(settings.id_limit_bytes, settings.string_limit_bytes, settings.future_us)
        self._tracker = Tracker(
            catalog, plan, self._consents, keyring, self._states, self._commit, clock, limits, self._presence
        )
        rooms = (catalog, database, keyring, self._consents)
        self._source = CacheSource(
            *rooms, self._tracker, self._states, self._commit, clock, settings.live_rows
        )
        self._reader = Reader(catalog, self._source, clock, settings, self._presence)
        self._assignments = Assignments(catalog, self._consents, self._tracker, clock, self._read_subject)
        memory = Remembered(self._source, self._reader, self._lock)
        held = (self._states, self._commit, memory, clock, self._lock)
        grace = Grace(self._leases, database, clock, settings.grace_us)
        self._upkeep = Upkeep(catalog, plan, database, keyring, *held, settings, grace, free_bytes=free_bytes)
        room, changed, read = self._upkeep.room, memory.changed, self._read_subject
        lent = (*rooms, self._leases, clock, self._lock)
        self._far_side = FarSide(
            *lent, self._presence, settings=settings, room=room, changed=changed, read=read
        )
        self._far_side.shut_out.finish()

    # ---- opening and closing -----------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        *,
        catalog: Catalog,
        key: KeyProvider,
        clock: Clock | None = None,
        settings: Settings | None = None,
        recover: Literal["discard", "rebuild"] | None = None,
    ) -> Self:
        """Open, or create, the encrypted cache at `path`; `":memory:"` makes no file.

        Args:
            key: where the root slot rests: `KeyFile`, `KeyPassphrase`, `KeyKeyring`, `KeyMemory`, or your own
                `KeyProvider` (`docs/keys.md`).
            clock: `now_us()` and `boot_us()`; the machine's own by default.
            recover: `"discard"` gives up a keystore that the key does not fit: every subject reads unknown.
                `"rebuild"` looks at every page (some 3 ms for each MiB), sets a damaged database aside as
                `cache.db.damaged-...` and makes another of all that can still be read; what is no longer
                whole says so (WARMING, NOT_SYNCED).

        Raises:
            DatabaseInUse: another process has it open. Try again when that one has closed.
            KeyMissing: a key without its database, or a database without its key; nothing was created.
            KeyMismatch, KeystoreMismatch, DatabaseUnreadable, DatabaseTooNew: nothing was touched. The
                message of a damaged database says what to do.
            CipherMissing: the encrypting SQLite is not installed.
            StorageFull: no room to take over a new catalog; the database is as it was.
            CatalogError: its privacy part is not signed by the key that was pinned at enrolment, or is older
                than the one before and protects less; nothing was touched.
        """
        clock = clock if clock is not None else SystemClock()
        settings = settings if settings is not None else Settings()
        return open_recovered(
            fspath(path),
            key,
            lambda keyring, database: cls(catalog, database, keyring, clock, settings),
            now_us=clock.now_us(),
            ahead_us=settings.future_us,
            recover=recover,
        )

    def close(self) -> None:
        """Make everything durable and let the file and the keys go. Again, or in a forked child: nothing."""
        if self._closed or self._ownership.lost:
            return
        self._far_side.close()
        self._upkeep.stop()
        try:
            self._commit.flush(everything=True)
            self._leases.keep()
        finally:
            with self._lock:
                self._closed = True
                self._database.close()
                self._keyring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not self._ownership.lost:
            warnings.warn("a Runtime was not closed", ResourceWarning, stacklevel=2)

    # ---- events ------------------------------------------------------------------------------------------

    def track(self, event_type: str, /, **fields: object) -> Admission:
        """Take one event: `rt.track("view", user="alice", item="85123A", price=2.55, at=None, id=None)`.

        Args:
            event_type: an event type of the catalog.
            fields: ids of its entities and its properties; `at` an aware datetime or Unix seconds (now by
                default); `id` makes a second sending a DUPLICATE.

        Returns ACCEPTED, DUPLICATE, LATE or NO_CONSENT. It is acknowledged when `flush` returns. On a full
        disk it waits in memory; NO_ROOM, with nothing changed, once that holds as much as it may.

        Raises:
            MalformedEvent: it does not fit the catalog; nothing changed.
            DatabaseUnreadable: a state that the event feeds cannot be read; nothing changed.
        """
        with self._lock:
            self._check_open()
            admission = self._tracker.take(event_type, fields)
        self._upkeep.make_room()
        return admission

    def track_many(self, events: Iterable[Event | Mapping[str, object]]) -> TrackSummary:
        """Take many events: `Event`s, or flat dicts with `type`. Malformed ones are counted and explained."""
        summary = TrackSummary()
        for chunk in chunks(events):
            with self._lock:
                self._check_open()
                self._tracker.take_many(chunk, summary)
            self._upkeep.make_room()
        return summary

    def flush(self) -> None:
        """Acknowledge: when this returns, every event tracked before survives `kill -9` and power loss.

        Raises:
            StorageFull: nothing was lost; the events wait for the next flush.
            DatabaseUnreadable: damage keeps them from the disk; they wait. `status()["damaged"]` says what
                was found; close, and open with `recover="rebuild"`.
        """
        self._check_open()
        self._commit.flush()

    # ---- experiments -------------------------------------------------------------------------------------

    def assign(self, experiment: str, /, **unit: str) -> Assignment:
        """The subject's arm, and record that it was exposed: `rt.assign("new_ranker", user="alice").arm`.

        Call it where the arm is shown. The same subject gets the same arm always; the exposure is recorded
        once, as an event of the experiment's purpose. Without permission, outside the experiment's traffic or
        on a full disk it is the control, `exposed` is False and `why` says which.

        Args:
            unit: one bare id of the experiment's unit.

        Raises:
            MalformedRequest: no such experiment, or not an id of its unit; nothing changed.
        """
        with self._lock:
            self._check_open()
            assignment = self._assignments.assign(experiment, unit)
        self._upkeep.make_room()
        return assignment

    def arm(self, experiment: str, /, **unit: str) -> str:
        """The arm that `assign` would give, without an exposure: to prepare what may be shown later.

        Raises `MalformedRequest` as `assign` does.
        """
        with self._lock:
            self._check_open()
            return self._assignments.arm(experiment, unit)

    # ---- reads -------------------------------------------------------------------------------------------

    def vector(
        self,
        service: str,
        /,
        *,
        at: object = None,
        request: Mapping[str, object] | None = None,
        **entities: str,
    ) -> Vector:
        """One model-ready row: `rt.vector("ranker", user="alice", item="85123A", request={"ctx:hour": 14})`.

        Args:
            service: `name` or `name@version`.
            at: aware datetime or Unix seconds to read at; now by default.
            entities: one bare id for each entity type.

        Returns float32[n] values with a status and a reason for each.
        """
        with self._lock:
            self._check_open()
            return self._reader.vector(service, entities, at, request)

    def matrix(
        self,
        service: str,
        /,
        *,
        at: object = None,
        request: Mapping[str, object] | None = None,
        **entities: str | Sequence[str],
    ) -> Matrix:
        """One row a candidate: `rt.matrix("ranker", user="alice", item=["a", "b"])` is float32[2, n]."""
        with self._lock:
            self._check_open()
            return self._reader.matrix(service, entities, at, request)

    def use_model(self, service: str, model: Model | Bindable) -> None:
        """Attach the model that `score` runs: `rt.use_model("ranker", er.OnnxModel("ranker.onnx"))`.

        Args:
            service: `name` (its highest version) or `name@version`; a model before it is replaced.

        Raises:
            ContractMismatch: the model's inputs are not what the service gives; nothing was attached.
        """
        with self._lock:
            self._check_open()
            self._reader.attach(service, model)

    def score(
        self,
        service: str,
        /,
        *,
        at: object = None,
        request: Mapping[str, object] | None = None,
        **entities: str | Sequence[str],
    ) -> Scores:
        """The attached model's scores: `rt.score("ranker", user="alice", item=["a", "b"])`, one a candidate.

        The rows are those of `matrix`, or of `vector` without a list. A number without a usable value goes in
        as it stands there, NaN or its default; the scores carry every status.

        Raises:
            MalformedRequest: as `matrix`; or no model is attached.
        """
        with self._lock:
            self._check_open()
            score = self._reader.scoring(service, entities, at, request)
        return score()

    def read(self, ref: str, /, *, at: object = None, **entities: str) -> FeatureValue:
        """One feature: `rt.read("activity:views_5m", user="alice")`, with its status and times."""
        with self._lock:
            self._check_open()
            return self._reader.read(ref, entities, at)

    def fetch(self, view: str, /, **entities: str | Sequence[str]) -> Fetch:
        """Ask the server for rows of a view of tier warm: `rt.fetch("item_vec", item=["a", "b"])`.

        Returns at once. When the rows are here, reads find them until the view's ttl; before, they read
        NOT_SYNCED, and what the server does not have reads NOT_FOUND. Without a session the request waits in
        memory for the next one. A subject's rows come under its consent, as all others do.

        Args:
            view: `name`, which means its highest version, or `name@version`.
            entities: bare ids of the view's entity types, one or several of each; at most 256 rows.

        Raises:
            MalformedRequest: the view is not on demand, or ids or their number do not fit; nothing is asked.
            NotEnrolled: `enrol` was never called.
        """
        self._check_open()
        return self._far_side.fetch(view, entities)

    # ---- subjects ----------------------------------------------------------------------------------------

    @property
    def consent(self) -> Consents:
        """Decisions of subjects: `rt.consent.give`, `withdraw`, `state`, and who may be asked what."""
        self._ownership.check()
        return self._consents

    def export(self, subject: str) -> dict[str, Any]:
        """Everything held here on a subject, as plain values: for the subject's own eyes (GDPR Art. 15, 20).

        Purpose by purpose: state and decision, events, rows, present features. Nothing of a purpose without
        permission, which is said and why; while it is restricted, events and rows are shown all the same.

        Raises:
            StorageFull: events that wait in memory cannot be written; nothing was lost.
            DatabaseUnreadable: something of it is damaged.
        """
        self.flush()
        with self._lock:
            self._check_open()
            typed = self.catalog.subject(subject)
            rooms = (self.catalog, self._keyring, self._database, self._consents)
            return export_subject(typed, *rooms, self._read_subject)

    def leave(self, subject: str) -> None:
        """The subject walks away: memory is let go, session-only keys end, personal channels close."""
        self._check_open()
        typed = self.catalog.subject(subject)

        def walk_away() -> None:
            self._check_open()
            self._forget(typed, [key.purpose for key in self._keyring.keys_of(typed)])
            self._consents.leave(typed)
            self._far_side.leave(typed)

        self._commit.flush_all_of(
            lambda: [key.handle for key in self._keyring.keys_of(typed)], then=walk_away
        )

    def status(self) -> dict[str, object]:
        """What this runtime is and how it stands, in plain words; nothing personal in it."""
        with self._lock:
            self._check_open()
            trouble = self._upkeep.trouble
            return {
                "authority": "server" if self._keyring.identity.server_key else "standalone",
                "registry": registry_pin.standing(self.catalog, self._keyring.identity.registry_key),
                "lease": self._leases.state,
                "cold_start": self._settings.cold_start,
                "assurance": self._keyring.assurance,
                "counter": self._keyring.counter,
                "restored": self.consent.restored,
                "revoked": self._far_side.shut_out.standing != "in",
                "identity_changes": self._keyring.identity.next_seed is not None,
                "subjects": self._keyring.subjects,
                "states_in_memory": len(self._states),
                "trouble": None if trouble is None else str(trouble),
                "degraded": self._upkeep.degraded(),
                "damaged": self._database.damaged,
                "sync": self._far_side.status(),
                "aggregates": self._far_side.aggregates(),
            }

    def sweep(self) -> Swept:
        """One whole round of upkeep now: what is past its ttl or retention goes, and what is over the limit.

        A runtime does this by itself in the background, in the same steps of a few milliseconds.

        Raises:
            StorageFull: no room to write; what was done is done, the rest is tried again.
        """
        self._check_open()
        return self._upkeep.sweep()

    def rotate_keys(self) -> None:
        """Put new secrets in the root slot: every node of the keystore and every page of the database anew.

        Blocks while both are written again. Killed anywhere, everything is there under the old secrets or the
        new. See `docs/erasure.md`.

        Raises:
            StorageFull: no room for that; what was done stands, and nothing is lost.
        """
        self._check_open()
        rotate_root(self._keyring, self._database)
        rekey(self._keyring, self._database)

    # ---- sync --------------------------------------------------------------------------------------------

    def enrol(self, url: str, token: str) -> str:
        """Become a device of the server at `url` with a one-time token; returns the device id.

        Blocks for one HTTP request. Legal only while no personal data is held here.

        Raises:
            SyncRefused: the token was used, has expired or was never issued; nothing changed.
        """
        self._check_open()
        return self._far_side.enrol(url, token)

    def rotate_identity(self) -> None:
        """Sign with a new key as soon as the server has it: it is told in the session that runs, or the next.

        Until then both keys are held, and `status()["identity_changes"]` says so. Killed anywhere, the device
        finds out which of them the server knows. See `docs/device-keys.md`.

        Raises:
            NotEnrolled: `enrol` was never called.
        """
        self._check_open()
        self._far_side.rotate_identity()

    def admit(self, subject: str, purposes: Sequence[str], ticket: str) -> ConsentRecord:
        """Take up a consent given elsewhere, with a ticket that the app's backend got for this device.

        The subject's server features then follow here. Needs the decision lane synced; after a restart, admit
        again with a new ticket.

        Args:
            ticket: as `POST /v1/devices/{id}/tickets` answered.

        Raises:
            SyncRefused: the ticket is not for this device, subject and purposes.
            MalformedRequest: no such consent stands as far as was synced here; nothing changed.
        """
        self._check_open()
        return self._far_side.admit(subject, purposes, ticket)

    def sync(
        self,
        url: str | None = None,
        *,
        settings: SyncSettings | None = None,
        on_state: OnState | None = None,
    ) -> Link:
        """An async context manager that keeps this runtime in sync while it is open.

        Args:
            url: the server; the one enrolled at by default.
            on_state: called with `"fresh" | "stale" | "locked" | "diverged"` and the reason when either
                changes, in the link's thread; it must not block nor raise. See `docs/link.md`.

        Raises:
            NotEnrolled: `enrol` was never called.
        """
        self._check_open()
        return self._far_side.link(url, settings, on_state)

    def sync_in_background(
        self,
        url: str | None = None,
        *,
        settings: SyncSettings | None = None,
        on_state: OnState | None = None,
    ) -> BackgroundSync:
        """The same in a thread of its own, for apps that are not async; close it, or close the runtime."""
        self._check_open()
        return self._far_side.background(url, settings, on_state)

    # ---- what rooms call back ----------------------------------------------------------------------------

    def _read_subject(self, ref: str, subject: str) -> FeatureValue:
        kind, _, bare = subject.partition(":")
        with self._lock:
            self._check_open()
            return self._reader.read(ref, {kind: bare}, None, seen=False)

    def _forget(self, subject: str, purposes: Sequence[str]) -> dict[str, int]:
        """An erasure begins: nothing of these purposes stays in memory; returns what was there."""
        with self._lock:
            self._reader.forget()
            self._assignments.forget()
            self._presence.forget(subject)
            self._far_side.forget(subject, purposes, "no_permission")
            handles = {key.handle for p in purposes if (key := self._keyring.key(subject, p)) is not None}
            return {
                "memory": self._states.forget(handles) + self._source.forget(subject),
                "pending": self._commit.forget(handles),
            }

    # ---- inside ------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        self._ownership.check()
        if self._closed:
            raise RuntimeClosed("the runtime was closed; nothing changed")
