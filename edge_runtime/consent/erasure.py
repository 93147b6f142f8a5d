"""Erasing: the steps from a denial to its receipt, in the one order in which a kill at any point is safe.

1. `denied`: the denial is committed; from here it is finished, whatever happens.
2. `silenced`: memory is zeroed.
3. `keystore`: the path to the doomed keys rests anew in the keystore, under fresh keys, without them and with
   the denial; the root slot does not lead there yet.
4. `slot_new`: the slot holds the new root alone and counts one up: no copy of the keystore that holds the
   doomed keys opens under it.
5. `rows`: the rows are deleted.
6. `wal`: the write-ahead log is cut to nothing.
7. `canary`: a sealed sample no longer opens with any key that the slot, read anew, leads to.
8. `receipt`: what was done is recorded, and queued for the server.

`finish` runs at opening and completes what a kill cut short, and what an older copy of the database forgot.

A damaged database keeps nobody's data readable: steps that it does not take are left out, and the keys go
all the same. The keystore remembers the denial and outranks the database: one that is rebuilt has no row
without a key, and is told again what it does not know. A receipt counts only rows that were deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from edge_runtime.aggregates.unsent import drop_dead, drop_unsent
from edge_runtime.cache.database import Database
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.clock import Clock
from edge_runtime.consent.receipt import ErasureReceipt, Receipts
from edge_runtime.consent.restored import expect_counter
from edge_runtime.errors import DatabaseUnreadable
from edge_runtime.keys import denial as denials_of
from edge_runtime.keys.datakey import DataKey
from edge_runtime.keys.denial import Denial, Evidence
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire import codec, seal
from edge_runtime.wire.messages import Decision

__all__ = ["POINTS", "Eraser", "ErasureReceipt", "Forget"]

POINTS: Final = (
    "begin",
    "denied",
    "silenced",
    "keystore",
    "slot_new",
    "rows",
    "wal",
    "canary",
    "receipt",
)
"""Every point at which the `step` hook is called, in order."""

Forget = Callable[[str, Sequence[str]], Mapping[str, int]]
"""Zero what memory holds of (typed subject, purposes); returns counts, at least `memory`."""


class Eraser:
    """Carries denials out. The consent room's lock guards every call.

    Args:
        forget: zeroes memory; called before any key goes.
        step: called with the name of each of `POINTS` as it is passed; for tests that kill there.
    """

    def __init__(
        self,
        keyring: Keyring,
        database: Database,
        clock: Clock,
        forget: Forget,
        receipts: Receipts,
        step: Callable[[str], None],
    ) -> None:
        self._keyring, self._database, self._clock = keyring, database, clock
        self._forget, self._receipts, self._step = forget, receipts, step
        self._unfinished = False

    # ---- the steps --------------------------------------------------------------------------------------

    def carry_out(self, denials: Sequence[Denial], bar: Callable[[DataKey, Denial], None]) -> list[Denial]:
        """Run every step for `denials`; returns them with their evidence.

        Args:
            bar: called for each doomed key once its denial is committed: nobody may use it any more.
        """
        self._step("begin")
        self._unfinished = True
        doomed = {d.id: key for d in denials if (key := self._keyring.by_pseudonym(*d.pair)) is not None}
        denials = [_aimed(d, doomed.get(d.id)) for d in denials]
        with suppress(DatabaseUnreadable), self._database.write("denial") as tx:
            if any(key.resting for key in doomed.values()):
                expect_counter(tx, self._keyring.counter + 1)
            for denial in denials:
                self.store(tx, denial)
                self._announce(tx, denial)
        for denial in denials:
            if denial.id in doomed:
                bar(doomed[denial.id], denial)
        self._step("denied")
        memory = self._silence(doomed.values())
        self._step("silenced")
        denials = self._keyring.destroy(denials, self._step)
        counts = self._delete_rows(denials)
        for denial_id, key in doomed.items():
            counts[denial_id].update(memory.pop(key.subject, {}))
        return self._conclude(denials, counts)

    def finish(self, *, compare: bool = False) -> list[Denial]:
        """Complete every erasure that was cut short; returns the denials completed.

        Called at opening, before anything personal can be used.

        Args:
            compare: this database may be an older copy, or new beside an older keystore: also carry out what
                the keystore remembers and it does not, and delete every row that no key opens. This reads
                the whole keystore; nothing else here does.
        """
        with self._database.read() as tx:
            known = {d.id: d for d in map(denials_of.decode, tx.denials() if compare else tx.open_denials())}
        for denial in known.values():
            self._keyring.saw_ordinal(denial.ordinal)
        pending = {d.id: d for d in known.values() if d.evidence is None}
        if compare:
            pending |= {d.id: d for d in self._keyring.denials() if d.id not in known}
        if pending or compare:
            return self._complete(sorted(pending.values(), key=lambda denial: denial.ordinal), compare)
        self._unfinished = False
        return []

    def finish_pending(self) -> None:
        """Finish an erasure that failed in this process (a full disk) before anything new is decided.

        What damage keeps from being finished waits for a rebuilt database, and nobody else waits for it.
        """
        if self._unfinished and self._database.damaged is None:
            self.finish()

    def _complete(self, pending: list[Denial], compare: bool) -> list[Denial]:
        stored = [self._as_known(denial) for denial in pending]
        todo = [d for d in stored if self._must_destroy(d)]
        done = {d.id: d for d in self._keyring.destroy(todo, self._step)} if todo else {}
        denials = [done.get(d.id, d) for d in stored]
        counts = self._delete_rows(denials)
        if compare:
            unknown = self._delete_unknown()
            if denials:
                counts[denials[0].id].update(unknown)
        with self._database.write("denial") as tx:
            for denial in denials:
                self._announce(tx, denial)
        return self._conclude(denials, counts)

    def _as_known(self, denial: Denial) -> Denial:
        """What the keystore says of a denial, with what only the database remembers."""
        for kept in self._keyring.denials_of(denial.subject):
            if kept.id == denial.id:
                return msgspec.structs.replace(kept, handle=denial.handle)
        return denial

    def _must_destroy(self, denial: Denial) -> bool:
        key = self._keyring.by_pseudonym(*denial.pair)
        doomed = key is not None and key.facts.ordinal < denial.ordinal
        return doomed or denial.id not in {d.id for d in self._keyring.denials_of(denial.subject)}

    def _silence(self, keys: Iterable[DataKey]) -> dict[str, Mapping[str, int]]:
        purposes: dict[str, list[str]] = {}
        for key in keys:
            purposes.setdefault(key.subject, []).append(key.purpose)
        return {subject: self._forget(subject, names) for subject, names in purposes.items()}

    def _delete_rows(self, denials: Sequence[Denial]) -> dict[bytes, Counter[str]]:
        counts = {denial.id: Counter[str]() for denial in denials}
        handles = {denial.id: denial.handle for denial in denials if denial.handle is not None}
        if handles:
            with suppress(DatabaseUnreadable):
                gone = self._forgotten(handles)
                for denial_id, rows in gone.items():
                    counts[denial_id].update(rows)
        self._step("rows")
        return counts

    def _forgotten(self, handles: Mapping[bytes, bytes]) -> dict[bytes, dict[str, int]]:
        with self._database.write("erase") as tx:
            return {
                denial_id: {**tx.forget(handle), "outbox": drop_unsent(tx, {handle})}
                for denial_id, handle in handles.items()
            }

    def _delete_unknown(self) -> dict[str, int]:
        """What hangs on no living key is unreadable; it goes too."""
        living = {key.handle for key in self._keyring.every_key()} | {self._keyring.device_key().handle}
        with self._database.write("erase") as tx:
            return {**tx.forget_unknown(living), "outbox": drop_dead(tx, living)}

    def _conclude(self, denials: Sequence[Denial], counts: Mapping[bytes, Counter[str]]) -> list[Denial]:
        if any(d.held for d in denials) or any(sum(c.values()) for c in counts.values()):
            with suppress(DatabaseUnreadable):
                self._database.checkpoint_truncate()
        self._step("wal")
        now_us = self._clock.now_us()
        done = [self._with_evidence(d, counts[d.id], now_us) for d in denials]
        self._step("canary")
        with suppress(DatabaseUnreadable), self._database.write("receipt") as tx:
            for denial in done:
                self.store(tx, denial)
                if denial.settled:
                    self.queue_receipt(tx, denial)
        self._unfinished = False
        self._step("receipt")
        return done

    def _with_evidence(self, denial: Denial, rows: Mapping[str, int], now_us: int) -> Denial:
        unreadable = None
        if denial.canary is not None:
            unreadable = not self._keyring.opens_canary(denial.canary, denial.subject)
        evidence = Evidence(
            denial.held, dict(rows), denial.counter_before, denial.counter_after, unreadable, now_us
        )
        return msgspec.structs.replace(denial, evidence=evidence, canary=None, handle=None)

    def proven(self, denial: Denial) -> Denial:
        """A denial as the keystore remembers it, with the evidence that the database has of it."""
        raw = None
        with suppress(DatabaseUnreadable), self._database.read() as tx:
            raw = tx.denial(denial.id)
        if raw is None:
            return denial
        return msgspec.structs.replace(denial, evidence=denials_of.decode(raw).evidence)

    # ---- telling the server -----------------------------------------------------------------------------

    def _announce(self, tx: WriteTransaction, denial: Denial) -> None:
        """Queue the decision for the ledger, unless it came from there or is settled."""
        if denial.settled or not denial.taken_here or not self._keyring.identity.enrolled:
            return
        d = denial
        tx.enqueue(
            "decision",
            d.id,
            seal.canonical(
                Decision(d.id, d.subject, d.purpose, d.state, d.notice, d.base, d.at_us, d.signals, d.after)
            ),
        )

    def queue_receipt(self, tx: WriteTransaction, denial: Denial) -> ErasureReceipt:
        """Sign the receipt that answers a denial, and queue it once the denial has a number."""
        receipt = self._receipts.of([denial])
        if denial.seq:
            self.queue(tx, receipt)
        return receipt

    def queue(self, tx: WriteTransaction, receipt: ErasureReceipt) -> None:
        """Queue a receipt for the server; a runtime without one keeps it as the denial's evidence only."""
        if self._keyring.identity.enrolled:
            tx.enqueue("receipt", receipt.receipt.id, codec.encode(receipt.note()))

    def store(self, tx: WriteTransaction, denial: Denial) -> None:
        """Store what is now known of a denial."""
        tx.put_denial(denial.id, denials_of.encode(denial), denial.evidence is None)


def _aimed(denial: Denial, key: DataKey | None) -> Denial:
    """A denial with what finishing it needs of its key: a sample sealed under it, and its rows' handle."""
    return denial if key is None else msgspec.structs.replace(denial, canary=key.canary(), handle=key.handle)
