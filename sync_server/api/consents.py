"""`/v1/consents`: record and read decisions."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from edge_runtime.catalog import Catalog
from edge_runtime.wire.failure import WireFailure
from sync_server.access.audit import about
from sync_server.api.asked import LIMIT, asked, page_limit
from sync_server.api.body import into, read_body
from sync_server.api.etag import IF_NONE_MATCH, TAGGED, UNCHANGED, tagged
from sync_server.api.replies import (
    again,
    fingerprint_of,
    idempotency_key,
    in_flight,
    json_reply,
    kept,
    parsed_body,
    repeat,
    subject_of,
)
from sync_server.api.revocations import PATH as REVOCATIONS
from sync_server.api.rooms import AUTHORITY, CLOCK, OFFICE, REGISTRY, SETTINGS, STORE
from sync_server.api.route import Link, Query, Route, Told
from sync_server.consent.decisions import API, Proposal
from sync_server.consent.documents import (
    Consent,
    ConsentHistory,
    ConsentRecord,
    ConsentRecorded,
    OptedOut,
    OptOut,
    Purpose,
    StateNow,
    SubjectIdentifier,
)
from sync_server.consent.office import ConsentOffice
from sync_server.consent.signals import GPC, HEADER, opt_outs, signals_of
from sync_server.consent.signed_document import SignedDocument
from sync_server.errors import Problem
from sync_server.store.protocol import WriteTx
from sync_server.store.records import DecisionState, Evidence

DOOR = "consents"
PATH = "/v1/consents"


async def record(request: web.Request) -> web.Response:
    """Record a decision and return it as it stands in the ledger."""
    key = idempotency_key(request)
    raw = await read_body(request, request.app[SETTINGS].consent_body_bytes)
    with in_flight(request, DOOR, key):
        consent = into(await parsed_body(request, raw), Consent)
        _check_notice(request.app[REGISTRY].active, consent)
        subject, signals = (
            subject_of(request, consent.subject),
            signals_of(request.headers.getall(HEADER, ())),
        )
        print_ = fingerprint_of(request.app[AUTHORITY], raw + " ".join(signals).encode())
        now_us = request.app[CLOCK].now_us()
        with request.app[STORE].write("consent") as tx:
            before = repeat(tx, DOOR, key, print_)
            if before is not None:
                return again(before)
            made = _recorded(request, tx, consent, subject, signals)
            about(made.id)
            reply = json_reply(made, 201, {"Location": f"{PATH}/{made.id}"})
            if key is not None:
                tx.keep_reply(DOOR, key, kept(reply, print_), now_us)
    return reply


async def read(request: web.Request) -> web.Response:
    """What holds for a subject, and a page of its decisions, oldest first."""
    subject, purpose = subject_of(request, asked(request, "subject", "")), request.query.get("purpose")
    after, limit, office = asked(request, "after", 0), page_limit(request), request.app[OFFICE]
    with request.app[STORE].read() as tx:
        steps, states = tx.history(subject, purpose, after, limit), tx.states(subject)
        newest = tx.newest_step(subject)
    if purpose is not None:
        states = {purpose: states.get(purpose, DecisionState("unknown", 0, 0))}
    found = ConsentHistory(
        states={name: state_now(state) for name, state in states.items()},
        history=[shown(office, step) for step in steps],
        lane=newest,
        next=steps[-1].seq if len(steps) == limit else None,
    )
    return tagged(request, request.app[AUTHORITY], subject, found)


async def one(request: web.Request) -> web.Response:
    """One record. It never changes."""
    office = request.app[OFFICE]
    with request.app[STORE].read() as tx:
        step = office.record_named(tx, request.match_info["id"])
    if step is None:
        raise Problem("not_found")
    return tagged(request, request.app[AUTHORITY], step.subject, shown(office, step))


async def receipt(request: web.Request) -> web.Response:
    """The subject's receipt of one decision; it proves itself."""
    office = request.app[OFFICE]
    with request.app[STORE].read() as tx:
        step = office.record_named(tx, request.match_info["id"])
        if step is None:
            raise Problem("not_found")
        return json_reply(office.receipt(tx, step))


async def withdraw(request: web.Request) -> web.Response:
    """End what the record stands for. The record itself stays: it is evidence."""
    office, name = request.app[OFFICE], request.match_info["id"]
    with request.app[STORE].write("revoke") as tx:
        row = office.withdraw_record(tx, name)
        if row is not None:
            about(row.id)
    headers = None if row is None else {"Location": f"{REVOCATIONS}/{row.id}"}
    return web.Response(status=204, headers=headers)


async def opt_out(request: web.Request) -> web.Response:
    """Heed a signal alone: deny what sells, shares or targets and is not denied yet."""
    raw = await read_body(request, request.app[SETTINGS].consent_body_bytes)
    wanted = into(await parsed_body(request, raw), OptOut)
    subject, office = subject_of(request, wanted.subject), request.app[OFFICE]
    with request.app[STORE].write("opt_out") as tx:
        done = office.opt_out(tx, subject, wanted.notice, (GPC,))
        steps = [step for step in (tx.evidence(one.seq) for one in done) if step is not None]
        named = sorted(opt_outs(tx))
        for step in steps:
            about(office.record_id(step))
    return json_reply(OptedOut(denied=[shown(office, step) for step in steps], opted_out=named))


def _recorded(
    request: web.Request, tx: WriteTx, consent: Consent, subject: bytes, signals: tuple[str, ...]
) -> ConsentRecorded:
    base = tx.lane_head() if consent.base is None else consent.base
    now_us = request.app[CLOCK].now_us()
    proposal = Proposal(
        *(subject, consent.purpose, consent.state, consent.notice, base, now_us, API), signals=signals
    )
    office = request.app[OFFICE]
    try:
        done = office.decide(tx, proposal)
    except WireFailure as failure:
        raise Problem("invalid_request", failure.reason) from None
    step = tx.evidence(done.seq)
    assert step is not None
    now = state_now(tx.decision_state(subject, consent.purpose))
    conflict = step.state != consent.state
    record = msgspec.structs.asdict(shown(office, step))
    return ConsentRecorded(**record, state_now=now, gpc_conflict=conflict)


def state_now(state: DecisionState) -> StateNow:
    """What holds, as the API shows it."""
    return StateNow(state.state, state.grant, state.denial)


def shown(office: ConsentOffice, step: Evidence) -> ConsentRecord:
    """A step of the ledger as the API shows it."""
    return ConsentRecord(
        id=office.record_id(step),
        seq=step.seq,
        purpose=step.purpose,
        state=step.state,
        outcome=step.outcome,
        notice=step.notice,
        base=step.base,
        actor=step.actor,
        at=step.at_us,
        recorded_at=step.recorded_us,
        grant=step.grant,
        notice_hash=f"sha256:{step.notice_hash.hex()}" if step.notice_hash else "",
        registry=step.registry.hex(),
        signals=list(step.signals),
    )


def _check_notice(catalog: Catalog, consent: Consent) -> None:
    if consent.purpose not in catalog.purposes:
        raise Problem("unknown_purpose")
    if not catalog.notices:
        return  # a catalog that declares no texts takes any label, and the ledger keeps it
    notice = catalog.notices.get(consent.notice)
    if notice is None or consent.purpose not in notice.purposes:
        raise Problem("invalid_notice", "expected a declared notice of this purpose")


Position = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_LOCATED = (Told("Location", "Where the record stands."),)

ROUTES = (
    Route(
        "POST",
        PATH,
        record,
        "Record a decision. A `given` whose base lies before a denial is recorded as `superseded`.",
        "consent",
        scope="consent",
        body=Consent,
        example={"subject": "user:alice", "purpose": "personalization", "notice": "2026-11"},
        parts=(SubjectIdentifier,),
        idempotent=True,
        headers=(Query(HEADER, "`1`, as the subject's software sent it: Global Privacy Control"),),
        replies={201: "the decision as it stands in the ledger; `Location` names it"},
        returns={201: ConsentRecorded},
        tells={201: _LOCATED},
        links={201: (Link("GET", PATH + "/{id}", "id", "$response.body#/id"),)},
        problems=(
            "catching_up",
            "journal",
            *("unknown_purpose", "invalid_notice", "invalid_id", "no_catalog", "idempotency_reuse"),
            "request_in_flight",
        ),
    ),
    Route(
        "POST",
        "/v1/opt-outs",
        opt_out,
        "Deny every purpose that sells, shares or targets and is not denied yet: Global Privacy Control"
        " alone. Asked again it denies nothing anew.",
        "consent",
        scope="consent",
        body=OptOut,
        example={"subject": "user:alice"},
        parts=(SubjectIdentifier,),
        replies={200: "what was denied now"},
        returns={200: OptedOut},
        problems=("invalid_id", "no_catalog"),
    ),
    Route(
        "GET",
        PATH,
        read,
        "What holds for a subject, and its decisions, a page at a time.",
        "consent",
        scope="consent",
        query=(
            Query("subject", "id of the subject", required=True),
            Query("purpose", "only this purpose", type=Purpose),
            Query("after", "`seq` of the last record of the page before", type=Position),
            LIMIT,
        ),
        headers=(IF_NONE_MATCH,),
        replies={200: "`states` by purpose, and `history`, oldest first, with an `ETag`", 304: UNCHANGED},
        returns={200: ConsentHistory},
        tells={200: TAGGED, 304: TAGGED},
        problems=("invalid_id", "no_catalog"),
    ),
    Route(
        "GET",
        PATH + "/{id}",
        one,
        "One decision, as it was recorded.",
        "consent",
        scope="consent",
        headers=(IF_NONE_MATCH,),
        replies={200: "the decision, with an `ETag`", 304: UNCHANGED},
        returns={200: ConsentRecord},
        tells={200: TAGGED, 304: TAGGED},
        problems=("not_found",),
    ),
    Route(
        "GET",
        PATH + "/{id}/receipt",
        receipt,
        "The subject's signed receipt of a decision, after ISO/IEC TS 27560, with its proof in the ledger.",
        "consent",
        scope="consent",
        replies={200: "a signed statement that verifies offline"},
        returns={200: SignedDocument},
        problems=(
            "not_found",
            "evidence_erased",
        ),
    ),
    Route(
        "DELETE",
        PATH + "/{id}",
        withdraw,
        "Withdraw what a record stands for: a revocation for its subject and purpose, made once. The record"
        " stays. As with RFC 7009, a name that stands for nothing gets the same answer.",
        "consent",
        scope="consent",
        replies={204: "nothing stands under this name any more"},
        tells={204: (Told("Location", "The revocation that ended it, if one was made.", always=False),)},
    ),
)
