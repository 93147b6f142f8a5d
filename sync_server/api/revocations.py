"""`/v1/consent-revocations`: withdraw, watch, prove."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import msgspec
from aiohttp import web

from edge_runtime.wire.printing import prints_only
from sync_server.api.body import into
from sync_server.api.replies import (
    again,
    body_of,
    fingerprint_of,
    idempotency_key,
    json_reply,
    kept,
    repeat,
    subject_of,
)
from sync_server.api.rooms import AUTHORITY, CLOCK, OFFICE, SETTINGS, STORE
from sync_server.api.route import Link, Route, Told
from sync_server.consent.progress import Progress
from sync_server.errors import Problem
from sync_server.store.protocol import ReadTx
from sync_server.store.records import RevocationRow, Target

DOOR = "consent-revocations"
PATH = "/v1/consent-revocations"


@prints_only("initiator")
class Revocation(msgspec.Struct, forbid_unknown_fields=True):
    """Whose permission ends, and for what: a list of purposes, or `"*"` for all."""

    subject: str
    purposes: list[str] | Literal["*"] = "*"
    initiator: Literal["subject", "controller"] = "subject"
    notice: Annotated[str, msgspec.Meta(max_length=512)] = ""


async def revoke(request: web.Request) -> web.Response:
    """Deny, and answer the same whether or not anything was there: the reply is no oracle."""
    raw, parsed = await body_of(request)
    wanted = into(parsed, Revocation)
    purposes = None if wanted.purposes == "*" else _purposes(wanted.purposes)
    subject = subject_of(request, wanted.subject)
    key, print_ = idempotency_key(request), fingerprint_of(request.app[AUTHORITY], raw)
    with request.app[STORE].write("revoke") as tx:
        before = repeat(tx, DOOR, key, print_)
        if before is not None:
            return again(before)
        row, statement = request.app[OFFICE].revoke(tx, subject, purposes, wanted.initiator, wanted.notice)
        document = {
            "id": row.id,
            "state": "accepted",
            "accepted_at": row.accepted_us,
            "due_at": row.due_us,
            "denials": [{"seq": d.seq, "purpose": d.purpose} for d in tx.denials(row.id)],
            "receipt": statement,
        }
        reply = json_reply(document, 202, {"Location": f"{PATH}/{row.id}"})
        if key is not None:
            tx.keep_reply(DOOR, key, kept(reply, print_), request.app[CLOCK].now_us())
    return reply


async def status(request: web.Request) -> web.Response:
    """How far it has come."""
    with request.app[STORE].read() as tx:
        row = _found(tx, request)
        standing = request.app[OFFICE].progress(tx, row)
        denials = [{"seq": d.seq, "purpose": d.purpose} for d in tx.denials(row.id)]
    document = {"id": row.id, "initiator": row.initiator, "denials": denials}
    return json_reply({**document, **_standing(row, standing)})


async def targets(request: web.Request) -> web.Response:
    """Every device that is waited for."""
    with request.app[STORE].read() as tx:
        row = _found(tx, request)
        erasers = {a.device_id for a in tx.answers(row.id) if a.kind == "erased"}
        held = [_target(request, t, erasers) for t in tx.targets(row.id)]
    return json_reply({"id": row.id, "targets": held})


async def receipt(request: web.Request) -> web.Response:
    """The signed completion, with each device's own signed receipt inside."""
    with request.app[STORE].read() as tx:
        return json_reply(request.app[OFFICE].completion(tx, _found(tx, request)))


async def listing(request: web.Request) -> web.Response:
    """The newest revocations."""
    with request.app[STORE].read() as tx:
        rows = tx.revocations(request.app[SETTINGS].page_rows)
    return json_reply({"revocations": [{"id": r.id, "accepted_at": r.accepted_us} for r in rows]})


def _found(tx: ReadTx, request: web.Request) -> RevocationRow:
    row = tx.revocation(request.match_info["id"])
    if row is None:
        raise Problem("not_found")
    return row


def _purposes(named: list[str]) -> list[str]:
    if not named or len(named) > 1_000 or any(not 0 < len(p) <= 512 for p in named):
        raise Problem("invalid_request", 'expected 1 to 1000 purposes, or "*"')
    return named


def _standing(row: RevocationRow, standing: Progress) -> dict[str, object]:
    return {
        "state": standing.state,
        "amended": standing.amended,
        "counters": asdict(standing.counters),
        "accepted_at": standing.accepted_us,
        "due_at": row.due_us,
        "enforced_at": standing.enforced_us,
        "erased_at": standing.erased_us,
        "completed_at": standing.completed_us,
        "server_erased_at": row.server_erased_us,
        "overdue": list(standing.overdue),
    }


def _target(request: web.Request, target: Target, erasers: set[str]) -> dict[str, object]:
    device = target.device_id
    answered = "erased" if device in erasers else "held_none"
    return {
        "device_id": device,
        "position": target.position,
        "lease_bound_at": target.lease_bound_us,
        "acknowledged_at": target.acked_us,
        "enforced_at": request.app[OFFICE].enforced_us(target),
        "erased_at": target.erased_us,
        "answer": None if target.erased_us is None else answered,
        "late": target.late,
    }


WATCHED = ("/{id}", "/{id}/targets", "/{id}/receipt")

ROUTES = (
    Route(
        "POST",
        PATH,
        revoke,
        "Withdraw or revoke. Effective when this returns; the unknown and the withdrawn get the same answer.",
        "consent",
        scope="consent",
        body=Revocation,
        idempotent=True,
        replies={202: "`id`, the `denials` in the ledger, and a signed `receipt` that verifies offline"},
        tells={202: (Told("Location", "Where the revocation is watched."),)},
        links={202: tuple(Link("GET", PATH + end, "id", "$response.body#/id") for end in WATCHED)},
        problems=("invalid_id", "no_catalog", "idempotency_reuse"),
    ),
    Route(
        "GET",
        PATH,
        listing,
        "The newest revocations.",
        "consent",
        scope="consent",
        replies={200: "`revocations`"},
    ),
    Route(
        "GET",
        PATH + "/{id}",
        status,
        "State, counters and times (microseconds) of a revocation.",
        "consent",
        scope="consent",
        replies={200: "state, counters, times, overdue devices"},
        problems=("not_found",),
    ),
    Route(
        "GET",
        PATH + "/{id}/targets",
        targets,
        "Every device that the revocation waits for.",
        "consent",
        scope="consent",
        replies={200: "`targets`"},
        problems=("not_found",),
    ),
    Route(
        "GET",
        PATH + "/{id}/receipt",
        receipt,
        "The signed completion receipt, each device's signed receipt inside.",
        "consent",
        scope="consent",
        replies={200: "a signed statement that verifies offline"},
        problems=("not_found", "not_completed"),
    ),
)
