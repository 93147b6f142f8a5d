"""How far a revocation has come: derived from what was stored, never stored itself. Pure.

`accepted → propagating → enforced → erased → completed`, or `partially_completed` with the overdue named.
*Enforced*: every target acknowledged the lane position, its lease ran out, or it erased everything when it
was shut out. *Erased*: every target returned an erasure receipt or a signed `held none`, of this denial or of
everything, and the server's own keys are gone. They are different promises.
*Completed* also waits for every onward recipient's word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import msgspec

from sync_server.store.recipients import RecipientAnswer
from sync_server.store.records import Answer, RevocationRow, Target

State = Literal["accepted", "propagating", "enforced", "erased", "completed", "partially_completed"]


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """Targets by what they have done."""

    targets: int
    enforced: int
    """Can no longer use the data."""
    on_wall_clock: int
    """Of those, the ones whose lease's end rests on the word of their wall clock."""
    erased: int
    """Answered with a signed receipt of either kind."""
    held_none: int
    """Of those, the ones that held nothing."""
    receipts: int
    """Distinct receipts, of both kinds, counted once for each device that owed one."""
    overdue: int


class RecipientCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Onward recipients (GDPR Art. 19) by what they have done."""

    asked: int
    told: int
    """Their system took delivery."""
    answered: int
    overdue: list[str]
    """Those that still owe an answer past the due time."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a revocation stands at one moment. Times in microseconds; None is not yet."""

    state: State
    amended: bool
    """A device that was not live at commit turned out to hold some, and erased it."""
    accepted_us: int
    due_us: int
    enforced_us: int | None
    erased_us: int | None
    completed_us: int | None
    counters: Counters
    overdue: tuple[str, ...]
    """Devices that still owe a receipt past the due time."""
    recipients: RecipientCounters

    @property
    def overdue_us(self) -> int | None:
        """The due time, once it has passed and a device or a recipient still owes an answer."""
        return self.due_us if self.overdue or self.recipients.overdue else None


EnforcedBy = Literal["acknowledged", "lease_ended", "wiped"]
WALL_CLOCK: Final = "enforced on the word of a wall clock"
"""Said of a target whose lease has ended by our count, and which trusts its wall clock over restarts."""


class Enforced(NamedTuple):
    """From when a target could no longer use the data, and what says so."""

    at_us: int
    by: EnforcedBy
    remark: str | None = None


def enforced(target: Target, now_us: int) -> Enforced | None:
    """How a target stopped using the data: it acknowledged the denial, was locked by the end of its lease, or
    had erased everything as it was shut out, whichever came first. None: it may use it still."""
    found = list[Enforced]()
    if target.acked_us is not None:
        found.append(Enforced(target.acked_us, "acknowledged"))
    elif target.erased_us is not None:  # an answer to the denial acknowledges it, so this one was to all
        found.append(Enforced(target.erased_us, "wiped"))
    if target.lease_bound_us <= now_us:
        trusting = target.cold_start == "lease"
        found.append(Enforced(target.lease_bound_us, "lease_ended", WALL_CLOCK if trusting else None))
    return min(found, key=lambda one: one.at_us, default=None)


def progress(
    row: RevocationRow,
    targets: Sequence[Target],
    answers: Iterable[Answer],
    now_us: int,
    recipients: Sequence[RecipientAnswer] = (),
) -> Progress:
    """Derive where `row` stands at `now_us`."""
    stopped = [enforced(t, now_us) for t in targets]
    all_enforced = _latest([None if one is None else one.at_us for one in stopped], row.accepted_us)
    all_erased = _latest([*(t.erased_us for t in targets), row.server_erased_us], row.accepted_us)
    completed = None if all_erased is None else row.completed_us
    owing = tuple(t.device_id for t in targets if t.erased_us is None)
    overdue = owing if row.due_us <= now_us else ()
    onward = _recipients(row, recipients, now_us)
    return Progress(
        state=_state(row, all_enforced, all_erased, completed, bool(overdue or onward.overdue)),
        amended=any(t.late for t in targets),
        accepted_us=row.accepted_us,
        due_us=row.due_us,
        enforced_us=all_enforced,
        erased_us=all_erased,
        completed_us=completed,
        counters=_counters(targets, stopped, answers, len(overdue)),
        overdue=overdue,
        recipients=onward,
    )


def _recipients(row: RevocationRow, asked: Sequence[RecipientAnswer], now_us: int) -> RecipientCounters:
    owing = [a.recipient for a in asked if a.answered_us is None]
    return RecipientCounters(
        asked=len(asked),
        told=sum(a.told_us is not None for a in asked),
        answered=len(asked) - len(owing),
        overdue=owing if row.due_us <= now_us else [],
    )


def _latest(times: Sequence[int | None], start_us: int) -> int | None:
    """The last of `times`, not before `start_us`; None while one of them is not known."""
    known = [t for t in times if t is not None]
    return max([start_us, *known]) if len(known) == len(times) else None


def _state(
    row: RevocationRow, enforced: int | None, erased: int | None, completed: int | None, overdue: bool
) -> State:
    if row.server_erased_us is None:
        return "accepted"
    if completed is not None:
        return "completed"
    if overdue:
        return "partially_completed"
    if erased is not None:
        return "erased"
    return "propagating" if enforced is None else "enforced"


def _counters(
    targets: Sequence[Target], stopped: Sequence[Enforced | None], answers: Iterable[Answer], overdue: int
) -> Counters:
    erased = {t.device_id for t in targets if t.erased_us is not None}
    something = {a.device_id for a in answers if a.kind != "held_none"}
    return Counters(
        targets=len(targets),
        enforced=sum(one is not None for one in stopped),
        on_wall_clock=sum(one is not None and one.remark == WALL_CLOCK for one in stopped),
        erased=len(erased),
        held_none=len(erased - something),
        receipts=len(erased),
        overdue=overdue,
    )
