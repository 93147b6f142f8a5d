"""What `/v1/subject-data` says: everything that this server holds on one subject, as types.

GDPR Art. 15 (access) asks for all of it; what is `portable` is the part that Art. 20 asks for: data that
rests on consent or a contract. After an erasure there is evidence, and nothing else.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from edge_runtime.wire.printing import prints_only
from sync_server.consent.documents import ConsentRecord, StateNow

NOT_LINKABLE: Final = (
    "Aggregates hold no answer that can be linked to a subject: answers are noised on devices, come sealed,"
    " are counted and forgotten. While a round is open, a ticket that was issued and not used yet stands"
    " under the subject's pseudonym; what was spent of a budget stands under a blind tag until its"
    " window ends."
)


class PurposeHeld(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one purpose."""

    state: StateNow
    legal_basis: str | None
    """Null: the catalog in force declares no such purpose."""
    portable: bool
    """Whether its data is in the part that Art. 20 asks for."""


class RowSource(msgspec.Struct, frozen=True, kw_only=True):
    """Which job wrote a row, as its publisher said."""

    who: str
    name: str
    run: str
    code_version: str


@prints_only("view", "version", "purpose")
class RowHeld(msgspec.Struct, frozen=True, kw_only=True):
    """One feature row about the subject."""

    entity: str
    """The subject by pseudonym, and what else the row is keyed by."""
    view: str
    version: int
    purpose: str
    channel: str
    """In which it is sent to devices."""
    event_time: int
    created: int
    grant: int
    """Ledger seq of the decision under which it was accepted."""
    portable: bool
    source: RowSource | None
    values: dict[str, Any]


class DenialHeld(msgspec.Struct, frozen=True, kw_only=True):
    """One denial of a revocation, and how far that has come. A time that is null is not reached."""

    seq: int
    purpose: str
    revocation: str
    """Its devices and their receipts: `/v1/consent-revocations/{id}/targets` and `/receipt`."""
    accepted_at: int
    server_erased_at: int | None
    completed_at: int | None


@prints_only("next")
class SubjectData(msgspec.Struct, frozen=True, kw_only=True):
    """A page of what is held. Decisions come first, then rows, then denials."""

    subject: str
    """By pseudonym: the id itself is kept nowhere here."""
    exported_at: int
    purposes: dict[str, PurposeHeld]
    decisions: list[ConsentRecord]
    """Each has a receipt of its own: `/v1/consents/{id}/receipt`."""
    rows: list[RowHeld]
    denials: list[DenialHeld]
    aggregates: str = NOT_LINKABLE
    next: str | None = None
    """`after` of the next page; null: this was the last."""
