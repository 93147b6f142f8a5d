"""`/v1/aggregates`: open, close and read one round. Lists are in `releases.py`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal
from urllib.parse import quote

import msgspec
from aiohttp import web

from sync_server.access.audit import about
from sync_server.aggregates.documents import NewRound, Round, RoundId, RoundWithRelease
from sync_server.aggregates.release import Release, read_release
from sync_server.aggregates.rounds import parameters_of
from sync_server.api.body import into
from sync_server.api.replies import body_of, json_reply
from sync_server.api.rooms import COLLECTOR, HINTS, REGISTRY, ROUNDS, STORE
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
    await request.app[COLLECTOR].settle()
    with request.app[STORE].read() as tx:
        row = tx.aggregates.round(round_id)
        published = tx.aggregates.release(round_id)
    if row is None or row.metric != request.match_info["metric"]:
        raise Problem("not_found", "no such round of this metric")
    release = None if published is None else read_release(published)
    return json_reply(RoundWithRelease(**msgspec.structs.asdict(_round(row)), release=release))


async def close_round(request: web.Request) -> web.Response:
    """Stop the round now, open what came in time, and return the release."""
    round_id = _round_id(request)
    with request.app[STORE].read() as tx:
        row = tx.aggregates.round(round_id)
    if row is None or row.metric != request.match_info["metric"]:
        raise Problem("not_found", "no such round of this metric")
    about(f"round:{round_id.hex()}")
    return json_reply(await request.app[COLLECTOR].close(round_id))


def _round_id(request: web.Request) -> bytes:
    text = request.match_info["round"]
    if len(text) != 32 or set(text) - set("0123456789abcdef"):
        raise Problem("not_found", "expected a round's id")
    return bytes.fromhex(text)


def _round(row: RoundRow) -> Round:
    parameters = parameters_of(row)
    question = parameters.question
    return Round(
        row.id.hex(),
        row.metric,
        _state(row),
        opened_at_us=row.opened_us,
        closes_at_us=row.closes_us,
        kind=question.kind,
        mode=question.mode,
        categories=list(question.categories),
        epsilon=question.epsilon,
        min_subjects=parameters.min_subjects,
        mechanism=question.mechanism,
    )


def _state(row: RoundRow) -> Literal["open", "closing", "closed"]:
    if row.closed_us is not None:
        return "closed"
    return "open" if row.stopped_us is None else "closing"


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
