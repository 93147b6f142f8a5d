"""`/v1/consent-ledger`: the signed head, and proofs that what stands in the log still stands."""

from __future__ import annotations

from aiohttp import web

from sync_server.api.replies import json_reply
from sync_server.api.rooms import AUTHORITY, OFFICE, STORE
from sync_server.api.route import Query, Route
from sync_server.consent import merkle
from sync_server.consent.statement import head_document
from sync_server.devices.enrolment import encode
from sync_server.errors import Problem

PATH = "/v1/consent-ledger"


async def head(request: web.Request) -> web.Response:
    """The signed head. Its size is the lane position: what a job names as `as_of`."""
    with request.app[STORE].read() as tx:
        signed = request.app[OFFICE].head(tx)
    key = encode(request.app[AUTHORITY].public_key)
    return json_reply({**head_document(signed), "public_key": key})


async def proof(request: web.Request) -> web.Response:
    """Inclusion of leaf `seq` in the log of `size`, or that the log of `first` is its beginning."""
    first, seq = _number(request, "first"), _number(request, "seq")
    with request.app[STORE].read() as tx:
        present = tx.lane_head()
        size = _number(request, "size") or present
        if size > present or (seq is None) == (first is None):
            raise Problem("malformed_query", f"expected seq or first, and a size of at most {present}")
        if seq is not None:
            if not 0 < seq <= size:
                raise Problem("malformed_query", f"expected seq between 1 and {size}")
            step = tx.evidence(seq)
            assert step is not None
            path = merkle.inclusion(seq - 1, size, tx.ledger_node)
            found: dict[str, object] = {"seq": seq, "leaf": encode(step.leaf)}
        else:
            assert first is not None
            if not 0 < first <= size:
                raise Problem("malformed_query", f"expected first between 1 and {size}")
            path = merkle.consistency(first, size, tx.ledger_node)
            found = {"first": first, "first_root": encode(merkle.root(first, tx.ledger_node))}
        root = merkle.root(size, tx.ledger_node)
    return json_reply({**found, "size": size, "root": encode(root), "proof": [encode(h) for h in path]})


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Problem("malformed_query", f"expected {name} to be a number")
    return int(text)


ROUTES = (
    Route(
        "GET",
        PATH + "/head",
        head,
        "The ledger's signed head; its size is the present lane position.",
        "consent ledger",
        scope="consent",
        replies={200: "size, root, time, incarnation, signature, public key"},
    ),
    Route(
        "GET",
        PATH + "/proof",
        proof,
        "Inclusion (`seq`) or consistency (`first`) proof under the log of `size` leaves (RFC 9162).",
        "consent ledger",
        scope="consent",
        query=(
            Query("seq", "ledger seq to prove included"),
            Query("first", "older size to prove consistent"),
            Query("size", "size of the log; the present one when left out"),
        ),
        replies={200: "the proof, base64url"},
        problems=("malformed_query",),
    ),
)
