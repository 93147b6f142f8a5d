"""Whether database and root slot are of one time: each counts what the other must have seen.

The slot counts openings and key epochs; the database notes both. A database that notes fewer than the slot
counts was put back from an older copy. A slot that counts fewer than the database notes is itself an old
copy, unless the step in between was cut short, of which the database then holds a mark.
"""

from __future__ import annotations

from typing import Final

from edge_runtime.cache.database import Database
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.errors import KeystoreMismatch
from edge_runtime.keys.keyring import Keyring

_COUNTER: Final = "slot.counter"
_OPENING: Final = "slot.opening"
_TURNING: Final = "slot.turning"


def expect_counter(tx: WriteTransaction, counter: int, *, turning: bool = False) -> None:
    """The slot is about to count `counter`; noted in the transaction that makes it inevitable.

    Args:
        turning: nothing else in the database says that it is (an erasure's denial does).
    """
    tx.set_meta(_COUNTER, _raw(counter))
    if turning:
        tx.set_meta(_TURNING, b"1")


def counter_is_reached(tx: WriteTransaction) -> None:
    """The slot counts what `expect_counter(turning=True)` announced."""
    tx.drop_meta(_TURNING)


def note_opening(database: Database, keyring: Keyring) -> None:
    """Count this opening; in the database first: a crash in between leaves it one ahead, no fault."""
    with database.write("opening") as tx:
        expect_counter(tx, keyring.counter)
        tx.set_meta(_OPENING, _raw(keyring.slot.opening + 1))
        tx.drop_meta(_TURNING)
    keyring.opened()


def database_is_older(tx: ReadTransaction, keyring: Keyring) -> bool:
    """Whether the database is an older copy than the slot, or a new one beside it."""
    counter, opening = _number(tx, _COUNTER), _number(tx, _OPENING)
    return counter < keyring.counter or opening < keyring.slot.opening


def refuse_older_slot(tx: ReadTransaction, keyring: Keyring) -> None:
    """Raise `KeystoreMismatch` when the root slot is an older copy than the database."""
    ahead = _number(tx, _COUNTER) - keyring.counter
    cut_short = ahead == 1 and (tx.meta(_TURNING) is not None or bool(tx.open_denials()))
    if ahead > 0 and not cut_short:
        raise KeystoreMismatch(
            f"the root slot is an old copy: expected key epoch {keyring.counter + ahead}, got "
            f"{keyring.counter}. Nothing was touched. Put the right one back, or open with "
            "recover='discard': every personal row goes, and the device must enrol again"
        )


def _number(tx: ReadTransaction, key: str) -> int:
    return int.from_bytes(tx.meta(key) or b"", "big")


def _raw(number: int) -> bytes:
    return number.to_bytes(8, "big")
