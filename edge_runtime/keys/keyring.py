"""The keyring: every data key in memory, and the one way they come and go.

`Keyring.open` reads the root slot only, which is what the database needs to open; `load`, called once the
database's lock is ours, reads the keystore; `settle` resolves what a crash left, and is the first to write.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.errors import MalformedRequest
from edge_runtime.keys.datakey import DataKey, new_record
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.identity import Identity
from edge_runtime.keys.keystore import Keystore
from edge_runtime.keys.providers import Assurance, KeyProvider
from edge_runtime.keys.vault import Step, Vault, no_step
from edge_runtime.wire.seal import pseudonym

__all__ = ["DataKey", "Identity", "Keyring"]


class Keyring:
    """Data keys, identity and denials of one database. Made by `Keyring.open`, `load`, `settle`."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._body: Keystore | None = None
        self._device: DataKey | None = None
        self._keys: dict[tuple[str, str], DataKey] = {}
        self._by_pseudonym: dict[tuple[bytes, str], DataKey] = {}
        self._by_handle: dict[bytes, DataKey] = {}
        self._denials: dict[bytes, Denial] = {}
        self._newest: dict[tuple[bytes, str], Denial] = {}
        self._sequence = 0
        self._signing: tuple[bytes, Ed25519PrivateKey] | None = None
        self.enrolled = False
        """Whether a server is the authority (`identity.enrolled`, at hand for the gate of every event)."""
        self.changes = 0
        """Counts the keys that came or went, new denials and every change of identity."""
        self.authority_changed: Callable[[], None] = lambda: None
        """Called after the identity's authority changed; the consent room drops what the old one said."""

    # ---- opening ----------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        provider: KeyProvider,
        keystore_path: str | Path | None,
        database_exists: bool,
        *,
        recover: Literal["discard"] | None = None,
    ) -> Keyring:
        """Read the root slot, or make the first one when neither key nor database exists.

        Args:
            keystore_path: None keeps slot and keystore in memory, whatever the provider.
            recover: `"discard"` gives up a keystore that the slot does not name (see `load`).

        Raises `KeyMissing` (one without the other), `KeyMismatch` (not a slot); nothing else is touched.
        """
        path = None if keystore_path is None else Path(keystore_path)
        return cls(Vault.open(provider, path, database_exists, discard=recover == "discard"))

    def load(self) -> Keyring:
        """Read the keystore. The caller holds the database's lock, so no other process writes it now.

        Raises `KeystoreMismatch` (untouched) for a missing, old or foreign keystore, unless opened with
        `recover="discard"`: then it is set aside and an empty one under a new root takes its place.
        """
        body = self._vault.read()
        self._body, self._sequence = body, body.sequence
        self.enrolled = body.identity.enrolled
        self._hold(body.denials)
        self._device = DataKey(self._vault.slot.database_id, body.device)
        for record in body.keys:
            self._add(DataKey(self._vault.slot.database_id, record))
        return self

    def settle(self) -> Keyring:
        """The database stands: finish what a crash left of a first creation or a change of root."""
        if self._body is None:
            self.load()
        if self._vault.unresolved:
            self._write()
        return self

    # ---- what stands ------------------------------------------------------------------------------------

    @property
    def page_key(self) -> bytes:
        """The database's 32-byte page key."""
        return self._vault.slot.page_key

    @property
    def fresh(self) -> bool:
        """Whether the database may be created: a first opening, or one that a crash interrupted."""
        return self._vault.slot.fresh

    @property
    def counter(self) -> int:
        """The root slot's counter: one more for each erasure that destroyed a key."""
        return self._vault.slot.counter

    @property
    def assurance(self) -> Assurance:
        """How well the provider keeps the slot."""
        return self._vault.provider.assurance

    @property
    def authority(self) -> bytes:
        """16 bytes that change when the identity does."""
        return self._stand.authority

    @property
    def identity(self) -> Identity:
        """Who this device is."""
        return self._stand.identity

    def signing_key(self) -> Ed25519PrivateKey:
        """The device's Ed25519 key."""
        seed = self.identity.signing_seed
        if self._signing is None or self._signing[0] != seed:
            self._signing = (seed, Ed25519PrivateKey.from_private_bytes(seed))
        return self._signing[1]

    def pseudonym(self, subject: str) -> bytes:
        """16 bytes that stand for typed id `subject`."""
        return pseudonym(self._stand.identity.pseudonym_key, subject)

    def device_key(self) -> DataKey:
        """The key of rows that are about nobody."""
        assert self._device is not None, "settle() was not called"
        return self._device

    def key(self, subject: str, purpose: str) -> DataKey | None:
        """The live key of (typed id, purpose)."""
        return self._keys.get((subject, purpose))

    def keys(self) -> list[DataKey]:
        """Every live key of a subject."""
        return list(self._keys.values())

    def keys_of(self, subject: str) -> list[DataKey]:
        """Every live key of one typed id."""
        return [key for key in self._keys.values() if key.subject == subject]

    def by_pseudonym(self, subject: bytes, purpose: str) -> DataKey | None:
        """The live key of (pseudonym, purpose)."""
        return self._by_pseudonym.get((subject, purpose))

    def by_handle(self, handle: bytes) -> DataKey | None:
        """The live key whose rows hang on `handle`; the device's own among them."""
        if self._device is not None and handle == self._device.handle:
            return self._device
        return self._by_handle.get(handle)

    def handles(self) -> set[bytes]:
        """Every handle that a live key owns; what hangs on another is unreadable."""
        return {*self._by_handle, self.device_key().handle}

    def denials(self) -> list[Denial]:
        """Every denial remembered, in this device's order."""
        return sorted(self._denials.values(), key=lambda denial: denial.ordinal)

    def denial(self, subject: bytes, purpose: str) -> Denial | None:
        """The newest denial of (pseudonym, purpose)."""
        return self._newest.get((subject, purpose))

    def denial_by_id(self, id: bytes) -> Denial | None:
        """The denial with this decision id."""
        return self._denials.get(id)

    def note(self, denial: Denial) -> None:
        """Know more of a denial than the keystore does (what it removed); the next write stores it."""
        self._hold([*self._denials.values(), denial])

    @property
    def sequence(self) -> int:
        """This device's own count of decisions so far."""
        return self._sequence

    def next_ordinal(self) -> int:
        """The next number in this device's own count of decisions."""
        self._sequence += 1
        return self._sequence

    def saw_ordinal(self, ordinal: int) -> None:
        """The database knows of a decision with this number: count on from there."""
        self._sequence = max(self._sequence, ordinal)

    # ---- changes ----------------------------------------------------------------------------------------

    def create(
        self,
        subject: str,
        purpose: str,
        decision: bytes,
        notice: str,
        base: int,
        at_us: int,
        grant: int = 0,
        *,
        resting: bool = True,
        ordinal: int | None = None,
        pending: bool = False,
    ) -> DataKey:
        """Make the key of a (subject, purpose); called only by the consent room, inside `give` (law 1).

        Args:
            resting: False keeps it in memory only.
            ordinal: its number from `next_ordinal`; the next one by default.
            pending: the ledger has still to acknowledge `decision`.
        """
        assert (subject, purpose) not in self._keys, "one live key for each (subject, purpose)"
        number = self.next_ordinal() if ordinal is None else ordinal
        waiting = (decision,) if pending else ()
        record = new_record(
            subject,
            purpose,
            decision,
            notice,
            base=base,
            at_us=at_us,
            grant=grant,
            ordinal=number,
            pending=waiting,
        )
        key = DataKey(self._vault.slot.database_id, record, resting=resting)
        self._add(key)
        return self._written(key, lambda: self._remove(key))

    def renew(self, key: DataKey, notice: str, base: int, decision: bytes, *, pending: bool) -> None:
        """The subject gave again: the key and its grant stay; notice and base are the newer ones."""
        before = key.notice, key.base, key.pending
        key.notice, key.base = notice, max(base, key.base)
        key.pending = (*key.pending, decision) if pending else key.pending

        def undo() -> None:
            key.notice, key.base, key.pending = before

        self._written(key, undo)

    def set_grant(self, subject: str, purpose: str, grant: int, decision: bytes | None = None) -> None:
        """The ledger numbered the key's grant, acknowledging `decision`."""
        key = self._keys[subject, purpose]
        before = key.grant, key.pending
        key.grant = grant
        key.pending = tuple(id for id in key.pending if id != decision)

        def undo() -> None:
            key.grant, key.pending = before

        self._written(key, undo)

    def set_identity(self, identity: Identity) -> None:
        """Become `identity`. A change of authority drops every denial that the earlier one was told of.

        Raises `MalformedRequest` while personal data is held under another pseudonym key: its rows, denials
        and receipts would name nobody. Withdraw first, enrol, then ask again.
        """
        stand = self._stand
        moved = identity.pseudonym_key != stand.identity.pseudonym_key
        if moved and self._keys:
            raise MalformedRequest(
                "enrolment", "a device that holds no personal data", f"{len(self._keys)} keys"
            )
        if moved:
            self._hold([])
            stand = msgspec.structs.replace(stand, authority=secrets.token_bytes(16))
        self._body = msgspec.structs.replace(stand, identity=identity)
        self.changes += 1
        self.enrolled = identity.enrolled
        self._write()
        if moved:
            self.authority_changed()

    def remember(self, denials: Iterable[Denial]) -> None:
        """Store denials, replacing what was known of them, without destroying a key."""
        before = list(self._denials.values())
        self._hold([*before, *denials])
        try:
            self._write()
        except BaseException:
            self._hold(before)
            raise

    def release(self, subject: str) -> list[DataKey]:
        """Let go of a subject's keys that are held in memory only; returns them."""
        gone = [key for key in self.keys_of(subject) if not key.resting]
        for key in gone:
            self._remove(key)
        return gone

    def destroy(self, denials: Sequence[Denial], step: Step = no_step) -> list[Denial]:
        """Destroy the keys that `denials` name, remember the denials, and return them with what was held.

        With a key at rest the root changes: slot {old, new}; keystore under the new root; slot {new,
        counter + 1}. From then on no copy of the keystore that holds the keys opens under the slot.
        Points for `step`: `slot_both`, `keystore`, `slot_new`.
        """
        doomed = [key for d in denials if (key := self._doomed_by(d)) is not None]
        rotate = any(key.resting for key in doomed)
        counter = self._vault.slot.counter
        known = list(self._denials.values())
        done = [self._counted(d, counter, counter + rotate) for d in denials]
        for key in doomed:
            self._remove(key)
        self._hold([*known, *done])
        try:
            if rotate:
                self._vault.begin_turn()
                step("slot_both")
            self._write(step)
        except BaseException:
            # the denial stands in the database and bars use; reopening or the next erasure finishes it
            self._hold(known)
            for key in doomed:
                self._add(key)
            raise
        return done

    def _doomed_by(self, denial: Denial) -> DataKey | None:
        key = self._by_pseudonym.get(denial.pair)
        return key if key is not None and key.ordinal < denial.ordinal else None

    def _counted(self, denial: Denial, before: int, after: int) -> Denial:
        key = self._doomed_by(denial)
        if key is None:
            return denial if denial.held else self._with_counters(denial, 0, before, before)
        return self._with_counters(denial, 1, before, after if key.resting else before)

    @staticmethod
    def _with_counters(denial: Denial, held: int, before: int, after: int) -> Denial:
        return msgspec.structs.replace(denial, held=held, counter_before=before, counter_after=after)

    # ---- resting ----------------------------------------------------------------------------------------

    @property
    def _stand(self) -> Keystore:
        assert self._body is not None, "settle() was not called"
        return self._body

    def _add(self, key: DataKey) -> None:
        self.changes += 1
        self._keys[key.subject, key.purpose] = key
        self._by_pseudonym[self.pseudonym(key.subject), key.purpose] = key
        self._by_handle[key.handle] = key

    def _remove(self, key: DataKey) -> None:
        self.changes += 1
        del self._keys[key.subject, key.purpose]
        del self._by_pseudonym[self.pseudonym(key.subject), key.purpose]
        del self._by_handle[key.handle]

    def _written(self, key: DataKey, undo: Callable[[], None]) -> DataKey:
        if not key.resting:
            return key
        try:
            self._write()
        except BaseException:
            undo()
            raise
        return key

    def _write(self, step: Step = no_step) -> None:
        body = msgspec.structs.replace(
            self._stand,
            sequence=self._sequence,
            keys=tuple(key.record() for key in self._keys.values() if key.resting),
            denials=tuple(self._kept()),
        )
        self._body = self._vault.write(body, step)

    def _kept(self) -> list[Denial]:
        """Every denial that the authority does not have yet, and of each pair without a key the newest."""
        kept = [
            d
            for d in self.denials()
            if not d.settled or (d is self._newest[d.pair] and d.pair not in self._by_pseudonym)
        ]
        self._hold(kept)
        return kept

    def _hold(self, denials: Iterable[Denial]) -> None:
        self.changes += 1
        self._denials = {denial.id: denial for denial in denials}
        self._newest = {denial.pair: denial for denial in self.denials()}
