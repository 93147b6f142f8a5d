"""`/v1/segments`: which entities belong to which segment. Their rows move between channels with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web

from edge_runtime.wire.printing import prints_only
from sync_server.access.audit import about
from sync_server.api.asked import asked
from sync_server.api.body import into
from sync_server.api.caller import check_teamless
from sync_server.api.replies import body_of, json_reply
from sync_server.api.rooms import BUSY, CLOCK, REGISTRY, SETTINGS, STORE
from sync_server.api.route import Query, Route
from sync_server.errors import ROW_CODES, Problem
from sync_server.features.incoming import SEGMENT_NAME, segment_name
from sync_server.features.membership import SegmentLimits, change_segments, member_id, refusal
from sync_server.features.placing import Placing
from sync_server.features.values import RowFault

DOOR = "segments"
PATH = "/v1/segments"
ONE = PATH + "/{name}"
Ids = Annotated[list[Any], msgspec.Meta(extra_json_schema={"items": {"anyOf": [{"type": "string"}, {}]}})]
"""Judged one by one, so that a bad one does not sink the others."""


class Members(msgspec.Struct, forbid_unknown_fields=True):
    """All members: ids as rows are keyed (`item:85123A`; a composite key joined by `|`). None is personal."""

    members: Ids


class Regroup(msgspec.Struct, forbid_unknown_fields=True):
    """Who comes and who goes. An id in both lists goes."""

    add: Ids = []
    remove: Ids = []


class RefusedMember(msgspec.Struct):
    """Why the id at `index` of a list did not change."""

    list: Literal["members", "add", "remove"]
    index: int
    code: str
    reason: str


class Regrouped(msgspec.Struct):
    """What became of a segment."""

    segment: str
    count: int
    """Members now."""
    added: int
    removed: int
    refused: list[RefusedMember]


class SegmentPage(msgspec.Struct):
    """One page of a segment's members."""

    segment: str
    count: int
    """Of all members."""
    members: list[str]
    """In order, as rows are keyed."""
    next: str | None
    """What to name as `after` for the next page; null: this was the last."""


class SegmentSize(msgspec.Struct):
    """A segment and how many belong to it."""

    segment: str
    count: int


class SegmentList(msgspec.Struct):
    """One page of the segments that anybody belongs to, by name."""

    segments: list[SegmentSize]
    next: str | None
    """What to name as `after` for the next page; null: this was the last."""


@prints_only("list", "index", "joins")
class _Change(msgspec.Struct):
    """One id that comes or goes."""

    list: Literal["members", "add", "remove"]
    index: int
    entity: str
    joins: bool


async def put(request: web.Request) -> web.Response:
    """Replace the members: who is not named goes first, then who is named comes."""
    check_teamless()
    name = _named(request)
    _, parsed = await body_of(request)
    members = into(parsed, Members).members
    _check_count(request, members)
    async with _alone(request, name):
        good, refused = _checked(request, "members", members)
        wanted = {change.entity for change in good}
        gone = [e for e in _all_members(request, name) if e not in wanted]
        changes = [_Change("members", -1, entity, joins=False) for entity in gone]
        return await _change(request, name, [*changes, *good], refused)


async def post(request: web.Request) -> web.Response:
    """Let some come and others go."""
    check_teamless()
    name = _named(request)
    _, parsed = await body_of(request)
    regroup = into(parsed, Regroup)
    _check_count(request, [*regroup.add, *regroup.remove])
    async with _alone(request, name):
        gone, refused = _checked(request, "remove", regroup.remove)
        come, refused_too = _checked(request, "add", regroup.add)
        going = {change.entity for change in gone}
        come = [change for change in come if change.entity not in going]
        return await _change(request, name, [*gone, *come], [*refused, *refused_too])


async def show(request: web.Request) -> web.Response:
    """One page of members. A segment that nobody belongs to has none."""
    name, limit = _named(request), request.app[SETTINGS].page_rows
    with request.app[STORE].read() as tx:
        count = tx.segment_size(name)
        page = tx.segment_members(name, asked(request, "after", ""), limit)
    return json_reply(SegmentPage(name, count, list(page), page[-1] if len(page) == limit else None))


async def listing(request: web.Request) -> web.Response:
    """Segments that anybody belongs to."""
    limit = request.app[SETTINGS].page_rows
    with request.app[STORE].read() as tx:
        page = tx.segments(asked(request, "after", ""), limit)
    listed = [SegmentSize(name, members) for name, members in page]
    return json_reply(SegmentList(listed, page[-1][0] if len(page) == limit else None))


# ---- within ----------------------------------------------------------------------------------------------


async def _change(
    request: web.Request, name: str, changes: Sequence[_Change], refused: list[RefusedMember]
) -> web.Response:
    """Bring about the changes, some rows a transaction; a repeat after a kill brings about the rest."""
    limits, chunk = SegmentLimits.of(request.app[SETTINGS]), request.app[SETTINGS].write_chunk_rows
    now_us, counts = request.app[CLOCK].now_us(), {True: 0, False: 0}
    about(f"segment:{name}")
    waiting = iter(changes)
    change = next(waiting, None)
    while change is not None:
        with request.app[STORE].write("segment") as tx:
            placing, room = Placing(request.app[REGISTRY].active.model.views), chunk
            while change is not None and room > 0:
                joined, parted = ({name}, set[str]()) if change.joins else (set[str](), {name})
                code = refusal(tx, tx.segments_of(change.entity), joined, parted, limits)
                if code is not None:
                    refused.append(_refused(change.list, change.index, code))
                elif change_segments(tx, change.entity, joined, parted, now_us):
                    counts[change.joins] += 1
                    room -= placing.move_entity(tx, change.entity, now_us)
                room -= 1
                change = next(waiting, None)
        await asyncio.sleep(0)  # denials and sessions get their turn between two chunks
    with request.app[STORE].read() as tx:
        count = tx.segment_size(name)
    refused.sort(key=lambda r: (r.list, r.index))
    return json_reply(Regrouped(name, count, counts[True], counts[False], refused))


def _checked(
    request: web.Request, list_: Literal["members", "add", "remove"], ids: Sequence[object]
) -> tuple[list[_Change], list[RefusedMember]]:
    """The ids that may belong to a segment, each once, and the others with the reason."""
    entities = request.app[REGISTRY].active.entities
    limit_bytes = request.app[SETTINGS].id_limit_bytes
    good: dict[str, _Change] = {}
    refused: list[RefusedMember] = []
    for index, raw in enumerate(ids):
        try:
            entity = member_id(raw, entities, limit_bytes, going=list_ == "remove")
        except RowFault as fault:
            refused.append(_refused(list_, index, fault.code))
            continue
        good.setdefault(entity, _Change(list_, index, entity, joins=list_ != "remove"))
    return list(good.values()), refused


def _refused(list_: Literal["members", "add", "remove"], index: int, code: str) -> RefusedMember:
    return RefusedMember(list_, index, code, ROW_CODES[code])


def _all_members(request: web.Request, name: str) -> list[str]:
    settings, members = request.app[SETTINGS], list[str]()
    with request.app[STORE].read() as tx:
        while page := tx.segment_members(name, members[-1] if members else "", settings.page_rows):
            members += page
    return members


def _named(request: web.Request) -> str:
    try:
        return segment_name(request.match_info["name"])
    except RowFault:
        raise Problem("invalid_segment", ROW_CODES["invalid_segment"]) from None


def _check_count(request: web.Request, ids: Sequence[object]) -> None:
    limit = request.app[SETTINGS].segment_members
    if len(ids) > limit:
        raise Problem("too_large", f"expected at most {limit} ids")


@asynccontextmanager
async def _alone(request: web.Request, name: str) -> AsyncIterator[None]:
    """One change of a segment at a time: two that run in turns would leave a mixture."""
    busy, mark = request.app[BUSY], (DOOR, name)
    if mark in busy:
        raise Problem("segment_in_flight")
    busy.add(mark)
    try:
        yield
    finally:
        busy.discard(mark)


_CHANGED = {200: "how many belong to it now, how many came and went, and which ids were refused"}
_PLACES = {"name": Annotated[str, msgspec.Meta(pattern=SEGMENT_NAME)]}
_PROBLEMS = ("other_team", "invalid_segment", "segment_in_flight", "no_catalog")

ROUTES = (
    Route(
        "PUT",
        ONE,
        put,
        "Replace the members of a segment. Rows of its entities leave `all` for `segment:<name>`.",
        "features",
        scope="publish",
        audit=True,
        body=Members,
        example={"members": ["item:85123A", "item:22423"]},
        places=_PLACES,
        replies=_CHANGED,
        returns={200: Regrouped},
        problems=_PROBLEMS,
    ),
    Route(
        "POST",
        ONE,
        post,
        "Add and remove members of a segment. Each id changes or is refused by itself.",
        "features",
        scope="publish",
        audit=True,
        body=Regroup,
        example={"add": ["item:85123A"], "remove": ["item:22423"]},
        places=_PLACES,
        replies=_CHANGED,
        returns={200: Regrouped},
        problems=_PROBLEMS,
    ),
    Route(
        "GET",
        ONE,
        show,
        "The members of a segment, a page at a time.",
        "features",
        scope="publish",
        places=_PLACES,
        query=(Query("after", "the last id of the page before"),),
        replies={200: "a page of members"},
        returns={200: SegmentPage},
        problems=("invalid_segment",),
    ),
    Route(
        "GET",
        PATH,
        listing,
        "Segments that have members.",
        "features",
        scope="publish",
        query=(Query("after", "the last name of the page before"),),
        replies={200: "a page of segments"},
        returns={200: SegmentList},
    ),
)
