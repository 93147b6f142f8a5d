"""`/v1/hot-set`: which rows a channel pushes and why; and what somebody says is important."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from aiohttp import web

from edge_runtime.catalog import MalformedRequest
from edge_runtime.wire.printing import prints_only
from sync_server.access.audit import about, present_caller
from sync_server.api.asked import asked
from sync_server.api.body import into
from sync_server.api.caller import check_team
from sync_server.api.replies import body_of, json_reply
from sync_server.api.rooms import CLOCK, HOT_KEEPER, REGISTRY, SETTINGS, STORE
from sync_server.api.route import Query, Route
from sync_server.errors import ROW_CODES, Problem
from sync_server.features.membership import member_id
from sync_server.features.values import RowFault
from sync_server.sync.hot_keeping import Gathering
from sync_server.sync.hot_set import WEIGHTS, Candidate, Reason, Verdict, choose

PATH = "/v1/hot-set"


@prints_only("view")
class Importance(msgspec.Struct, forbid_unknown_fields=True):
    """What is important, 0 to 1: a whole view, or one entity in it. Null: as if nobody had said anything."""

    view: str
    importance: Annotated[float, msgspec.Meta(ge=0, le=1)] | None
    entity: str | None = None


class ScoreWeights(msgspec.Struct):
    """How the parts of a score are weighed, and what being in already is worth."""

    importance: float
    use: float
    freshness: float
    margin: float


@prints_only("rank", "view", "bytes", "score", "hot", "reason")
class RankedRow(msgspec.Struct):
    """A row that belongs in the channel, and what would become of it now."""

    rank: int
    """From 1, best first."""
    entity: str
    view: str
    """Its key, `name@version`."""
    bytes: int
    """Of its id and payload."""
    score: float
    importance: float
    use: float
    freshness: float
    is_in: bool
    """Whether it stands in the channel."""
    hot: bool
    """Whether it would now."""
    reason: Reason


class HotSet(msgspec.Struct):
    """A channel, its budget, and one page of its ranking."""

    channel: str
    budget_bytes: int
    bytes: int
    """Of the rows that stand in it."""
    rows: int
    kept_out: int
    """Rows that belong in it and have no room."""
    weights: ScoreWeights
    ranking: list[RankedRow]
    next: int | None
    """What to name as `after` for the next page; null: this was the last."""


async def explain(request: web.Request) -> web.Response:
    """The rows that belong in a channel, best first, with their scores and what would become of them now."""
    channel, after, limit = asked(request, "channel", ""), asked(request, "after", 0), _page_rows(request)
    settings, store = request.app[SETTINGS], request.app[STORE]
    now_us = request.app[CLOCK].now_us()
    with store.read() as tx:
        size, scene = tx.channel_size(channel), request.app[HOT_KEEPER].scene(tx, now_us)
    candidates: list[Candidate] = []
    gathering = Gathering(channel, settings.write_chunk_rows)
    while True:
        with store.read() as tx:
            rows = gathering.read(tx)
        if rows is None:
            break
        candidates += map(scene.candidate, rows)
        await asyncio.sleep(0)  # denials and sessions get their turn between two pages
    budget_bytes = settings.hot_channel_bytes
    ranked = await asyncio.to_thread(choose, candidates, budget_bytes, now_us)
    page = [*enumerate(ranked[after : after + limit], after + 1)]
    ours = _views_of_the_caller(request)
    return json_reply(
        HotSet(
            channel,
            budget_bytes,
            bytes=size.bytes,
            rows=len(ranked) - size.demoted,
            kept_out=size.demoted,
            weights=_weights(),
            ranking=[
                _told(number, v) for number, v in page if ours is None or v.ranked.candidate.view in ours
            ],
            next=after + limit if after + limit < len(ranked) else None,
        )
    )


async def say_importance(request: web.Request) -> web.Response:
    """Set, change or forget an importance."""
    _, parsed = await body_of(request)
    said = into(parsed, Importance)
    try:
        view = request.app[REGISTRY].active.view(said.view)
    except MalformedRequest:
        raise Problem("unknown_view") from None
    if view.source != "server":
        raise Problem("unknown_view", "expected a view whose source is the server")
    check_team(view)
    entity = "" if said.entity is None else _entity(request, said.entity)
    with request.app[STORE].write("importance") as tx:
        limit = request.app[SETTINGS].importances
        if said.importance is not None and tx.count_importances() >= limit:
            known = tx.importances()
            if (view.key, entity) not in known:
                raise Problem("too_large", f"expected at most {limit} importances")
        about(f"view:{view.key}")
        tx.set_importance(view.key, entity, said.importance)
    return json_reply(Importance(view.key, said.importance, said.entity))


def _entity(request: web.Request, text: str) -> str:
    try:
        return member_id(text, request.app[REGISTRY].active.entities, request.app[SETTINGS].id_limit_bytes)
    except RowFault as fault:
        raise Problem("invalid_id", ROW_CODES[fault.code]) from None


def _views_of_the_caller(request: web.Request) -> frozenset[str] | None:
    """Keys of the views whose rows the caller may see; None: of all. Ranks are those among all rows."""
    caller = present_caller()
    if caller.teams is None:
        return None
    views = request.app[REGISTRY].active.model.views.values()
    return frozenset(view.key for view in views if caller.may_touch(view.owner))


def _page_rows(request: web.Request) -> int:
    return request.app[SETTINGS].page_rows


def _weights() -> ScoreWeights:
    return ScoreWeights(WEIGHTS.importance, WEIGHTS.use, WEIGHTS.freshness, WEIGHTS.margin)


def _told(rank: int, verdict: Verdict) -> RankedRow:
    ranked, candidate = verdict.ranked, verdict.ranked.candidate
    return RankedRow(
        rank,
        candidate.entity,
        candidate.view,
        candidate.bytes,
        score=round(ranked.score, 6),
        importance=candidate.importance,
        use=round(ranked.use, 6),
        freshness=round(ranked.freshness, 6),
        is_in=candidate.held,
        hot=verdict.hot,
        reason=verdict.reason,
    )


Shared = Annotated[str, msgspec.Meta(min_length=1, max_length=512, pattern="^[^~]")]
Rank = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


ROUTES = (
    Route(
        "GET",
        PATH,
        explain,
        "Which rows a shared channel pushes within its byte budget, best first, and why.",
        "features",
        scope="publish",
        query=(
            Query("channel", "one that is shared: `all`, or `segment:<name>`", required=True, type=Shared),
            Query("after", "the rank of the last row of the page before", type=Rank),
        ),
        replies={200: "a page of the channel's ranking"},
        returns={200: HotSet},
        problems=("malformed_query",),
    ),
    Route(
        "PUT",
        PATH + "/importance",
        say_importance,
        "Say how important a view, or one entity in it, is to devices: 0 to 1, 0.5 where nothing is said.",
        "features",
        scope="publish",
        audit=True,
        body=Importance,
        example={"view": "item_stats", "entity": "item:85123A", "importance": 0.9},
        replies={200: "as it stands now"},
        returns={200: Importance},
        problems=("unknown_view", "other_team", "invalid_id", "no_catalog"),
    ),
)
