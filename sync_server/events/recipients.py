"""Onward recipients: who is asked about a revocation, and when their answers complete it."""

from __future__ import annotations

from sync_server.errors import Problem
from sync_server.events.telling import notice
from sync_server.store.protocol import WriteTx
from sync_server.store.recipients import RecipientAnswer, RecipientOutcome, RecipientRow


def register(tx: WriteTx, row: RecipientRow, limit: int) -> None:
    """Add a recipient; revocations of before do not ask it.

    Raises `Problem`: `unknown_delivery` for none, or one that does not carry its purposes;
    `recipient_exists`; `too_many_destinations`.
    """
    destination = tx.destinations.find(row.destination)
    if destination is None or destination.method == "callback":
        raise Problem("unknown_delivery", "expected the id of a webhook or stream - at `$.delivery`")
    carried = destination.purposes
    if carried is not None and (row.purposes is None or not set(row.purposes) <= set(carried)):
        raise Problem("unknown_delivery", "expected a delivery that carries all of the recipient's purposes")
    if tx.recipients.find(row.name) is not None:
        raise Problem("recipient_exists")
    if len(tx.recipients.all()) >= limit:
        raise Problem("too_many_destinations", f"expected at most {limit} recipients")
    tx.recipients.add(row)


def remove(tx: WriteTx, name: str, now_us: int) -> None:
    """Forget a recipient. What it owes is closed as `removed`: no answer will come, and every document of
    those revocations names it so. Raises `Problem("not_found")`."""
    if not tx.recipients.drop(name):
        raise Problem("not_found")
    for revocation in tx.recipients.owing(name):
        tx.recipients.answer(revocation, name, now_us, "removed", "")
        tx.complete(revocation, now_us)
        notice(tx, revocation, now_us)


def answer(
    tx: WriteTx, revocation: str, name: str, outcome: RecipientOutcome, reason: str, now_us: int
) -> RecipientAnswer:
    """Take a recipient's word, which may complete the revocation; returns how it stands.

    The same word again changes nothing. Another word is only taken after `cannot`: it could after all.

    Raises `Problem`: `not_found` for a recipient that was not asked, `already_answered`.
    """
    found = _asked(tx, revocation, name)
    if found.answered_us is not None:
        if (found.outcome, found.reason) == (outcome, reason):
            return found
        if found.outcome != "cannot":
            raise Problem("already_answered")
    first = found.answered_us is None
    tx.recipients.answer(revocation, name, now_us, outcome, reason)
    if first:
        tx.complete(revocation, now_us)
        notice(tx, revocation, now_us)
    return _asked(tx, revocation, name)


def _asked(tx: WriteTx, revocation: str, name: str) -> RecipientAnswer:
    for found in tx.recipients.answers(revocation):
        if found.recipient == name:
            return found
    raise Problem("not_found")
