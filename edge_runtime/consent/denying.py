"""Making a denial: what it knows of its key, its place and its authority."""

from __future__ import annotations

import secrets
from typing import Final

from edge_runtime.cache.database import Database
from edge_runtime.errors import DatabaseUnreadable
from edge_runtime.keys.datakey import DataKey
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.keyring import Keyring

NO_NOTICE: Final = "none"
"""Notice of a denial by somebody to whom no text was ever shown here."""


def base_of(keyring: Keyring, database: Database) -> int:
    """The newest position of the authority that a decision taken now can have seen."""
    if not keyring.identity.enrolled:
        return keyring.sequence
    with database.read() as tx:
        return tx.lane_position()


def followed(keyring: Keyring, subject: str, purpose: str) -> bytes | None:
    """Id of our own newest denial or restriction of (typed subject, purpose): a decision taken now knows it.

    One that the ledger has and that the decision's base has seen is named for nothing; that does no harm.
    """
    key = keyring.key(subject, purpose)
    if key is not None and key.facts.restricted is not None:
        return key.facts.restricted.id
    mine = [
        d for d in keyring.denials_of(keyring.pseudonym(subject)) if d.purpose == purpose and d.taken_here
    ]
    if mine:
        return max(mine, key=lambda denial: denial.ordinal).id
    return None if key is None else key.facts.after


def knows(keyring: Keyring, key: DataKey, decision: bytes | None) -> bool:
    """Whether the decision that made `key` was taken on this device after its own denial `decision`."""
    if decision is None:
        return False
    name = keyring.pseudonym(key.subject)
    mine = [d for d in keyring.denials_of(name) if d.purpose == key.purpose and d.taken_here]
    before = [d for d in mine if d.ordinal < key.facts.ordinal]
    return decision in {key.facts.after, *(d.id for d in before), *(d.after for d in before)}


def new_denial(
    keyring: Keyring,
    database: Database,
    subject: str,
    purpose: str,
    state: str,
    notice: str | None,
    at_us: int,
    signals: tuple[str, ...] = (),
) -> Denial:
    """A denial of (typed subject, purpose) taken here; a standalone runtime numbers and settles it itself."""
    key = keyring.key(subject, purpose)
    shown = notice or (key.facts.notice if key is not None else "") or NO_NOTICE
    try:
        base = base_of(keyring, database)
    except DatabaseUnreadable:
        base = 0  # a denial is accepted whatever its base, and erasing must not wait for a lane
    ordinal, alone = keyring.next_ordinal(), not keyring.identity.enrolled
    return Denial(
        secrets.token_bytes(16),
        keyring.pseudonym(subject),
        purpose,
        state,
        shown,
        at_us,
        base,
        ordinal,
        seq=ordinal if alone else 0,
        settled=alone,
        signals=signals,
        after=followed(keyring, subject, purpose),
    )
