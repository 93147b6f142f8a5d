"""What `/v1/consents*`, `/v1/consent-revocations*` and `/v1/consent-ledger*` take and say, as types.

The doors answer with these, the OpenAPI document is made from them, and the client reads replies into them.
Times (`_at`, `at`, `time`) are integer microseconds since 1970 UTC; bytes stand as base64url without padding.
A reader takes what it does not know for something newer and leaves it alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edge_runtime.wire.printing import prints_only
from sync_server.consent.progress import Counters, RecipientCounters, State
from sync_server.consent.root import KeyLink
from sync_server.consent.signed_document import SignedDocument

Purpose = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Initiator = Literal["subject", "controller"]


# ---- what is asked ---------------------------------------------------------------------------------------


@prints_only("format")
class SubjectIdentifier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A subject as RFC 9493 names one; `opaque` alone: the id under which the subject is known here."""

    id: str
    format: Annotated[str, msgspec.Meta(extra_json_schema={"enum": ["opaque"]})] = "opaque"


Subject = str | SubjectIdentifier
"""`alice`, `user:alice`, or `{"format": "opaque", "id": "user:alice"}`: one and the same."""


@prints_only("state", "base")
class Consent(msgspec.Struct, forbid_unknown_fields=True):
    """A decision to record. `base`: the lane position its author had seen; left out, the present one."""

    subject: Subject
    purpose: Purpose
    notice: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    state: Literal["given", "refused", "objected", "restricted"] = "given"
    base: Annotated[int, msgspec.Meta(ge=0, le=2**62)] | None = None


@prints_only("initiator")
class Revocation(msgspec.Struct, forbid_unknown_fields=True):
    """Whose permission ends, and for what: a list of purposes, or `"*"` for all."""

    subject: Subject
    purposes: Annotated[list[Purpose], msgspec.Meta(min_length=1, max_length=1_000)] | Literal["*"] = "*"
    initiator: Initiator = "subject"
    notice: Annotated[str, msgspec.Meta(max_length=512)] = ""
    callback_urls: Annotated[list[str], msgspec.Meta(max_length=64)] = []
    """Where its progress is posted, signed: of origins that the operator allows."""


# ---- decisions -------------------------------------------------------------------------------------------


class ConsentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One decision as it stands in the ledger, for good."""

    id: str
    """Names this record, and is no hint at any other."""
    seq: int
    """Its place in the ledger, which is its lane position."""
    purpose: str
    state: str
    """What was said."""
    outcome: str
    """`recorded`, or `superseded` when a denial lay after its base."""
    notice: str
    base: int
    actor: str
    """`api`, or `device:<id>`."""
    at: int
    """When it was said, by the actor's clock."""
    recorded_at: int
    grant: int
    """Ledger seq of the live grant after it; 0 for none."""
    notice_hash: str = ""
    """`sha256:` and 64 hex digits of the text that was shown; empty when its notice declares none."""
    registry: str = ""
    """Fingerprint of the registry version in force, 64 hex digits."""
    signals: list[str] = []
    """What the subject's software said beside the subject: `gpc`."""


class StateNow(msgspec.Struct, frozen=True):
    """What holds for one purpose now."""

    state: str
    grant: int
    denial: int
    """Ledger seq of the newest denial; 0 for none."""


class ConsentRecorded(ConsentRecord, frozen=True, kw_only=True):
    """The decision that was recorded, and what holds after it."""

    state_now: StateNow
    gpc_conflict: bool = False
    """A `given` was recorded as `refused`: the purpose sells, shares or targets, and the request carried
    `Sec-GPC: 1`."""


@prints_only()
class OptOut(msgspec.Struct, forbid_unknown_fields=True):
    """Whose software opts out of sale, sharing and targeting."""

    subject: Subject
    notice: Annotated[str, msgspec.Meta(min_length=1, max_length=512)] = "none"
    """Version of the text that was shown, if any was."""


class OptedOut(msgspec.Struct, frozen=True, kw_only=True):
    """What the opt-out denied now; what was denied before is left as it is."""

    denied: list[ConsentRecord]
    opted_out: list[str]
    """Every purpose that sells, shares or targets: all are denied now."""


class ConsentHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for a subject, and a page of what was ever said, oldest first."""

    states: dict[str, StateNow]
    """By purpose."""
    history: list[ConsentRecord]
    lane: int
    """Lane position of the subject's newest decision, 0 for none: `base` of whoever decides after this."""
    next: int | None
    """`after` of the next page; None: this was the last."""


# ---- revocations -----------------------------------------------------------------------------------------


class DenialPlace(msgspec.Struct, frozen=True):
    """Where a denial stands in the ledger."""

    seq: int
    purpose: str


class RevocationAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """In force from the moment this was answered."""

    id: str
    state: State
    accepted_at: int
    due_at: int
    """A target without a receipt then is overdue."""
    denials: list[DenialPlace]
    receipt: SignedDocument


class RevocationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far a revocation has come. A time that is None is not reached."""

    id: str
    initiator: Initiator
    denials: list[DenialPlace]
    state: State
    amended: bool
    """A device that nobody waited for held some, and erased it later."""
    counters: Counters
    accepted_at: int
    due_at: int
    enforced_at: int | None
    erased_at: int | None
    completed_at: int | None
    server_erased_at: int | None
    overdue: list[str]
    """Devices that still owe a receipt past the due time; the first of them, when there are very many."""
    recipients: RecipientCounters


class RevocationTarget(msgspec.Struct, frozen=True, kw_only=True):
    """One device that a revocation waits for."""

    device_id: str
    position: int
    """Lane position that it has to acknowledge."""
    lease_bound_at: int | None
    """It is locked by itself from here on; null: one of the purposes needs no lease."""
    acknowledged_at: int | None
    enforced_at: int | None
    enforced_by: Literal["acknowledged", "lease_ended", "wiped"] | None
    """What ended its use: its word, the end of its lease, or that it erased everything as it was shut out."""
    remark: str | None
    """`enforced on the word of a wall clock`: its lease ended, and it trusts that clock over restarts."""
    erased_at: int | None
    answer: Literal["erased", "held_none", "wiped"] | None
    """`wiped`: with one receipt for everything that it held."""
    shut_out: str | None
    """Why it was shut out, if it was: `lost`, say."""
    late: bool


class RevocationTargets(msgspec.Struct, frozen=True, kw_only=True):
    """A page of targets, by device id."""

    id: str
    targets: list[RevocationTarget]
    next: str | None
    """`after` of the next page; None: this was the last."""


class RevocationBrief(msgspec.Struct, frozen=True):
    """One revocation in a listing."""

    id: str
    accepted_at: int


class Revocations(msgspec.Struct, frozen=True, kw_only=True):
    """A page of revocations, newest first."""

    revocations: list[RevocationBrief]
    next: str | None


# ---- the ledger ------------------------------------------------------------------------------------------


@prints_only("size", "time")
class LedgerHead(msgspec.Struct, frozen=True, kw_only=True):
    """The signed head; its size is the present lane position."""

    size: int
    root: str
    time: int
    incarnation: str
    signature: str
    public_key: str
    succession: list[KeyLink]
    """The keys before that one, from the first on."""
    root_fingerprint: str
    """Of the first key: what a verifier pins, `sha256:...`."""


@prints_only("size", "seq", "first")
class LedgerProof(msgspec.Struct, frozen=True, kw_only=True):
    """`seq` and `leaf`: that the leaf is in the log of `size`. `first` and `first_root`: that the older log
    is the beginning of it. `root` is that of `size` leaves."""

    size: int
    root: str
    proof: list[str]
    seq: int | msgspec.UnsetType = msgspec.UNSET
    leaf: str | msgspec.UnsetType = msgspec.UNSET
    first: int | msgspec.UnsetType = msgspec.UNSET
    first_root: str | msgspec.UnsetType = msgspec.UNSET


class LedgerLeaf(msgspec.Struct, frozen=True):
    """One leaf as the ledger hashes it, base64url; without its salt it names nobody."""

    seq: int
    leaf: str


class LedgerLeaves(msgspec.Struct, frozen=True):
    """A page of leaves, in order."""

    leaves: list[LedgerLeaf]
    next: int | None
    """`after` of the next page; None: this was the last."""
