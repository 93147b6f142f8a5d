"""One request answered: token asked for, query judged, door called, problems told as documents."""

from __future__ import annotations

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler

from sync_server.access.audit import Call
from sync_server.api.asked import check_query
from sync_server.api.caller import let_in
from sync_server.api.problem import problem_reply
from sync_server.errors import Problem


async def answer(request: web.Request, handler: Handler, call: Call | None) -> web.StreamResponse:
    """The door's reply, or the problem that it or the guard found; other errors are the caller's.

    Args:
        call: None where no route answers: 404 for everybody, or 405.
    """
    try:
        if call is not None:
            await let_in(request, call)
            check_query(request, call.route)
        return await handler(request)
    except Problem as problem:
        if call is not None:
            call.code = problem.code
        return problem_reply(problem)
    except web.HTTPNotFound:
        return problem_reply(Problem("not_found"))
    except web.HTTPMethodNotAllowed as wrong:
        allowed = ", ".join(sorted(wrong.allowed_methods))
        return problem_reply(Problem("method_not_allowed"), {"Allow": allowed})


async def expect(request: web.Request) -> web.StreamResponse | None:
    """Answer `Expect: 100-continue`; anything else is expected in vain, and the body judged as it comes."""
    if request.version >= HttpVersion11 and request.headers["Expect"].lower() == "100-continue":
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None
