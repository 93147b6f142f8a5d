"""`/v1/consent-revocations`: withdraw, watch, prove."""

from __future__ import annotations

import msgspec
from aiohttp import web

from sync_server.access.audit import about
from sync_server.api.asked import LIMIT, asked, page_limit
from sync_server.api.body import into, read_body
from sync_server.api.destinations import check_callbacks
from sync_server.api.replies import (
    again,
    fingerprint_of,
    in_flight,
    json_reply,
    kept,
    parsed_body,
    repeat,
    required_key,
    subject_of,
)
from sync_server.api.rooms import AUTHORITY, CLOCK, OFFICE, REGISTRY, SETTINGS, STORE
from sync_server.api.route import Link, Query, Route, Told
from sync_server.consent.documents import (
    DenialPlace,
    Revocation,
    RevocationAccepted,
    RevocationBrief,
    Revocations,
    RevocationStatus,
    RevocationTarget,
    RevocationTargets,
    SubjectIdentifier,
)
from sync_server.consent.signed_document import SignedDocument
from sync_server.errors import Problem
from sync_server.store.protocol import ReadTx, WriteTx
from sync_server.store.records import UNLEASED_US, AnswerKind, RevocationRow, Target

DOOR = "consent-revocations"
PATH = "/v1/consent-revocations"


async def revoke(request: web.Request) -> web.Response:
    """Deny, and answer the same whether or not anything was there: the reply is no oracle."""
    key = required_key(request)
    raw = await read_body(request, request.app[SETTINGS].consent_body_bytes)
    with in_flight(request, DOOR, key):
        wanted = into(await parsed_body(request, raw), Revocation)
        subject, print_ = subject_of(request, wanted.subject), fingerprint_of(request.app[AUTHORITY], raw)
        with request.app[STORE].write("revoke") as tx:
            before = repeat(tx, DOOR, key, print_)
            if before is not None:
                return again(before)
            made = _accepted(request, tx, wanted, subject)
            reply = json_reply(made, 202, {"Location": f"{PATH}/{made.id}"})
            tx.keep_reply(DOOR, key, kept(reply, print_), request.app[CLOCK].now_us())
    return reply


async def status(request: web.Request) -> web.Response:
    """How far it has come."""
    named = request.app[SETTINGS].overdue_named
    with request.app[STORE].read() as tx:
        row = _found(tx, request)
        standing = request.app[OFFICE].progress(tx, row)
        denials = _denials(tx, row)
    found = RevocationStatus(
        id=row.id,
        initiator=row.initiator,
        denials=denials,
        state=standing.state,
        amended=standing.amended,
        counters=standing.counters,
        accepted_at=standing.accepted_us,
        due_at=row.due_us,
        enforced_at=standing.enforced_us,
        erased_at=standing.erased_us,
        completed_at=standing.completed_us,
        server_erased_at=row.server_erased_us,
        overdue=list(standing.overdue[:named]),
        recipients=standing.recipients,
    )
    return json_reply(found)


async def targets(request: web.Request) -> web.Response:
    """A page of the devices that are waited for. The cursor is a device: it holds while answers come in."""
    after, limit = asked(request, "after", ""), page_limit(request)
    with request.app[STORE].read() as tx:
        row = _found(tx, request)
        page = tx.targets_page(row.id, after, limit)
    held = [_target(request, target, kind, why) for target, kind, why in page]
    more = held[-1].device_id if len(held) == limit else None
    return json_reply(RevocationTargets(id=row.id, targets=held, next=more))


async def receipt(request: web.Request) -> web.Response:
    """The signed completion, or past the due time who is overdue; each device's own signed receipt inside."""
    request.app[STORE].flush()  # what is signed here must not be lost with the power
    with request.app[STORE].read() as tx:
        statement = request.app[OFFICE].outcome(tx, _found(tx, request))
    return json_reply(msgspec.convert(statement, SignedDocument))


async def listing(request: web.Request) -> web.Response:
    """A page of revocations, the newest first."""
    limit, after = page_limit(request), request.query.get("after")
    with request.app[STORE].read() as tx:
        last = None if after is None else tx.revocation(after)
        if after is not None and last is None:
            raise Problem("malformed_query", "expected after to be the last id of the page before")
        rows = tx.revocations(limit, last)
    held = [RevocationBrief(row.id, row.accepted_us) for row in rows]
    return json_reply(Revocations(revocations=held, next=held[-1].id if len(held) == limit else None))


def _accepted(request: web.Request, tx: WriteTx, wanted: Revocation, subject: bytes) -> RevocationAccepted:
    purposes = None if wanted.purposes == "*" else _known(request, tx, wanted.purposes)
    callbacks = check_callbacks(tx, wanted.callback_urls, request.app[SETTINGS])
    row, statement = request.app[OFFICE].revoke(
        tx, subject, purposes, wanted.initiator, wanted.notice, callbacks
    )
    about(row.id)
    return RevocationAccepted(
        id=row.id,
        state="accepted",
        accepted_at=row.accepted_us,
        due_at=row.due_us,
        denials=_denials(tx, row),
        receipt=msgspec.convert(statement, SignedDocument),
    )


def _known(request: web.Request, tx: ReadTx, purposes: list[str]) -> list[str]:
    """The purposes, if the catalog declares each or anybody ever decided on it: one misspelled would end
    nothing. It is the same for every subject, and so tells nothing."""
    unknown = {*purposes} - {*request.app[REGISTRY].purposes()} - {*tx.decided_purposes()}
    if unknown:
        place = min(purposes.index(purpose) for purpose in unknown)
        raise Problem("unknown_purpose", f"expected a declared purpose - at `$.purposes[{place}]`")
    return purposes


def _denials(tx: ReadTx, row: RevocationRow) -> list[DenialPlace]:
    return [DenialPlace(d.seq, d.purpose) for d in tx.denials(row.id)]


def _found(tx: ReadTx, request: web.Request) -> RevocationRow:
    row = tx.revocation(request.match_info["id"])
    if row is None:
        raise Problem("not_found")
    return row


def _target(request: web.Request, target: Target, kind: AnswerKind, shut_out: str | None) -> RevocationTarget:
    stopped = request.app[OFFICE].enforced(target)
    return RevocationTarget(
        device_id=target.device_id,
        position=target.position,
        lease_bound_at=None if target.lease_bound_us == UNLEASED_US else target.lease_bound_us,
        acknowledged_at=target.acked_us,
        enforced_at=None if stopped is None else stopped.at_us,
        enforced_by=None if stopped is None else stopped.by,
        remark=None if stopped is None else stopped.remark,
        erased_at=target.erased_us,
        answer=None if target.erased_us is None else kind,
        shut_out=shut_out,
        late=target.late,
    )


ROUTES = (
    Route(
        "POST",
        PATH,
        revoke,
        "Withdraw or revoke. Effective when this returns; the unknown and the withdrawn get the same answer.",
        "consent",
        scope="consent",
        body=Revocation,
        example={"subject": "user:alice", "purposes": ["personalization"]},
        parts=(SubjectIdentifier,),
        idempotent=True,
        keyed=True,
        replies={202: "`id`, the `denials` in the ledger, and a signed `receipt` that verifies offline"},
        returns={202: RevocationAccepted},
        tells={202: (Told("Location", "Where its status stands."),)},
        links={
            202: tuple(
                Link("GET", f"{PATH}/{{id}}{part}", "id", "$response.body#/id")
                for part in ("", "/targets", "/receipt")
            )
        },
        problems=(
            *("invalid_id", "unknown_purpose", "no_catalog"),
            *("idempotency_key_missing", "request_in_flight", "idempotency_reuse", "unreachable_url"),
        ),
    ),
    Route(
        "GET",
        PATH,
        listing,
        "Revocations, the newest first, a page at a time.",
        "consent",
        scope="consent",
        query=(Query("after", "the last id of the page before"), LIMIT),
        replies={200: "`revocations`"},
        returns={200: Revocations},
    ),
    Route(
        "GET",
        PATH + "/{id}",
        status,
        "State, counters and times (microseconds) of a revocation.",
        "consent",
        scope="consent",
        replies={200: "state, counters, times, overdue devices"},
        returns={200: RevocationStatus},
        problems=("not_found",),
    ),
    Route(
        "GET",
        PATH + "/{id}/targets",
        targets,
        "The devices that the revocation waits for, a page at a time.",
        "consent",
        scope="consent",
        query=(Query("after", "the last device id of the page before"), LIMIT),
        replies={200: "`targets`, by device id"},
        returns={200: RevocationTargets},
        problems=("not_found",),
    ),
    Route(
        "GET",
        PATH + "/{id}/receipt",
        receipt,
        "The signed completion receipt, each device's signed receipt inside; past the due time a statement of"
        " its own kind that names who is overdue.",
        "consent",
        scope="consent",
        replies={200: "a signed statement that verifies offline"},
        returns={200: SignedDocument},
        problems=("not_found", "not_completed"),
    ),
)
