"""`/v1/consent-ledger`: the signed head, and proofs that what stands in the log still stands."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from sync_server.api.asked import LIMIT, asked
from sync_server.api.replies import json_reply
from sync_server.api.rooms import AUTHORITY, OFFICE, SETTINGS, STORE
from sync_server.api.route import Query, Route
from sync_server.consent import merkle
from sync_server.consent.documents import LedgerHead, LedgerLeaf, LedgerLeaves, LedgerProof
from sync_server.consent.root import links
from sync_server.consent.statement import head_document
from sync_server.devices.enrolment import encode
from sync_server.errors import Problem

PATH = "/v1/consent-ledger"


async def head(request: web.Request) -> web.Response:
    """The signed head. Its size is the lane position: what a job names as `as_of`."""
    with request.app[STORE].read() as tx:
        signed = request.app[OFFICE].head(tx)
    made = request.app[AUTHORITY]
    keys = {"public_key": encode(made.public_key), "succession": links(made.chain)}
    whole = {**head_document(signed), **keys, "root_fingerprint": made.root}
    return json_reply(msgspec.convert(whole, LedgerHead))


async def proof(request: web.Request) -> web.Response:
    """Inclusion of leaf `seq` in the log of `size`, or that the log of `first` is its beginning."""
    first: int | None = asked(request, "first", None)
    seq: int | None = asked(request, "seq", None)
    with request.app[STORE].read() as tx:
        present = tx.lane_head()
        size = asked(request, "size", present)
        if size > present or (seq is None) == (first is None):
            raise Problem("malformed_query", f"expected seq or first, and a size of at most {present}")
        if seq is not None:
            if not 0 < seq <= size:
                raise Problem("malformed_query", f"expected seq between 1 and {size}")
            step = tx.evidence(seq)
            assert step is not None
            path = merkle.inclusion(seq - 1, size, tx.ledger_node)
            found = {"seq": seq, "leaf": encode(step.leaf)}
        else:
            assert first is not None
            if not 0 < first <= size:
                raise Problem("malformed_query", f"expected first between 1 and {size}")
            path = merkle.consistency(first, size, tx.ledger_node)
            found = {"first": first, "first_root": encode(merkle.root(first, tx.ledger_node))}
        root = merkle.root(size, tx.ledger_node)
    proven = {"size": size, "root": encode(root), "proof": [encode(step) for step in path]}
    return json_reply(msgspec.convert({**found, **proven}, LedgerProof))


async def leaves(request: web.Request) -> web.Response:
    """A page of leaves, from which anybody can work out the root that the head is signed over."""
    limit = min(asked(request, "limit", 10**9), request.app[SETTINGS].page_rows)
    after = asked(request, "after", 0)
    with request.app[STORE].read() as tx:
        found = tx.ledger.leaves(after, limit)
    page = [LedgerLeaf(seq, encode(leaf)) for seq, leaf in found]
    return json_reply(LedgerLeaves(page, page[-1].seq if len(page) == limit else None))


Place = Annotated[int, msgspec.Meta(ge=1, le=2**62)]
After = Annotated[int, msgspec.Meta(ge=0, le=2**62)]

ROUTES = (
    Route(
        "GET",
        PATH + "/head",
        head,
        "The ledger's signed head; its size is the present lane position, as a publish names it in `as_of`.",
        "consent ledger",
        replies={200: "size, root, time, incarnation, signature, public key"},
        returns={200: LedgerHead},
    ),
    Route(
        "GET",
        PATH + "/proof",
        proof,
        "Inclusion (`seq`) or consistency (`first`) proof under the log of `size` leaves (RFC 9162).",
        "consent ledger",
        scope="consent",
        query=(
            Query("seq", "ledger seq to prove included", type=Place),
            Query("first", "older size to prove consistent", type=Place),
            Query("size", "size of the log; the present one when left out", type=Place),
        ),
        replies={200: "the proof, base64url"},
        returns={200: LedgerProof},
    ),
    Route(
        "GET",
        PATH + "/leaves",
        leaves,
        "The leaves of the ledger, a page at a time; they name nobody.",
        "consent ledger",
        scope="consent",
        query=(
            Query("after", "ledger seq after which the page begins", type=After),
            LIMIT,
        ),
        replies={200: "`leaves` in order; `next` is the next page's `after`"},
        returns={200: LedgerLeaves},
    ),
)
