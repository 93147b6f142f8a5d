"""The keyring: data keys, identity and denials of one database, and the one way they come and go.

`Keyring.open` reads the root slot only, which is what the database needs to open; `load`, called once the
database's lock is ours, reads the keystore's trunk; `settle` resolves what a crash left, and is the first to
write. Keys are loaded from the key tree when they are asked for: no call reads more of the keystore than the
path to one subject, except those that say so.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.cache.process import Ownership
from edge_runtime.errors import MalformedRequest
from edge_runtime.keys.datakey import DataKey, KeyFacts, Restriction
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.edit import Edit
from edge_runtime.keys.entry import Entry, Kept
from edge_runtime.keys.held import HeldKeys
from edge_runtime.keys.identity import Identity
from edge_runtime.keys.providers import Assurance, KeyProvider
from edge_runtime.keys.secret import fresh_secret
from edge_runtime.keys.slot import Slot
from edge_runtime.keys.trunk import Pair
from edge_runtime.keys.upkeep import Upkeep
from edge_runtime.keys.vault import Step, Vault, no_step
from edge_runtime.wire.seal import pseudonym

__all__ = ["DataKey", "Identity", "Keyring"]

SUBJECTS_HELD: Final = 20_000
"""Subjects whose keys, or the lack of any, are held in memory by default."""


class Keyring:
    """Made by `Keyring.open`, `load`, `settle`. Thread-safe."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._lock = threading.RLock()
        self._ownership = Ownership(self, "keystore", self._lock)
        self._held = HeldKeys(SUBJECTS_HELD, self.pseudonym)
        self._device: DataKey | None = None
        self._sequence = 0
        self._told: set[Pair] = set()
        self._signing: tuple[bytes, Ed25519PrivateKey] | None = None
        self.upkeep = Upkeep(vault, self._lock)
        """Compaction and rotation of the keystore."""
        self.enrolled = False
        """Whether a server is the authority (`identity.enrolled`, at hand for the gate of every event)."""
        self.changes = 0
        """Counts the keys that came or went, new denials and every change of identity."""
        self.authority_changed: Callable[[], None] = lambda: None
        """Called after the identity's authority changed; the consent room drops what the old one said."""
        self.ledger_note = b""
        """The ledger head that the consent room keeps. The keystore takes it along when it changes, so that
        a database put back from an older copy does not take the device's memory of it with it."""
        self.judge: Callable[[DataKey], None] = lambda _: None
        """Called with each key that was loaded, before anybody gets it; the consent room sets its bar."""

    # ---- opening and closing -----------------------------------------------------------------------------

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
            recover: `"discard"` gives up a keystore that the slot does not name (see `load`), and a key that
                outlived its database.

        Raises `KeyMissing` (one without the other), `KeyMismatch` (not a slot); nothing else is touched.
        """
        path = None if keystore_path is None else Path(keystore_path)
        return cls(Vault.open(provider, path, database_exists, discard=recover == "discard"))

    def load(self) -> Keyring:
        """Read the keystore's trunk. The caller holds the database's lock, so no other process writes it now.

        Raises `KeystoreMismatch` (untouched) for a missing, old or foreign keystore, unless opened with
        `recover="discard"`: then it is set aside and an empty one under a new root takes its place.
        """
        trunk = self._vault.read()
        self._sequence, self.enrolled = trunk.sequence, trunk.identity.enrolled
        self.ledger_note = trunk.ledger
        facts = KeyFacts(trunk.device_handle, "", 0, bytes(16), "", 0, 0, 0)
        self._device = DataKey(self._vault.slot.database_id, "", facts, bytearray(trunk.device_secret))
        return self

    def settle(self) -> Keyring:
        """The database stands: make the keystore, if a first creation has not come so far."""
        if self._device is None:
            self.load()
        if self._vault.slot.fresh:
            self._commit(self._edit())
        self.upkeep.clear()
        return self

    def hold_at_most(self, subjects: int) -> None:
        """So many subjects' keys stay in memory, or the knowledge that they have none."""
        self._held.limit = max(subjects, 1)

    def close(self) -> None:
        """Overwrite every key in memory and let the keystore's file go. In a forked child, do nothing."""
        if self._ownership.lost:
            return
        with self._lock:
            self._held.wipe()
            if self._device is not None:
                self._device.wipe()
            self.upkeep.close()
            self._vault.close()

    # ---- what stands ------------------------------------------------------------------------------------

    @property
    def slot(self) -> Slot:
        """The root slot as it stands; its secrets are for the database's opening alone."""
        return self._vault.slot

    @property
    def counter(self) -> int:
        """The key epoch: one more for each erasure that destroyed a key, and for each rotation."""
        return self._vault.slot.counter

    @property
    def discarded(self) -> bool:
        """Whether a keystore was given up at this opening: no row of the database has a key any more."""
        return self._vault.discarded

    @property
    def assurance(self) -> Assurance:
        """How well the provider keeps the slot."""
        return self._vault.provider.assurance

    @property
    def authority(self) -> bytes:
        """16 bytes that change when the identity does."""
        return self._vault.trunk.authority

    @property
    def identity(self) -> Identity:
        """Who this device is."""
        return self._vault.trunk.identity

    @property
    def subjects(self) -> int:
        """How many subjects have a key; a guest who also has one at rest counts twice."""
        return self._vault.trunk.subjects + len(self._held.guests)

    @property
    def size(self) -> int:
        """How many data keys there are."""
        return self._vault.trunk.keys + len(self._held.of_guests())

    def signing_key(self) -> Ed25519PrivateKey:
        """The device's Ed25519 key."""
        seed = self.identity.signing_seed
        if self._signing is None or self._signing[0] != seed:
            self._signing = (seed, Ed25519PrivateKey.from_private_bytes(seed))
        return self._signing[1]

    def next_signing_key(self) -> Ed25519PrivateKey | None:
        """The device's Ed25519 key to come; None when no change of it is going on."""
        seed = self.identity.next_seed
        return None if seed is None else Ed25519PrivateKey.from_private_bytes(seed)

    def pseudonym(self, subject: str) -> bytes:
        """16 bytes that stand for typed id `subject`."""
        return pseudonym(self._vault.trunk.identity.pseudonym_key, subject)

    def device_key(self) -> DataKey:
        """The key of rows that are about nobody."""
        assert self._device is not None, "load() was not called"
        return self._device

    # ---- keys -------------------------------------------------------------------------------------------

    def key(self, subject: str, purpose: str) -> DataKey | None:
        """The live key of (typed id, purpose); a subject not seen lately is looked up in the keystore.

        Raises `KeystoreMismatch` when that part of the keystore is damaged.
        """
        held = self._held.of(subject)
        return (self._load(subject) if held is None else held).get(purpose)

    def keys_of(self, subject: str) -> list[DataKey]:
        """Every live key of one typed id."""
        held = self._held.of(subject)
        return list((self._load(subject) if held is None else held).values())

    def by_pseudonym(self, name: bytes, purpose: str) -> DataKey | None:
        """The live key of (pseudonym, purpose)."""
        subject = self._held.subject(name)
        if subject is None:
            entry = self._entry(name)
            entry.wipe()
            subject = entry.subject
        return self.key(subject, purpose) if subject else None

    def held_by_pseudonym(self, name: bytes, purpose: str) -> DataKey | None:
        """The live key of (pseudonym, purpose) if it is in memory now; asks no disk."""
        held = self._held.of(self._held.subject(name) or "")
        return None if held is None else held.get(purpose)

    def every_key(self) -> Iterator[DataKey]:
        """Every live key, read through the whole keystore, a leaf at a time, and not held."""
        for _, entry in self._entries():
            yield from self._objects(entry)
        yield from self._held.of_guests()

    def keys_after(self, place: bytes | None) -> tuple[list[DataKey], bytes | None]:
        """The live keys of the next subjects, a leaf of them, and the place to go on from; None at the end.

        Not held. Without the keys of what is kept in memory only.

        Args:
            place: a pseudonym; None for the start.
        """
        with self._lock:
            part = self._vault.after(place)
        keys = [key for _, entry in part for key in self._objects(entry)]
        return keys, part[-1][0] if part else None

    def _load(self, subject: str) -> dict[str, DataKey]:
        name = self.pseudonym(subject)
        while True:
            stood = self.changes
            keys = self._objects(self._entry(name))
            with self._lock:
                if stood == self.changes:  # else something came or went meanwhile: look again
                    return self._held.hold(subject, keys)

    def _objects(self, entry: Entry) -> list[DataKey]:
        with self._lock:
            keys = self._held.objects(self._vault.slot.database_id, entry)
        for key in keys:
            self.judge(key)  # asks the database, so never under our lock
        return keys

    def _entry(self, name: bytes) -> Entry:
        self._ownership.check()
        with self._lock:
            return self._vault.find(name) or Entry()

    def _entries(self) -> Iterator[tuple[bytes, Entry]]:
        """(pseudonym, entry) of all; what changes meanwhile may or may not be seen."""
        place: bytes | None = None
        while True:
            with self._lock:
                part = self._vault.after(place)
            if not part:
                return
            yield from part
            place = part[-1][0]

    # ---- denials ----------------------------------------------------------------------------------------

    def denial(self, name: bytes, purpose: str) -> Denial | None:
        """The newest denial of (pseudonym, purpose)."""
        entry = self._entry(name)
        entry.wipe()
        return entry.newest(purpose)

    def denials_of(self, name: bytes) -> tuple[Denial, ...]:
        """Every denial remembered of a pseudonym, in this device's order."""
        entry = self._entry(name)
        entry.wipe()
        return entry.denials

    def denials(self) -> Iterator[Denial]:
        """Every denial remembered, read through the whole keystore."""
        for _, entry in self._entries():
            entry.wipe()
            yield from entry.denials

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

    @property
    def doubt(self) -> frozenset[Pair]:
        """Pairs whose consent waits for the ledger, where a crash may have kept it from the outbox."""
        return frozenset(self._vault.trunk.doubt) - self._told

    def told(self, pairs: Iterable[Pair]) -> None:
        """The outbox has the consents of these pairs; the next change of the keystore says so."""
        self._told.update(pairs)

    # ---- changes ----------------------------------------------------------------------------------------

    def create(self, made: Iterable[tuple[str, KeyFacts]], *, resting: bool = True) -> list[DataKey]:
        """Make the keys of (typed subject, facts) in one change of the keystore: all of them, or none.

        Called only by the consent room, inside `give` (law 1). See `new_facts`.

        Args:
            resting: False keeps them in memory only.
        """
        with self._lock:
            fresh = [(subject, Kept(facts, fresh_secret())) for subject, facts in made]
            for subject, kept in fresh:
                assert self.key(subject, kept.facts.purpose) is None, "one live key of each pair"
            if resting:
                edit = self._edit()
                for subject, kept in fresh:
                    edit.add(self.pseudonym(subject), subject, kept)
                waits = {(self.pseudonym(s), k.facts.purpose) for s, k in fresh if k.facts.pending}
                self._commit(edit, doubted=waits)
            id_ = self._vault.slot.database_id
            keys = [DataKey(id_, s, kept.facts, kept.secret, resting=resting) for s, kept in fresh]
            for key in keys:
                if self._held.of(key.subject) is None:
                    self._held.hold(key.subject, ())
                self._held.came(key)
            self.changes += 1
            return keys

    def renew(
        self,
        key: DataKey,
        notice: str,
        base: int,
        decision: bytes,
        *,
        pending: bool,
        signals: tuple[str, ...] = (),
        after: bytes | None = None,
    ) -> None:
        """The subject gave again: the key and its grant stay; notice, base, signals and what it follows are
        the newer ones."""
        before = key.facts
        newer = msgspec.structs.replace(
            before,
            notice=notice,
            base=max(base, before.base),
            pending=(*before.pending, decision) if pending else before.pending,
            signals=signals,
            after=after,
        )
        self._know(key, newer, {(self.pseudonym(key.subject), key.purpose)} if pending else set())

    def set_grant(self, key: DataKey, grant: int, decision: bytes | None = None) -> None:
        """The ledger numbered the key's grant, acknowledging `decision`."""
        waiting = tuple(id_ for id_ in key.facts.pending if id_ != decision)
        self._know(key, msgspec.structs.replace(key.facts, grant=grant, pending=waiting), set())

    def restrict(self, key: DataKey, restriction: Restriction | None) -> None:
        """Nothing may be used under the key, durably, until this is called with None."""
        waits = {(self.pseudonym(key.subject), key.purpose)} if restriction and self.enrolled else set()
        self._know(key, msgspec.structs.replace(key.facts, restricted=restriction), waits)

    def _know(self, key: DataKey, facts: KeyFacts, doubted: set[Pair]) -> None:
        with self._lock:
            if key.resting:
                edit = self._edit()
                edit.know(self.pseudonym(key.subject), facts)
                self._commit(edit, doubted=doubted)
            key.know(facts)
            self.changes += 1

    def set_identity(self, identity: Identity) -> None:
        """Become `identity`. A change of authority drops every denial that the earlier one was told of.

        Raises `MalformedRequest` while personal data is held under another pseudonym key: its rows, denials
        and receipts would name nobody. Withdraw first, enrol, then ask again.
        """
        with self._lock:
            moved = identity.pseudonym_key != self.identity.pseudonym_key
            if moved and self.size:
                held = f"{self.size} keys"
                raise MalformedRequest("enrolment", "a device that holds no personal data", held)
            authority = secrets.token_bytes(16) if moved else self.authority
            edit = self._edit()
            for name, _ in self._entries() if moved else ():
                edit.drop(name)
            self._commit(edit, identity=identity, authority=authority)
            self.enrolled = identity.enrolled
            if moved:
                self._held.forget()
            self.changes += 1
        if moved:
            self.authority_changed()

    def trust(self, server_key: bytes) -> None:
        """Pin another key of the same server, durably."""
        with self._lock:
            self.set_identity(msgspec.structs.replace(self.identity, server_key=server_key))

    def begin_key_change(self) -> None:
        """Make the next signing key, durably; both are held until `end_key_change`. Again: nothing."""
        with self._lock:
            if self.identity.next_seed is None:
                seed = secrets.token_bytes(32)
                self.set_identity(msgspec.structs.replace(self.identity, next_seed=seed))

    def end_key_change(self) -> None:
        """The server has the next signing key: from here on it is the only one."""
        with self._lock:
            identity = self.identity
            if identity.next_seed is not None:
                after = msgspec.structs.replace(identity, signing_seed=identity.next_seed, next_seed=None)
                self.set_identity(after)

    def remember(self, denials: Iterable[Denial]) -> None:
        """Store denials, replacing what was known of them, without destroying a key."""
        with self._lock:
            edit = self._edit()
            for denial in denials:
                edit.remember(denial)
            self._commit(edit)
            self.changes += 1

    def release(self, subject: str) -> list[DataKey]:
        """Let go of a subject's keys that are held in memory only; returns them."""
        with self._lock:
            gone = [key for key in self.keys_of(subject) if not key.resting]
            for key in gone:
                self._held.went(key)
            self.changes += 1
            return gone

    def destroy(self, denials: Sequence[Denial], step: Step = no_step) -> list[Denial]:
        """Destroy the keys that `denials` name, remember the denials, and return them with what was held.

        With a key at rest the counter grows: the path to it is written anew under fresh keys, and no copy of
        the keystore that holds it opens under the slot. Points for `step`: `keystore`, `slot_new`.
        """
        with self._lock:
            doomed = {d.id: key for d in denials if (key := self._doomed_by(d)) is not None}
            turn = any(key.resting for key in doomed.values())
            done = [_counted(d, doomed.get(d.id), self.counter, turn) for d in denials]
            edit = self._edit()
            for denial in done:
                if denial.id in doomed:
                    edit.destroy(*denial.pair)
                edit.remember(denial)
            self._commit(edit, step=step, turn=turn)
            for key in doomed.values():
                self._held.went(key)
            self.changes += 1
            return done

    def _doomed_by(self, denial: Denial) -> DataKey | None:
        key = self.by_pseudonym(*denial.pair)
        return key if key is not None and key.facts.ordinal < denial.ordinal else None

    def opens_canary(self, canary: bytes, name: bytes) -> bool:
        """Whether any key of a pseudonym that the slot leads to, read anew from its provider, opens `canary`.

        Raises `KeystoreMismatch` when what rests does not open at all.
        """
        with self._lock:
            entry = self._vault.read_anew(name) or Entry()
            id_, kept = self._vault.slot.database_id, entry.keys.values()
        found = [DataKey(id_, entry.subject, one.facts, one.secret) for one in kept]
        return any(key.opens_canary(canary) for key in [*found, self.device_key()])

    # ---- the slot ---------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The database counts this opening: so does the slot."""
        self._vault.store(opening=self._vault.slot.opening + 1)

    def begin_rekey(self) -> bytes:
        """First step of a rekey: the slot holds the present page key and the next, which is returned."""
        self._ownership.check()
        with self._lock:
            fresh = self.slot.next_page_key or secrets.token_bytes(32)
            self._vault.store(next_page_key=fresh)
            return fresh

    def end_rekey(self, page_key: bytes) -> None:
        """The database opens under `page_key`: from here on the slot holds no other."""
        with self._lock:
            moved = page_key != self.slot.page_key
            counter = self.counter + moved
            self._vault.store(page_key=page_key, next_page_key=None, counter=counter)

    def _edit(self) -> Edit:
        return Edit(self._vault.find)

    def _commit(
        self,
        edit: Edit,
        *,
        doubted: Iterable[Pair] = (),
        step: Step = no_step,
        turn: bool = False,
        **facts: object,
    ) -> None:
        """Make an edit durable, with new facts of the trunk."""
        self._ownership.check()
        trunk, growth, told = self._vault.trunk, edit.growth, set(self._told)
        after = msgspec.structs.replace(
            trunk,
            sequence=self._sequence,
            keys=trunk.keys + growth.keys,
            subjects=trunk.subjects + growth.subjects,
            doubt=tuple(sorted({*trunk.doubt} - told | {*doubted})),
            ledger=self.ledger_note,
            **facts,
        )
        try:
            self._vault.commit(after, edit.entries, step, turn=turn)
        except BaseException:
            self._held.ask_again(edit.entries)
            raise
        finally:
            edit.wipe()
        self._told -= told
        self.upkeep.grew()


def _counted(denial: Denial, key: DataKey | None, before: int, turn: bool) -> Denial:
    """A denial with what it destroyed; one that comes again keeps what it said the first time."""
    if key is None and denial.held:
        return denial
    after = before + (turn and key is not None and key.resting)
    return msgspec.structs.replace(
        denial, held=int(key is not None), counter_before=before, counter_after=after
    )
