"""Writing events: in the transaction that makes something true, or when time has.

`notice` compares how far a revocation has come with what was told of it, and tells the difference. Whoever
calls it twice tells nothing twice, and what a kill left out is told at the next call: the stored facts stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from sync_server.consent.progress import Progress, progress
from sync_server.devices.enrolment import encode
from sync_server.events import kinds
from sync_server.events.addresses import host_of
from sync_server.store.destinations import DestinationRow
from sync_server.store.events import EventRow, Facts, Told
from sync_server.store.protocol import WriteTx
from sync_server.store.records import Evidence, RevocationRow

_NO_NUMBER: Final = 0
"""An event gets its number when it is written."""


class Change(NamedTuple):
    """Something that became true of a revocation."""

    kind: str
    at_us: int
    name: str
    """Tells it apart from every other change of that revocation."""


def tell_decision(tx: WriteTx, step: Evidence) -> None:
    """A decision was recorded in this transaction."""
    name = encode(hashlib.blake2b(step.leaf, digest_size=16, person=b"edge-decision").digest())
    body = {
        "seq": step.seq,
        "purposes": [step.purpose],
        "state": step.state,
        "outcome": step.outcome,
        "notice": step.notice,
    }
    event = EventRow(
        *(_NO_NUMBER, f"dec-{name}", kinds.DECISION, None, step.subject),
        *(step.recorded_us, step.recorded_us, body),
    )
    _tell(tx, event)


def begin(tx: WriteTx, row: RevocationRow, callback_urls: Sequence[str] = ()) -> None:
    """A revocation was accepted in this transaction: its recipients are asked, and everybody told."""
    tx.events.begin(row.id)
    for n, url in enumerate(callback_urls):
        tx.destinations.put(_callback(row, n, url))
    purposes = {d.purpose for d in tx.denials(row.id)}
    asked = [r for r in tx.recipients.all() if r.purposes is None or purposes & set(r.purposes)]
    tx.recipients.ask(row.id, asked)
    event = _event(tx, row, Change(kinds.ACCEPTED, row.accepted_us, "accepted"), row.accepted_us)
    _tell(tx, event, {r.destination for r in asked})
    notice(tx, row.id, row.accepted_us)


def notice(tx: WriteTx, revocation: str, now_us: int) -> None:
    """Tell whatever has become true of a revocation and was not told, and plan when to look again."""
    facts = tx.events.facts(revocation, now_us)
    if facts is None:
        return
    told = facts.noted
    if _worth_a_look(facts, now_us):
        row = tx.revocation(revocation)
        assert row is not None
        standing = progress(
            row, tx.targets(row.id), tx.answers(row.id), now_us, tx.recipients.answers(row.id)
        )
        for change in changes(standing, told):
            _tell(tx, _event(tx, row, change, now_us))
        told = after(standing, told)
    tx.events.put_told(revocation, told, next_look_us(facts, told, now_us))


def changes(standing: Progress, told: Told) -> Iterator[Change]:
    """What is true of a revocation and was not told, in the order in which it comes true."""
    if standing.enforced_us is not None and told.enforced_us is None:
        yield Change(kinds.ENFORCED, standing.enforced_us, "enforced")
    if standing.overdue_us is not None and told.overdue_us is None:
        yield Change(kinds.OVERDUE, standing.overdue_us, "overdue")
    if standing.erased_us is not None and told.erased_us is None:
        yield Change(kinds.ERASED, standing.erased_us, "erased")
    if standing.completed_us is not None and standing.completed_us != told.completed_us:
        if told.completed_us is None:
            yield Change(kinds.COMPLETED, standing.completed_us, "completed")
        else:
            yield Change(kinds.AMENDED, standing.completed_us, f"amended-{told.amendments + 1}")


def after(standing: Progress, told: Told) -> Told:
    """What was told once `changes` were."""
    amended = None not in (told.completed_us, standing.completed_us) and (
        standing.completed_us != told.completed_us
    )
    return replace(
        told,
        enforced_us=_first(told.enforced_us, standing.enforced_us),
        erased_us=_first(told.erased_us, standing.erased_us),
        completed_us=_first(standing.completed_us, told.completed_us),
        overdue_us=_first(told.overdue_us, standing.overdue_us),
        amendments=told.amendments + amended,
    )


def next_look_us(facts: Facts, told: Told, now_us: int) -> int | None:
    """When time alone may make something true, after now; None when only an answer can."""
    waits = []
    if told.enforced_us is None and facts.in_use_until_us is not None:
        waits.append(facts.in_use_until_us)
    if told.overdue_us is None and told.completed_us is None and facts.due_us > now_us:
        waits.append(facts.due_us)
    return min(waits, default=None)


def _worth_a_look(facts: Facts, now_us: int) -> bool:
    """Whether anything can have changed; a superset, so that targets are only read when they matter."""
    told = facts.noted
    return (
        (told.enforced_us is None and facts.in_use_until_us is None)
        or (told.erased_us is None and facts.server_erased and not facts.devices_owing)
        or facts.completed_us != told.completed_us
        or (
            told.overdue_us is None
            and facts.due_us <= now_us
            and (facts.devices_owing or facts.recipients_owing)
        )
    )


def _event(tx: WriteTx, row: RevocationRow, change: Change, now_us: int) -> EventRow:
    body: dict[str, Any] = {
        "revocation": row.id,
        "purposes": [d.purpose for d in tx.denials(row.id)],
        "initiator": row.initiator,
        "due_at": row.due_us,
    }
    jti = f"{row.id}.{change.name}"
    return EventRow(_NO_NUMBER, jti, change.kind, row.id, row.subject, change.at_us, now_us, body)


def _callback(row: RevocationRow, n: int, url: str) -> DestinationRow:
    """Where this revocation alone is told."""
    heard = (kinds.ACCEPTED, kinds.ENFORCED, kinds.ERASED, kinds.COMPLETED, kinds.AMENDED, kinds.OVERDUE)
    return DestinationRow(
        *(f"{row.id}.callback-{n}", "callback", url, host_of(url), b"", heard, None, "", row.id),
        *("enabled", "", row.accepted_us),
    )


def _tell(tx: WriteTx, event: EventRow, also: set[str] | frozenset[str] = frozenset()) -> None:
    """Owe the event to everybody who asked for such, and to `also`."""
    listening = tx.destinations.listening(event.revocation)
    tx.events.add(event, [d.id for d in listening if d.id in also or _asked_for(d, event)])


def _asked_for(destination: DestinationRow, event: EventRow) -> bool:
    if event.kind not in destination.kinds:
        return False
    return destination.purposes is None or bool(set(destination.purposes) & set(event.body["purposes"]))


def _first(*times: int | None) -> int | None:
    return next((t for t in times if t is not None), None)
