"""`edge-sync consent` as a person reads it: what holds, how far a revocation has come, what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_runtime.wire.time_text import time_text
from sync_server.consent.documents import (
    ConsentHistory,
    ConsentRecord,
    ConsentRecorded,
    RevocationAccepted,
    RevocationStatus,
    RevocationTarget,
)
from sync_server.consent.progress import RecipientCounters


def recorded_text(made: ConsentRecorded) -> str:
    """A decision that was recorded."""
    lines = [
        f"Recorded as {made.id}: {made.state} for {made.purpose}, notice {made.notice}.",
        f"  ledger          {made.seq}, at {time_text(made.recorded_at)}",
        f"  what holds now  {made.state_now.state}",
    ]
    if made.outcome == "superseded":
        lines.append("It does NOT hold: it was said before a later denial was known. Ask the subject again.")
    return "\n".join(lines)


def history_text(found: ConsentHistory) -> str:
    """What holds for a subject, and what was said."""
    lines = ["What holds now"]
    lines += [
        f"  {name:<24} {now.state}{'' if now.grant else ': not to be used'}"
        for name, now in found.states.items()
    ]
    if not found.states:
        lines.append("  nothing was ever said: nothing may be used")
    lines += ["", "What was said"]
    lines += [_step(step) for step in found.history]
    return "\n".join(lines)


def _step(step: ConsentRecord) -> str:
    late = "  (superseded: it does not hold)" if step.outcome == "superseded" else ""
    notice = f", notice {step.notice}" if step.notice else ""
    return f"  {time_text(step.recorded_at)}  {step.purpose:<24} {step.state} by {step.actor}{notice}{late}"


def accepted_text(made: RevocationAccepted) -> str:
    """A revocation that was accepted."""
    purposes = ", ".join(f"{d.purpose} (ledger {d.seq})" for d in made.denials)
    return "\n".join(
        [
            f"{made.id}   in force since {time_text(made.accepted_at)}",
            f"  purposes        {purposes}",
            f"  due             {time_text(made.due_at)}: whoever has not answered then is named as overdue",
            f"Next: `edge-sync consent status {made.id}` shows how far it has come. The signed receipt of",
            "its acceptance is part of the answer to `--json`.",
        ]
    )


def status_text(found: RevocationStatus) -> str:
    """How far a revocation has come."""
    return "\n".join(_status(found))


def _status(found: RevocationStatus) -> Iterator[str]:
    count = found.counters
    yield f"{found.id}   {found.state.upper().replace('_', ' ')}: {_meaning(found)}"
    yield f"  by              {'the subject' if found.initiator == 'subject' else 'the controller'}"
    yield f"  purposes        {', '.join(d.purpose for d in found.denials)}"
    yield f"  accepted        {time_text(found.accepted_at)}"
    yield f"  this server     {_reached('erased', found.server_erased_at)}"
    yield f"  enforced        {_reached('since', found.enforced_at)}"
    yield f"  erased          {_reached('since', found.erased_at)}"
    yield f"  completed       {_reached('since', found.completed_at)}{', amended' if found.amended else ''}"
    yield f"  due             {time_text(found.due_at)}"
    yield (
        f"  devices         {count.targets}, of which {count.enforced} enforced, {count.erased} answered"
        f" ({count.held_none} held none), {count.overdue} overdue"
    )
    if found.overdue:
        more = count.overdue - len(found.overdue)
        yield f"  overdue         {', '.join(found.overdue)}{f' and {more} more' if more > 0 else ''}"
    if found.recipients.asked:
        yield f"  recipients      {_recipients(found.recipients)}"
    yield f"Next: {_next(found)}"


def _meaning(found: RevocationStatus) -> str:
    count = found.counters
    match found.state:
        case "accepted":
            return "in force here; this server is about to destroy its own keys"
        case "propagating":
            able = f"{count.targets - count.enforced} of {count.targets} devices"
            return f"{able} may still use the data, until they hear of it or their lease ends"
        case "enforced":
            return f"no device can use the data any more; {count.targets - count.erased} still owe a receipt"
        case "erased" | "completed":
            signed = "every device has signed that it erased the data, or held none"
            return (signed if count.targets else "no device could hold any of the data") + _waiting(found)
        case "partially_completed":
            return f"the due time is over, and {' and '.join(_overdue(found))}"


def _overdue(found: RevocationStatus) -> Iterator[str]:
    if found.counters.overdue:
        yield f"{found.counters.overdue} devices owe a receipt"
    if found.recipients.overdue:
        yield f"{len(found.recipients.overdue)} recipients owe an answer"


def _waiting(found: RevocationStatus) -> str:
    asked = found.recipients.asked
    owing = asked - found.recipients.answered
    return f"; {owing} of {asked} recipients have not answered" if owing else ""


def _recipients(count: RecipientCounters) -> str:
    said = f"{count.asked}, of which {count.told} told, {count.answered} answered"
    return f"{said}, overdue: {', '.join(count.overdue)}" if count.overdue else said


def _next(found: RevocationStatus) -> str:
    match found.state:
        case "completed":
            return f"`edge-sync consent status {found.id} receipt > receipt.json` is the proof to keep."
        case "partially_completed":
            return (
                "find the overdue devices, or shut them out with `edge-sync devices revoke ID`; ask overdue"
                f" recipients. `edge-sync consent status {found.id} receipt` is a signed statement of who"
                " they are."
            )
        case "erased":
            return "ask those that have not answered; `edge-sync recipients list` says how they are told."
        case _:
            return f"nothing to do; `edge-sync consent status {found.id} targets` names each device."


def targets_text(revocation_id: str, targets: Sequence[RevocationTarget]) -> str:
    """Every device that a revocation waits for."""
    lines = [f"{revocation_id}   {len(targets)} devices"]
    lines.append(f"  {'device':<32} {'cannot use it since':<24} {'answered':<24} lease ends at the latest")
    for target in targets:
        answered = "not yet" if target.erased_at is None else f"{target.answer} {time_text(target.erased_at)}"
        since = "not yet" if target.enforced_at is None else time_text(target.enforced_at)
        late = "".join(f"  ({remark})" for remark in _remarks(target))
        bound = "never: it must answer" if target.lease_bound_at is None else time_text(target.lease_bound_at)
        lines.append(f"  {target.device_id:<32} {since:<24} {answered:<24} {bound}{late}")
    return "\n".join(lines)


def _remarks(target: RevocationTarget) -> Iterator[str]:
    if target.late:
        yield "nobody waited for it"
    if target.shut_out is not None:
        yield f"shut out: {target.shut_out}"
    if target.remark is not None:
        yield target.remark


def _reached(word: str, at_us: int | None) -> str:
    return "not yet" if at_us is None else f"{word} {time_text(at_us)}"
