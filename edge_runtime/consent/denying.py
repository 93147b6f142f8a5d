"""Making a denial: what it knows of its key, its place and its authority."""

from __future__ import annotations

import secrets
from typing import Final

from edge_runtime.cache.database import Database
from edge_runtime.errors import DatabaseUnreadable
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
    )
