"""Who stands before the door: asked by the guard, and by handlers whose answer depends on it."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

from edge_runtime.catalog import View
from sync_server.access.audit import Call, present_caller
from sync_server.api.rooms import ACCESS
from sync_server.errors import Problem
from sync_server.store.protocol import ReadTx, WriteTx

_ID: Final = re.compile(r"[a-z]{2,8}-[a-z2-7]{16,40}")
"""What ids look like that this server made: nobody's name does."""


async def let_in(request: web.Request, call: Call) -> None:
    """Ask for the token that the route needs, before anything else is read; raises `Problem`."""
    given = request.match_info.get("id", "")
    if _ID.fullmatch(given):
        call.resource = given
    if call.route.open:
        return
    door = request.app[ACCESS].door
    headers = request.headers.getall("Authorization", [])
    call.caller = await door.who(headers[0] if len(headers) == 1 else None, request.remote)
    door.admit(call.caller, call.route)


def check_team(view: View) -> None:
    """Raises `Problem("other_team")` when the caller is bound to teams and none of them owns the view."""
    if not present_caller().may_touch(view.owner):
        raise Problem("other_team", "expected a view whose owner is a team of the token")


def check_teamless() -> None:
    """Raises `Problem("other_team")` for a caller bound to teams: segments move the rows of every team."""
    if present_caller().teams is not None:
        raise Problem("other_team", "segments move the rows of every team: expected a token without teams")


def check_recipient(name: str) -> None:
    """Raises `Problem("other_destination")` when the caller's token is bound, and not to this recipient."""
    bound = present_caller().destinations
    if bound is not None and name not in bound:
        raise Problem("other_destination", "expected a recipient to which the token is bound")


def check_delivery(tx: ReadTx | WriteTx, destination: str) -> None:
    """Raises `Problem("other_destination")` when the caller's token is bound, and neither to this stream or
    webhook nor to a recipient that is told by it. There or not, the answer is the same."""
    bound = present_caller().destinations
    if bound is not None and bound.isdisjoint((destination, *tx.recipients.of_destination(destination))):
        raise Problem("other_destination", "expected a stream or webhook to which the token is bound")
