"""Every message of the device session, typed and versioned.

A message is a msgpack map whose `t` names it and whose `v` is the protocol version. Records inside messages
(rows, lane entries) are arrays. Unknown fields are refused: a new field means a new version.

Ids: a subject travels only as a 16-byte pseudonym (`seal.pseudonym`); an entity that is not personal travels
as its plain id (`item:85123A`). Times are microseconds since 1970 UTC; durations are microseconds.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from edge_runtime.wire.printing import prints_only

PROTOCOL: Final = 1
"""The newest version of the protocol, and the one whose Challenge and Refusal every version understands."""
RANGES: Final = 64
"""Sub-ranges of a channel's digest; a mismatch is repaired by the sub-range."""

Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Proof = Annotated[list[Bytes32], msgspec.Meta(max_length=64)]
"""Hashes of a Merkle proof; a log of 2^62 leaves needs no more."""
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Position = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Micros = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Instant = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
"""A time that may lie before 1970; fits SQLite's signed 64 bits with room to add a ttl."""
Version = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
Range = Annotated[int, msgspec.Meta(ge=0, lt=RANGES)]
"""Index of one sub-range; `digest.range_of` says to which a row belongs."""
RangeDigests = Annotated[bytes, msgspec.Meta(min_length=16 * RANGES, max_length=16 * RANGES)]
"""16 bytes a sub-range, in order; their sum mod 2^128 is the channel's digest."""
EntityKey = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
"""A typed id or a composite of them (`user:alice|item:x`), each id at most 512 bytes."""


class _Message(msgspec.Struct, frozen=True, tag_field="t", forbid_unknown_fields=True, kw_only=True):
    v: int = PROTOCOL


class _Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


# ---- opening -----------------------------------------------------------------------------------------


class Challenge(_Message, tag="challenge", frozen=True, kw_only=True):
    """Server, first word: sign this nonce. `incarnation` changes when the server is restored from backup.

    Its shape is the same in every version of the protocol, and so is a Refusal's.
    """

    nonce: Bytes32
    incarnation: Bytes16
    server_time_us: Micros
    speaks: Annotated[list[Version], msgspec.Meta(min_length=1, max_length=16)]
    """Protocol versions spoken here; the device goes on in the newest that it speaks too."""


class Hello(_Message, tag="hello", frozen=True, kw_only=True):
    """Device: who it is and where it stands. `signature` covers `seal.hello_bytes(challenge.nonce, self)`."""

    device_id: Name
    nonce: Bytes32
    """The device's own nonce: the answer to it proves that the server spoke now, not yesterday."""
    pinned: Bytes32
    """The server key that this device trusts; a server with a newer one proves its succession."""
    lane: Position
    """Newest lane position applied here."""
    counter: Position
    """The root slot's counter: lower than the server has seen means a restored image."""
    catalog: Name
    """`name@version` of the catalog in use."""
    cursors: dict[Name, Position]
    """channel -> seq for each channel held."""
    signature: Signature


class Succession(_Record, frozen=True):
    """A server key named by the one before it, which signs `seal.succession_bytes(before, public_key)`."""

    public_key: Bytes32
    signature: Signature


class Restore(_Record, frozen=True):
    """The server was restored from a backup, and speaks as another incarnation since."""

    incarnation: Bytes16
    """Its name from then on."""
    kept: Position
    """How many steps of the ledger before it are the same; what came after was lost."""
    at_us: Micros
    """When, by the clock of the server; later than any before it."""


class Welcome(_Message, tag="welcome", frozen=True, kw_only=True):
    """Server: fresh proof of the present. Signed over `seal.welcome_bytes`,
    which covers the Challenge too, so nobody in between can exchange the incarnation."""

    nonce: Bytes32
    lane_head: Position
    counter: Position
    """Highest root counter this device ever reported."""
    ping_us: Micros
    server_time_us: Micros
    succession: Annotated[list[Succession], msgspec.Meta(max_length=64)]
    """From the key that the Hello pinned to the one that signs this; empty when they are the same."""
    restores: Annotated[list[Restore], msgspec.Meta(max_length=64)]
    """In order; the last one began the incarnation of the Challenge. Empty: never restored."""
    signature: Signature


class Revoked(_Message, tag="revoked", frozen=True, kw_only=True):
    """Server: this device is shut out: erase everything and say so. Signed over `seal.revoked_bytes`, which
    covers the Hello's nonce, so that nobody else can make a device wipe itself."""

    signature: Signature


# ---- keys --------------------------------------------------------------------------------------------


class KeyChange(_Message, tag="key_change", frozen=True, kw_only=True):
    """Device: from now on I sign with `public_key`. Both signatures cover `seal.key_change_bytes`."""

    public_key: Bytes32
    signature: Signature
    """By the key that signed the Hello."""
    new_signature: Signature
    """By the new key."""


class KeyChanged(_Message, tag="key_changed", frozen=True, kw_only=True):
    """Server: the device's key is `public_key` from now on."""

    public_key: Bytes32


# ---- the decision lane -------------------------------------------------------------------------------


class LaneEntry(_Record, frozen=True):
    """The present state of one (subject, purpose), at the lane position of its last change."""

    seq: Position
    subject: Bytes16
    purpose: Name
    state: Name
    """A DPV state: given, refused, withdrawn, revoked, expired, objected, restricted."""
    grant: Position
    """Ledger seq of the live grant; 0 when there is none."""
    denial: Position
    """Ledger seq of the newest denial; 0 when there was none. What is older than it stays dead."""
    decision: Bytes16 | None = None
    """The newest denial's own id when a device took it: so that device knows its own word again."""


class Lane(_Message, tag="lane", frozen=True, kw_only=True):
    """Server: the pairs whose state changed at base < seq <= upto, in order.

    Only after a frame without `more` does the device stand at `upto`. An entry is a pair's present state:
    what it was at a seq that an earlier frame covers may come with a later one.
    """

    base: Position
    """Where the frame before ended; of the first of a drain, where the device stands."""
    entries: list[LaneEntry]
    upto: Position
    more: bool
    """Whether another frame of this drain follows."""


class LaneAck(_Message, tag="lane_ack", frozen=True, kw_only=True):
    """Device: everything up to here is enforced (durable, unreadable)."""

    upto: Position


# ---- after a restore of the server --------------------------------------------------------------------


class Recall(_Message, tag="recall", frozen=True, kw_only=True):
    """Server, restored, before the lane flows: what did the ledger say after step `kept`? I have lost it.

    Denials after `since`, up to `kept`, are known, but not that this device answered them: answer again.
    """

    kept: Position
    since: Position


class Recalled(_Message, tag="recalled", frozen=True, kw_only=True):
    """Device: the pairs that changed after the Recall's `kept`, as they stood here, in order of `seq`.

    The next page comes after the Restated that answers this one. Only what takes permission away counts.
    """

    entries: Annotated[list[LaneEntry], msgspec.Meta(max_length=256)]
    upto: Position
    """The newest ledger position that is known here in any way: none below it is ever given again."""
    more: bool


class Restated(_Message, tag="restated", frozen=True, kw_only=True):
    """Server: of the pairs of one Recalled, those that the kept part of the ledger knows, as they stand.

    Of the others it knows nothing, or the lane brings them.
    """

    entries: Annotated[list[LaneEntry], msgspec.Meta(max_length=256)]


# ---- leases ------------------------------------------------------------------------------------------


class LedgerHead(_Record, frozen=True, kw_only=True):
    """The ledger's signed head: `root` over `size` leaves, in one incarnation of the server. No device is in
    it, so that everybody can compare the heads that they were given. Signed over `seal.head_bytes`."""

    size: Position
    root: Bytes32
    time_us: Micros
    """When it was signed."""
    incarnation: Bytes16
    signature: bytes = b""


class LeaseRequest(_Message, tag="lease_request", frozen=True, kw_only=True):
    """Device: renew. The lease counts from the moment this was sent, on the device's boot clock."""

    id: Bytes16
    upto: Position
    ledger: Position = 0
    """Size of the ledger head from which the answer's has to go on; 0: none is kept here."""
    cold_start: Literal["server", "lease"]
    """`lease`: this device trusts its wall clock across restarts; what is said of its lease's end says so."""


class Lease(_Message, tag="lease", frozen=True, kw_only=True):
    """Server: consented features may be used for `duration_us` from the sending of request `id`.

    No lease stands without a ledger head that goes on from the one that the device keeps.
    """

    id: Bytes16
    duration_us: Micros
    upto: Position
    ledger: LedgerHead
    consistency: Proof
    """That the request's `ledger` leaves are the first of `ledger.size` (RFC 9162); empty for none."""
    limits: Annotated[dict[Name, Micros], msgspec.Meta(max_length=1_000)]
    """Purposes with a shorter lease than `duration_us`, counted from the same moment. A catalog of the
    device may shorten them further, and lengthens nothing."""
    signature: Signature


# ---- channels ----------------------------------------------------------------------------------------


@prints_only("channel", "cursor")
class Follow(_Message, tag="follow", frozen=True, kw_only=True):
    """Device: follow a channel from `cursor` (0: from nothing). Personal channels need a ticket."""

    channel: Name
    cursor: Position
    ticket: bytes | None = None


class Unfollow(_Message, tag="unfollow", frozen=True, kw_only=True):
    """Device: the channel was dropped here, rows and cursor."""

    channel: Name


class Drop(_Message, tag="drop", frozen=True, kw_only=True):
    """Server: this channel is no longer this device's; delete its rows and cursor."""

    channel: Name


@prints_only("seq", "view", "version", "grant", "deleted")
class Row(_Record, frozen=True):
    """The current state of one (entity, view, version) in a channel."""

    seq: Position
    entity: EntityKey
    """Plain id, or `seal.subject_token(pseudonym)` for a subject."""
    view: Name
    version: Position
    event_time_us: Instant
    created_us: Instant
    grant: Position
    """Grant under which a personal row was accepted; 0 for rows that are not personal."""
    deleted: bool
    values: bytes
    """msgpack map feature -> value; empty for a delete."""


@prints_only("channel", "base", "upto", "epoch", "replacing", "more")
class Delta(_Message, tag="delta", frozen=True, kw_only=True):
    """Server: rows with base < seq <= upto of one channel, read when the lane stood at `epoch`."""

    channel: Name
    base: Position
    upto: Position
    epoch: Position
    replacing: bool
    """True for the first frame of a snapshot: what the device held of this channel goes first."""
    more: bool
    rows: list[Row]


class Checkpoint(_Message, tag="checkpoint", frozen=True, kw_only=True):
    """Server: at `seq` the rows delivered in `channel` sum to `digest`. Signed once per head."""

    channel: Name
    seq: Position
    digest: Bytes16
    whole: bool
    """Whether no row of a pushed view that is about nobody (of a subject's channel: about it, for that
    purpose) stands outside this channel: what is not in it then is not there."""
    signature: Signature


@prints_only("channel", "seq")
class Repair(_Message, tag="repair", frozen=True, kw_only=True):
    """Device: a checkpoint did not match; these are my sub-ranges at `seq`. Send those that differ."""

    channel: Name
    seq: Position
    digests: RangeDigests


@prints_only("channel", "range", "base", "upto", "epoch", "more")
class Patch(_Message, tag="patch", frozen=True, kw_only=True):
    """Server: rows with base < seq <= upto of one sub-range. At base 0 what the device held of it goes first.

    It does not move the channel's cursor.
    """

    channel: Name
    range: Range
    base: Position
    upto: Position
    epoch: Position
    more: bool
    """Whether another Patch of this sub-range follows."""
    rows: list[Row]


# ---- on demand ---------------------------------------------------------------------------------------


@prints_only("view", "version")
class Fetch(_Message, tag="fetch", frozen=True, kw_only=True):
    """Device: the rows of these entities in one view of tier `warm`."""

    id: Bytes16
    view: Name
    version: Position
    entities: Annotated[list[EntityKey], msgspec.Meta(min_length=1, max_length=256)]
    """Plain ids, or `seal.subject_token(pseudonym)` for a subject whose channel is followed here."""


@prints_only("epoch", "more")
class Fetched(_Message, tag="fetched", frozen=True, kw_only=True):
    """Server: what there is of what was asked, read when the lane stood at `epoch`; what is not there is
    left out."""

    id: Bytes16
    epoch: Position
    more: bool
    """Whether another Fetched with this id follows."""
    rows: list[Row]


# ---- up: decisions, receipts, reports ----------------------------------------------------------------


class Decision(_Record, frozen=True):
    """A decision taken on the device."""

    id: Bytes16
    subject: Bytes16
    purpose: Name
    state: Name
    notice: Name
    base: Position
    """Newest lane position the device had seen when the decision was taken."""
    at_us: Micros
    signals: Annotated[tuple[Name, ...], msgspec.Meta(max_length=16)] = ()
    """What the subject's software said beside the subject: `gpc` (Sec-GPC)."""
    after: Bytes16 | None = None
    """Id of this device's own denial of the same pair that the decision knowingly follows."""


class Decisions(_Message, tag="decisions", frozen=True, kw_only=True):
    """Device: decisions to record in the ledger."""

    decisions: list[Decision]


class DecisionAck(_Message, tag="decision_ack", frozen=True, kw_only=True):
    """Server: the decision stands in the ledger at `seq`; `outcome` is recorded or superseded."""

    id: Bytes16
    seq: Position
    outcome: Name
    grant: Position


class ReceiptNote(_Message, tag="receipt", frozen=True, kw_only=True):
    """Device: a signed erasure receipt or `held none` (the bytes of `receipt.Receipt`, with signature)."""

    receipt: bytes
    signature: Signature


class ReceiptAck(_Message, tag="receipt_ack", frozen=True, kw_only=True):
    """Server: the receipt with this id is stored."""

    id: Bytes16


class RoundOffer(_Message, tag="round_offer", frozen=True, kw_only=True):
    """Server: an aggregate round is open. The device answers under its own catalog's parameters only."""

    round_id: Bytes16
    metric: Name
    definition: Bytes16
    """Hash of every parameter (`mechanisms.definition`); one that differs from the device's is no round."""
    closes_at_us: Micros
    collector: Bytes32
    """X25519 key that reports are sealed to."""
    signature: Signature
    """Over `seal.offer_bytes`, by the server's signing key: nobody in between puts a key of his own here."""


class TicketRequest(_Message, tag="ticket_request", frozen=True, kw_only=True):
    """Device: may these subjects report in this round from here?"""

    round_id: Bytes16
    subjects: list[Bytes16]


@prints_only("subject")
class TicketGrant(_Record, frozen=True):
    """One subject's ticket for one round: whoever holds it may report once."""

    subject: Bytes16
    ticket: Bytes16


class Tickets(_Message, tag="tickets", frozen=True, kw_only=True):
    """Server: tickets for the subjects whose report was not yet promised to another device."""

    round_id: Bytes16
    granted: list[TicketGrant]


class Report(_Message, tag="report", frozen=True, kw_only=True):
    """Device: sealed reports for one round (`sealed_report`). Who carries them can read none.

    What is stored is acknowledged; each other is refused by its own id, and loses the rest nothing.
    """

    round_id: Bytes16
    sealed: list[bytes]


@prints_only("round_id")
class ReportAck(_Message, tag="report_ack", frozen=True, kw_only=True):
    """Server: these sealed reports (`sealed_report.report_id`) are stored for the collector."""

    round_id: Bytes16
    reports: list[Bytes16]


# ---- refusing ----------------------------------------------------------------------------------------


class Refusal(_Message, tag="refusal", frozen=True, kw_only=True):
    """Either side: no. `code` is one of `refusal.CODES`; `about` names the channel or id meant."""

    code: Name
    about: str = ""
    retry_after_us: Micros = 0
    server_time_us: Micros = 0
    """In a refusal for time: the server's clock; else 0."""
    signature: bytes = b""
    """Over `seal.refusal_bytes` in a refusal for time; else empty."""


# ---- in fewer bytes ----------------------------------------------------------------------------------


@prints_only("size")
class Packed(_Message, tag="packed", frozen=True, kw_only=True):
    """A container, not a word of the conversation: `body` is the zlib stream of one frame of `size` bytes."""

    size: Annotated[int, msgspec.Meta(ge=1, le=2**20)]
    body: bytes


Message = (
    Challenge
    | Hello
    | Welcome
    | Revoked
    | KeyChange
    | KeyChanged
    | Lane
    | LaneAck
    | Recall
    | Recalled
    | Restated
    | LeaseRequest
    | Lease
    | Follow
    | Unfollow
    | Drop
    | Delta
    | Checkpoint
    | Repair
    | Patch
    | Fetch
    | Fetched
    | Decisions
    | DecisionAck
    | ReceiptNote
    | ReceiptAck
    | RoundOffer
    | TicketRequest
    | Tickets
    | Report
    | ReportAck
    | Refusal
)
