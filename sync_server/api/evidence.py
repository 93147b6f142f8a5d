"""`/v1/consent-evidence`: evidence about a subject is made anonymous before its time."""

from __future__ import annotations

import msgspec
from aiohttp import web

from sync_server.access.audit import present_caller
from sync_server.api.asked import asked
from sync_server.api.replies import json_reply, subject_of
from sync_server.api.rooms import OFFICE, STORE
from sync_server.api.route import Query, Route
from sync_server.consent.forgetting import forget_subject
from sync_server.errors import Problem


class EvidenceErased(msgspec.Struct, frozen=True):
    """What became anonymous. The leaves stay in the ledger, and every proof over them holds."""

    steps: int
    """Decisions of which nobody can say any more whom they were about."""
    purposes: list[str]


async def erase(request: web.Request) -> web.Response:
    """Destroy salts, pseudonyms and device receipts; what they proved, nobody can prove any more."""
    if "consent" not in present_caller().scopes:
        raise Problem("missing_scope", "expected a token with the scopes operator and consent")
    subject = subject_of(request, asked(request, "subject", ""))
    with request.app[STORE].write("forget_evidence") as tx:
        done = forget_subject(tx, request.app[OFFICE], subject)
    request.app[STORE].scrub()
    return json_reply(EvidenceErased(done.steps, list(done.purposes)))


ROUTES = (
    Route(
        "DELETE",
        "/v1/consent-evidence",
        erase,
        "Make all evidence about a subject anonymous, for good. Needs the scope `consent` besides.",
        "consent",
        scope="operator",
        query=(Query("subject", "whose", required=True),),
        replies={200: "how many decisions, of which purposes"},
        returns={200: EvidenceErased},
        problems=("invalid_id", "no_catalog", "consent_live", "not_completed", "missing_scope"),
    ),
)
