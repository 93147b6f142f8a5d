"""What the store hands out and takes in: frozen records, times in microseconds by the server's clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from edge_runtime.wire.printing import prints_only

Outcome = Literal["recorded", "superseded"]
ColdStart = Literal["server", "lease"]
AnswerKind = Literal["erased", "held_none", "wiped"]
"""`wiped`: the receipt is for everything that the device held, as it was shut out."""

UNLEASED_US: Final = 1 << 62
"""The bound of a target that no lease ends."""
GIVEN: Final = "given"
RESTRICTED: Final = "restricted"
"""Art. 18: what is held stays, and is not used until a later `given`. No denial: it erases nothing."""
DENIALS: Final = frozenset({"refused", "withdrawn", "revoked", "expired", "objected"})
"""Decisions that end permission; everything older than one stays dead."""
BARS: Final = DENIALS | {RESTRICTED}
"""States in which nothing of the pair may be used."""
STATES: Final = BARS | {GIVEN}
LOST: Final = "lost"
"""No decision: a step of a ledger that a restored server has lost keeps its number so, for ever."""


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One enrolled device."""

    device_id: str
    public_key: bytes
    patterns: tuple[str, ...]
    """Channel patterns it may follow without a ticket (`all`, `segment:*`)."""
    enrolled_us: int
    contact_us: int | None
    lane_acked: int
    counter: int
    """Highest root counter it ever reported."""
    lease_until_us: int
    """By the server's clock, drift and margin included; 0 when it never had a lease."""
    revoked: bool
    wiped_us: int | None = None
    """When it said, revoked, that it had erased everything."""
    cold_start: ColdStart = "server"
    """`lease`: a lease of it may outlive a restart, by its own wall clock."""
    revoked_why: str | None = None
    """Why it was shut out, in the operator's words."""
    enrolled_lane: int = 0
    """Where the lane stood when it was enrolled: it never held what was denied before."""


@dataclass(frozen=True, slots=True)
class GrantedLease:
    """One lease as it is granted, by the server's clock."""

    at_us: int
    until_us: int
    """When it has ended on the device for certain, drift and margin included."""
    limits: Mapping[str, int]
    """Purpose -> microseconds, for purposes with a shorter lease."""
    cold_start: ColdStart


@dataclass(frozen=True, slots=True)
class ChannelHead:
    """Where a channel stands. All zero for a channel nobody wrote to yet."""

    seq: int
    digest: int
    floor: int
    """A cursor below this, or none, gets a replacing snapshot."""
    whole: bool = False
    """Whether no row that such a channel brings stands outside it; see `Checkpoint.whole`."""


@dataclass(frozen=True, slots=True)
class ChannelSize:
    """What stands in a channel, and how many rows its byte budget keeps out."""

    channel: str
    bytes: int
    demoted: int


@prints_only("id", "view", "version", "bytes", "held")
@dataclass(frozen=True, slots=True)
class HeatRow:
    """What the hot set asks of a row that belongs in a channel."""

    held: bool
    """Whether it stands there now."""
    place: int
    """Where a listing goes on from."""
    id: int
    entity: str
    view: str
    version: int
    event_time_us: int
    use: float
    """As it stood at `used_us`."""
    used_us: int
    bytes: int
    """Of its id and payload."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What wrote a row, as its publisher said."""

    who: str
    name: str
    """Of the job."""
    run: str
    code_version: str
    first_us: int
    """Its first publish."""


@prints_only("id", "view", "version", "event_time_us", "deleted", "grant")
@dataclass(frozen=True, slots=True)
class RowState:
    """What is there of one (entity, view, version)."""

    id: int
    """The store's own number for it."""
    entity: str
    view: str
    version: int
    event_time_us: int
    created_us: int
    deleted: bool
    values: bytes
    """msgpack map, opened; empty for a delete."""
    grant: int
    subject: bytes | None
    """Pseudonym, of a personal row."""
    purpose: str | None
    stored_bytes: int
    """Size of the payload at rest."""
    lineage: int
    """The job whose publish wrote it; 0 for not known."""
    use: float
    """Decayed count of publishes and fetches as it stood at `used_us`; 0 for a personal row."""
    used_us: int


@dataclass(frozen=True, slots=True)
class DecisionState:
    """What holds for one (subject, purpose). State `unknown` and zeros when nothing was ever said."""

    state: str
    grant: int
    """Ledger seq of the live grant; 0 for none."""
    denial: int
    """Ledger seq of the newest denial; 0 for none."""
    since: int = 0
    """Ledger seq at which this state began; 0 for `unknown`."""

    @property
    def usable(self) -> int:
        """The grant under which data may be used now; 0 for none, and while it is restricted."""
        return 0 if self.state == RESTRICTED else self.grant


@prints_only("seq", "purpose", "state", "outcome", "grant")
@dataclass(frozen=True, slots=True)
class Evidence:
    """One step of the ledger with what opens it."""

    seq: int
    subject: bytes
    purpose: str
    state: str
    outcome: Outcome
    notice: str
    base: int
    actor: str
    decision: bytes | None
    at_us: int
    recorded_us: int
    grant: int
    """Live grant after this step; 0 for none."""
    salt: bytes
    leaf: bytes
    notice_hash: bytes
    """SHA-256 of the text that was shown; empty when no declared notice says it."""
    registry: bytes
    """Fingerprint of the privacy part that was in force; empty when none was."""
    signals: tuple[str, ...]
    """What the subject's software said beside the subject: `gpc`."""

    @property
    def erased(self) -> bool:
        """Whether its salt was destroyed: it is about nobody any more."""
        return not self.salt


@dataclass(frozen=True, slots=True)
class RevocationRow:
    """One revocation as it was accepted."""

    id: str
    subject: bytes
    initiator: Literal["subject", "controller"]
    actor: str
    accepted_us: int
    due_us: int
    server_erased_us: int | None
    server_rows: int
    completed_us: int | None


@dataclass(frozen=True, slots=True)
class Denial:
    """One denied (subject, purpose) of a revocation, by its ledger seq."""

    seq: int
    revocation: str
    subject: bytes
    purpose: str


@dataclass(frozen=True, slots=True)
class Target:
    """One device that a revocation waits for."""

    revocation: str
    device_id: str
    position: int
    """Lane position it has to acknowledge."""
    lease_bound_us: int
    """From here on it is locked by itself; `UNLEASED_US` when no lease ends its use of the purposes."""
    acked_us: int | None
    erased_us: int | None
    """When the receipts of this device answered every denial of the revocation."""
    late: bool
    """Not live at commit; it held some and said so later."""
    cold_start: ColdStart = "server"
    """Of the device at commit; `lease`: the end of its lease rests on the word of its wall clock."""


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A device's signed statement as it came, already verified."""

    id: bytes
    device_id: str
    body: bytes
    signature: bytes
    received_us: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Which receipt of a device answers a denial."""

    denial: int
    device_id: str
    receipt: bytes
    kind: AnswerKind


@dataclass(frozen=True, slots=True)
class TokenRow:
    """An enrolment token, by its hash."""

    expires_us: int
    patterns: tuple[str, ...]
    used_us: int | None


BEGUN: Final = 0
"""Status of a request that is not answered yet."""


@prints_only("status")
@dataclass(frozen=True, slots=True)
class KeptReply:
    """The reply once given under an idempotency key."""

    fingerprint: bytes
    status: int
    """`BEGUN` while a request of several transactions runs, or after it was cut off."""
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """A registered catalog version."""

    name: str
    version: int
    fingerprint: str
    document: bytes
    """JSON."""
    registered_us: int


@dataclass(frozen=True, slots=True)
class Committed:
    """What a transaction moved; told to listeners after its commit."""

    lane: bool
    channels: frozenset[str]
    devices: frozenset[str] = frozenset()
    """Devices that may do other things than before."""
