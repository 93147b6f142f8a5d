"""`/v1/aggregates`: open, close and read one round. Lists are in `releases.py`."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

import msgspec
from aiohttp import web

from sync_server.access.audit import about
from sync_server.aggregates.documents import NewRound, Round, RoundId, RoundWithRelease
from sync_server.aggregates.release import Parameters, Release
from sync_server.api.body import into
from sync_server.api.replies import body_of, json_reply
from sync_server.api.rooms import HINTS, REGISTRY, ROUNDS, STORE
from sync_server.api.route import Link, Route, Told
from sync_server.errors import Problem
from sync_server.store.aggregates import RoundRow

PATH = "/v1/aggregates"
ONE = PATH + "/{metric}/rounds"


async def open_round(request: web.Request) -> web.Response:
    """Open a round of a metric, or return the one that is open."""
    _, parsed = await body_of(request)
    closes_in_us = round(into(parsed, NewRound).closes_in_s * 1_000_000)
    metric = request.match_info["metric"]
    model = request.app[REGISTRY].active.model
    with request.app[STORE].write("open_round") as tx:
        row, fresh = request.app[ROUNDS].open(tx, model, metric, closes_in_us)
        about(f"round:{row.id.hex()}")
    request.app[HINTS].rounds_moved()
    status = HTTPStatus.CREATED if fresh else HTTPStatus.OK
    return json_reply(
        _round(row), status, {"Location": f"{PATH}/{quote(metric, safe='')}/rounds/{row.id.hex()}"}
    )


async def read_round(request: web.Request) -> web.Response:
    """The round's parameters and, once it is closed, its release. How many answered is not told before."""
    round_id = _round_id(request)
    close_due(request)
    with request.app[STORE].read() as tx:
        row = tx.aggregates.round(round_id)
        published = tx.aggregates.release(round_id)
    if row is None or row.metric != request.match_info["metric"]:
        raise Problem("not_found", "no such round of this metric")
    release = None if published is None else msgspec.json.decode(published, type=Release)
    return json_reply(RoundWithRelease(**msgspec.structs.asdict(_round(row)), release=release))


async def close_round(request: web.Request) -> web.Response:
    """Close the round now and return its release."""
    round_id = _round_id(request)
    with request.app[STORE].write("close_round") as tx:
        row = tx.aggregates.round(round_id)
        if row is None or row.metric != request.match_info["metric"]:
            raise Problem("not_found", "no such round of this metric")
        about(f"round:{round_id.hex()}")
        release = request.app[ROUNDS].close(tx, round_id)
    request.app[HINTS].rounds_moved()
    return json_reply(release)


def close_due(request: web.Request) -> None:
    """A round whose time is over closes at the next look; until then it takes no answers anyway."""
    rounds, store = request.app[ROUNDS], request.app[STORE]
    with store.read() as tx:
        if not rounds.due(tx):
            return
    with store.write("close_due_rounds") as tx:
        rounds.close_due(tx)
    request.app[HINTS].rounds_moved()


def _round_id(request: web.Request) -> bytes:
    text = request.match_info["round"]
    if len(text) != 32 or set(text) - set("0123456789abcdef"):
        raise Problem("not_found", "expected a round's id")
    return bytes.fromhex(text)


def _round(row: RoundRow) -> Round:
    parameters = msgspec.json.decode(row.parameters, type=Parameters)
    question = parameters.question
    return Round(
        row.id.hex(),
        row.metric,
        "open" if row.closed_us is None else "closed",
        opened_at_us=row.opened_us,
        closes_at_us=row.closes_us,
        kind=question.kind,
        mode=question.mode,
        categories=list(question.categories),
        epsilon=question.epsilon,
        min_subjects=parameters.min_subjects,
        mechanism=question.mechanism,
    )


_PLACES = {"round": RoundId}
_LOCATION = (Told("Location", "Where the round is read."),)
_ROUND = tuple(
    Link(method, path, name, source)
    for method, path in (("GET", ONE + "/{round}"), ("POST", ONE + "/{round}/close"))
    for name, source in (("round", "$response.body#/round"), ("metric", "$response.body#/metric"))
)


ROUTES = (
    Route(
        "POST",
        ONE,
        open_round,
        "Open a round of a metric. While one is open, opening again returns it.",
        "aggregates",
        scope="analyst",
        body=NewRound,
        example={"closes_in_s": 3600},
        replies={201: "the round, now offered to devices", 200: "the round that is open already"},
        returns={201: Round, 200: Round},
        tells={201: _LOCATION, 200: _LOCATION},
        problems=("unknown_metric", "no_catalog"),
    ),
    Route(
        "GET",
        ONE + "/{round}",
        read_round,
        "A round and, once it is closed, its release.",
        "aggregates",
        scope="analyst",
        places=_PLACES,
        replies={200: "the round; `release` is null while it is open"},
        returns={200: RoundWithRelease},
        problems=("not_found",),
    ),
    Route(
        "POST",
        ONE + "/{round}/close",
        close_round,
        "Close a round now. Closing again returns the same release.",
        "aggregates",
        scope="analyst",
        places=_PLACES,
        replies={200: "the release; `withheld`, without a number, under the minimum of subjects"},
        returns={200: Release},
        problems=("not_found",),
    ),
)
