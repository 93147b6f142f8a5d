"""The budget ledger: what a subject's reports have cost, under a blind tag, by the day.

Debited in the transaction that stores the report, so a crash in between leaves a report unsent but never a
report unpaid. Reads no clock: the caller hands in the ledger's day (`mechanisms/windows.py`). A ledger that
lost something, to damage or because an older copy of it was put back, takes no charge that this could be
about. An answer that was given before costs nothing again (`remembered.py`), and is marked like any other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from edge_runtime.aggregates.facts import NEWEST_DAY, UNSURE_DAY, WINDOWS, FactReads, FactWrites
from edge_runtime.aggregates.mechanisms import BUDGET_CEILING_MICROS, DAY_US
from edge_runtime.aggregates.mechanisms.windows import decode_windows, encode_windows, longest, noted

ROUND_LIMIT_US: Final = 31 * DAY_US
"""No round is open longer than this; one that closes later by our clock is not believed."""
_ROUND_MARK_MICROS: Final = 1


class BudgetReads(FactReads, Protocol):
    """What judging a charge needs of a transaction of the cache."""

    def spent(self, tag: bytes, window: int) -> int:
        """Millionths of epsilon debited to `tag` in `window` (here: a day since 1970)."""
        ...


class BudgetWrites(BudgetReads, FactWrites, Protocol):
    """What paying needs of a transaction of the cache."""

    def debit(self, tag: bytes, window: int, amount: int) -> None:
        """Add `amount` millionths."""
        ...

    def drop_budget_before(self, window: int) -> int:
        """Forget older windows."""
        ...


def subject_tag(controller_key: bytes, subject: str) -> bytes:
    """16 bytes that stand for (controller, subject) in the ledger; they outlive an erasure."""
    return _blind(controller_key, b"edge-budget", subject.encode())


def round_tag(controller_key: bytes, round_id: bytes, subject: str) -> bytes:
    """16 bytes that mark that `subject` has answered in this round."""
    return _blind(controller_key, b"edge-round", round_id + subject.encode())


def newest_day(tx: BudgetReads) -> int:
    """The newest day on which anything was debited here, or that the ledger has seen; 0 for none."""
    return int.from_bytes(tx.meta(NEWEST_DAY) or b"", "big")


def note_day(tx: BudgetWrites, day: int) -> None:
    """The ledger has seen this day: it never goes back behind it."""
    if day > newest_day(tx):
        tx.set_meta(NEWEST_DAY, day.to_bytes(8, "big"))


@dataclass(frozen=True, slots=True)
class Charge:
    """One report to be paid for."""

    subject: bytes
    """`subject_tag`."""
    round: bytes
    """`round_tag`."""
    closes_day: int
    """Day on which the round closes; the mark of the round is kept under it."""
    window_days: int
    """No run of this many days may hold more than the ceiling, whatever the metrics are called."""
    micros: int
    """Cost in millionths of epsilon; 0 for an answer that was given, and paid for, before."""


class Verdict(Enum):
    """What the ledger says to a charge, and why."""

    PAID = "paid"
    ANSWERED = "this subject has answered in this round"
    OVER_BUDGET = "the window's ceiling would be passed"
    UNSURE = "damage took a part of what was spent in the window, or which rounds were answered"


def judge(tx: BudgetReads, charge: Charge, day: int) -> Verdict:
    """What `pay` would say on the ledger's `day`; changes nothing."""
    if tx.spent(charge.round, charge.closes_day):
        return Verdict.ANSWERED
    window = _window(tx, charge, day)
    if _unsure(tx, charge, day, window):
        return Verdict.UNSURE
    spent = spent_in_window(tx, charge.subject, day, window)
    return Verdict.OVER_BUDGET if spent + charge.micros > BUDGET_CEILING_MICROS else Verdict.PAID


def pay(tx: BudgetWrites, charge: Charge, day: int) -> Verdict:
    """Debit one report and mark its round, or change nothing and say why."""
    verdict = judge(tx, charge, day)
    if verdict is Verdict.PAID:
        tx.debit(charge.subject, day, charge.micros)
        known = decode_windows(tx.meta(WINDOWS))
        tx.set_meta(WINDOWS, encode_windows(noted(known, charge.window_days, day)))
        tx.debit(charge.round, charge.closes_day, _ROUND_MARK_MICROS)
        note_day(tx, day)
    return verdict


def forget_before(tx: BudgetWrites, charge: Charge, day: int) -> None:
    """Drop what no window of now reaches back to. It walks the whole ledger: once a day is enough."""
    tx.drop_budget_before(day - _window(tx, charge, day))


def spent_in_window(tx: BudgetReads, subject: bytes, day: int, window_days: int) -> int:
    """Millionths of epsilon debited to the tag in the `window_days` that end with `day`."""
    return sum(tx.spent(subject, d) for d in range(day - window_days + 1, day + 1))


def _window(tx: BudgetReads, charge: Charge, day: int) -> int:
    """The catalog's window, or a longer one of an earlier catalog whose debits are not over."""
    return longest(decode_windows(tx.meta(WINDOWS)), charge.window_days, day)


def _unsure(tx: BudgetReads, charge: Charge, day: int, window_days: int) -> bool:
    """Whether a day that is not known whole lies in the window, or within the time of the round."""
    raw = tx.meta(UNSURE_DAY)
    oldest = min(day - window_days + 1, charge.closes_day - ROUND_LIMIT_US // DAY_US)
    return raw is not None and oldest <= int.from_bytes(raw, "big")


def _blind(key: bytes, person: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16, key=key, person=person).digest()
