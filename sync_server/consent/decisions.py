"""Recording a decision: the base rule of the ledger, judged purely, written in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from sync_server.consent import ledger
from sync_server.events.telling import tell_decision
from sync_server.store.protocol import ReadTx, WriteTx
from sync_server.store.records import (
    BARS,
    DENIALS,
    GIVEN,
    RESTRICTED,
    STATES,
    DecisionState,
    Evidence,
    Outcome,
)

API = "api"
UNKNOWN = "unknown"
"""State of a pair of which nothing was ever said, or nothing is known any more."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A decision before the ledger has seen it."""

    subject: bytes
    """16-byte pseudonym."""
    purpose: str
    state: str
    notice: str
    base: int
    """Newest lane position that its author had seen."""
    at_us: int
    """When it was taken, by the author's clock."""
    actor: str
    """`api` or `device:<id>`."""
    decision: bytes | None = None
    """The author's own id for it; the same id again is the same decision."""
    after: bytes | None = None
    """The author's own denial or restriction of the pair that it knowingly follows, by id; see `seen`."""
    signals: tuple[str, ...] = ()
    """What the subject's software said beside the subject: `gpc`."""


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """Where a decision stands."""

    seq: int
    outcome: Outcome
    grant: int
    """Ledger seq of the pair's live grant afterwards; 0 for none."""
    repeated: bool = False
    """It stood there before; nothing was written now."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the pair. `now` is None when its state stays."""

    outcome: Outcome
    now: DecisionState | None
    reason: str


def device_actor(device_id: str) -> str:
    """How a device is named in the ledger."""
    return f"device:{device_id}"


def judge(before: DecisionState, state: str, base: int, seq: int, fence: int = 0) -> Verdict:
    """Decide what a decision said after having seen `base` does to a pair, when it would stand at `seq`.

    Args:
        fence: newest denial of any pair that was forgotten; it may be this one's, where nothing older is
            known of it.

    >>> judge(DecisionState("withdrawn", 0, 7), "given", base=6, seq=9).outcome
    'superseded'
    """
    if state in DENIALS:
        return Verdict("recorded", DecisionState(state, 0, seq, seq), "a denial is always accepted")
    if state == RESTRICTED:
        return Verdict("recorded", DecisionState(state, before.grant, before.denial, seq), "kept, not used")
    if fence > base and begins_after(before, fence):
        return Verdict("superseded", None, "a denial that was forgotten may lie after the base")
    if before.denial > base:  # law 2: nothing older than a withdrawal brings anything back
        return Verdict("superseded", None, "a denial lies after the base")
    if before.state == RESTRICTED and before.since > base:
        return Verdict("superseded", None, "a restriction lies after the base")
    grant = before.grant or seq
    reason = "renewed" if before.grant else "given"
    return Verdict("recorded", DecisionState(GIVEN, grant, before.denial, seq), reason)


def begins_after(known: DecisionState, fence: int) -> bool:
    """Whether what is known of a pair reaches back no further than the fence: it may have been forgotten."""
    return known.denial == 0 and (known.state == UNKNOWN or (known.grant or known.since) > fence)


def record(tx: WriteTx, proposal: Proposal, *, now_us: int, salt: bytes) -> RecordedDecision:
    """Append one decision to the ledger and, if it stands, move the pair's lane entry.

    Args:
        salt: 32 unpredictable bytes for the leaf's commitment.

    Raises `WireFailure("malformed")` for a `given` with a base that the lane has not reached: it would get
    around denials. What takes permission away is accepted whatever its base.
    """
    assert proposal.state in STATES, proposal.state
    repeat = repeated(tx, proposal)
    if repeat is not None:
        return repeat
    pair = (proposal.subject, proposal.purpose)
    before, seq = tx.decision_state(*pair), tx.lane_head() + 1
    if proposal.state == GIVEN and proposal.base >= seq:
        raise WireFailure("malformed", "expected a base that the lane has reached")
    proposal = replace(proposal, base=seen(tx, proposal))
    verdict = judge(before, proposal.state, proposal.base, seq, tx.ledger.fence())
    after = verdict.now or before
    step = evidence_of(tx, proposal, seq, verdict.outcome, after.grant, now_us, salt)
    tx.append_evidence(step)
    tell_decision(tx, step)
    if verdict.now is not None:
        tx.put_lane(m.LaneEntry(seq, *pair, after.state, after.grant, after.denial))
    return RecordedDecision(seq, verdict.outcome, after.grant)


def seen(tx: ReadTx, proposal: Proposal) -> int:
    """The newest lane position that a decision can be said to have seen: its base, or its own denial's.

    Who withdraws and gives again without contact has seen the withdrawal, though the lane has not brought it.
    `after` names it. It counts only as a denial or restriction of the same pair by the same author, and only
    where nothing lies before it that ended or restricted the permission and that neither decision had seen.
    What the denial itself had seen is in its own recorded base, so a chain of own denials carries.

    That the author is the same is not enough. An older copy of a device, put back, speaks in its name and
    knows nothing of what the newer one said: it cannot name what it never knew, and what it can name is not
    the newest denial any more.
    """
    if proposal.after is None:
        return proposal.base
    step = tx.evidence_of_decision(proposal.actor, proposal.after)
    if step is None or step.state not in BARS or step.seq <= proposal.base:
        return proposal.base
    if (step.subject, step.purpose) != (proposal.subject, proposal.purpose):
        return proposal.base
    saw = max(step.base, proposal.base)
    fenced = saw < tx.ledger.fence()  # what barred it may have gone with its evidence
    unseen = fenced or tx.barred_between(step.subject, step.purpose, saw, step.seq)
    return proposal.base if unseen else step.seq


def repeated(tx: ReadTx, proposal: Proposal) -> RecordedDecision | None:
    """Where this very decision stands already, or None when it is new."""
    if proposal.decision is None:
        return None
    old = tx.evidence_of_decision(proposal.actor, proposal.decision)
    return None if old is None else RecordedDecision(old.seq, old.outcome, old.grant, repeated=True)


def evidence_of(
    tx: ReadTx, p: Proposal, seq: int, outcome: Outcome, grant: int, now_us: int, salt: bytes
) -> Evidence:
    """The step that says of `p` what became of it, with its leaf."""
    notice_hash, registry = tx.registry.notice_hash(p.notice), tx.registry.fingerprint()
    leaf = ledger.Leaf(
        v=ledger.LEAF_VERSION,
        seq=seq,
        commitment=ledger.commitment(salt, p.subject),
        purpose=p.purpose,
        state=p.state,
        outcome=outcome,
        notice=p.notice,
        base=p.base,
        actor="api" if p.actor == API else "device",
        at_us=p.at_us,
        recorded_us=now_us,
        grant=grant,
        notice_hash=notice_hash,
        registry=registry,
        signals=p.signals,
        author=ledger.author(salt, p.actor, p.decision),
    )
    return Evidence(
        *(seq, p.subject, p.purpose, p.state, outcome, p.notice, p.base, p.actor, p.decision, p.at_us),
        *(now_us, grant, salt, ledger.leaf_bytes(leaf), notice_hash, registry, p.signals),
    )
