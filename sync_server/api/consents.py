"""`/v1/consents`: record and read decisions."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from aiohttp import web

from edge_runtime.catalog import Catalog
from edge_runtime.wire.failure import WireFailure
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
from sync_server.api.rooms import AUTHORITY, CLOCK, OFFICE, REGISTRY, SETTINGS, STORE
from sync_server.api.route import Query, Route
from sync_server.consent.decisions import API, Proposal
from sync_server.errors import Problem
from sync_server.store.protocol import ReadTx
from sync_server.store.records import Evidence

DOOR = "consents"


@prints_only("state", "base")
class Consent(msgspec.Struct, forbid_unknown_fields=True):
    """A decision to record. `base`: the lane position its author had seen; left out, the present one."""

    subject: str
    purpose: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    notice: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    state: Literal["given", "refused", "objected", "restricted"] = "given"
    base: Annotated[int, msgspec.Meta(ge=0, le=2**62)] | None = None


async def record(request: web.Request) -> web.Response:
    """Record a decision and return it as it stands in the ledger."""
    raw, parsed = await body_of(request)
    consent = into(parsed, Consent)
    catalog = request.app[REGISTRY].active
    _check_notice(catalog, consent)
    subject = subject_of(request, consent.subject)
    key, print_ = idempotency_key(request), fingerprint_of(request.app[AUTHORITY], raw)
    now_us = request.app[CLOCK].now_us()
    with request.app[STORE].write("consent") as tx:
        before = repeat(tx, DOOR, key, print_)
        if before is not None:
            return again(before)
        base = tx.lane_head() if consent.base is None else consent.base
        proposal = Proposal(subject, consent.purpose, consent.state, consent.notice, base, now_us, API)
        try:
            done = request.app[OFFICE].decide(tx, proposal)
        except WireFailure as failure:
            raise Problem("invalid_request", failure.reason) from None
        step = tx.evidence(done.seq)
        assert step is not None
        reply = json_reply({**_document(step), "state_now": _state(tx, subject, consent.purpose)}, 201)
        if key is not None:
            tx.keep_reply(DOOR, key, kept(reply, print_), now_us)
    return reply


async def read(request: web.Request) -> web.Response:
    """The subject's decisions, oldest first, and what holds now for each purpose."""
    subject = subject_of(request, request.query.get("subject"))
    purpose = request.query.get("purpose")
    with request.app[STORE].read() as tx:
        steps = tx.history(subject, purpose, request.app[SETTINGS].page_rows)
        named = sorted({s.purpose for s in steps} | ({purpose} if purpose else set()))
        states = {p: _state(tx, subject, p) for p in named}
        head = tx.lane_head()
    return json_reply({"states": states, "history": [_document(s) for s in steps], "lane": head})


def _state(tx: ReadTx, subject: bytes, purpose: str) -> dict[str, object]:
    now = tx.decision_state(subject, purpose)
    return {"state": now.state, "grant": now.grant, "denial": now.denial}


def _document(step: Evidence) -> dict[str, object]:
    return {
        "seq": step.seq,
        "purpose": step.purpose,
        "state": step.state,
        "outcome": step.outcome,
        "notice": step.notice,
        "base": step.base,
        "actor": step.actor,
        "at": step.at_us,
        "recorded_at": step.recorded_us,
        "grant": step.grant,
    }


def _check_notice(catalog: Catalog, consent: Consent) -> None:
    if consent.purpose not in catalog.purposes:
        raise Problem("unknown_purpose")
    if not catalog.notices:
        return  # a catalog that declares no texts takes any label, and the ledger keeps it
    notice = catalog.notices.get(consent.notice)
    if notice is None or consent.purpose not in notice.purposes:
        raise Problem("invalid_notice", "expected a declared notice of this purpose")


ROUTES = (
    Route(
        "POST",
        "/v1/consents",
        record,
        "Record a decision. A `given` whose base lies before a denial is recorded as `superseded`.",
        "consent",
        scope="consent",
        body=Consent,
        idempotent=True,
        replies={201: "the decision as it stands in the ledger"},
        problems=("unknown_purpose", "invalid_notice", "invalid_id", "no_catalog", "idempotency_reuse"),
    ),
    Route(
        "GET",
        "/v1/consents",
        read,
        "A subject's decisions and what holds now.",
        "consent",
        scope="consent",
        query=(Query("subject", "id of the subject", required=True), Query("purpose", "only this purpose")),
        replies={200: "`states` by purpose, and `history`, oldest first"},
        problems=("invalid_id", "no_catalog"),
    ),
)
