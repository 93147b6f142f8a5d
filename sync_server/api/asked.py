"""Query parameters: read by the types that the document shows, before a door sees them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web

from edge_runtime.wire.utf8 import utf8_size
from sync_server.api.rooms import ROUTES, SETTINGS
from sync_server.api.route import Query, Route
from sync_server.errors import Problem

T = TypeVar("T")

_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")


def route_of(request: web.Request) -> Route | None:
    """The route that answers; None: there is no such path, or not with this method."""
    resource = request.match_info.route.resource
    return None if resource is None else request.app[ROUTES].get((request.method, resource.canonical))


def check_query(request: web.Request, route: Route) -> None:
    """Judge the query by the route's types, so that `asked` cannot fail.

    Raises `Problem("malformed_query")` for a parameter that the route does not have, that comes twice, is
    missing or does not fit its type. The detail names what was expected, never what came.
    """
    known = {query.name: query for query in route.query}
    if any(name not in known for name in request.query):
        names = ", ".join(f"`{name}`" for name in known)
        raise Problem("malformed_query", f"expected only {names}" if names else "expected no parameters")
    for query in route.query:
        if query.name in request.query:
            _check(request.query.getall(query.name), query)
        elif query.required:
            raise Problem("malformed_query", f"expected `{query.name}`: {query.text}")


def asked(request: web.Request, name: str, default: T) -> T:
    """A query parameter as its type reads it; `default` when the caller left it out."""
    route = route_of(request)
    assert route is not None
    wanted = next(query.type for query in route.query if query.name == name)
    text = request.query.get(name)
    value: Any = default if text is None else _read(text, wanted)
    found: T = value
    return found


LIMIT: Final = Query(
    "limit",
    "most items in the reply; the server may have a lower limit of its own",
    type=Annotated[int, msgspec.Meta(ge=1, le=10**9)],
)
"""Of routes that answer in pages."""


def page_limit(request: web.Request) -> int:
    """Most items of one page: what the caller wants, and never more than the server gives."""
    most = request.app[SETTINGS].page_rows
    return min(most, asked(request, LIMIT.name, most))


def _check(texts: Sequence[str], query: Query) -> None:
    if len(texts) > 1:
        raise Problem("malformed_query", f"expected `{query.name}` once")
    try:
        _read(texts[0], query.type)
    except (ValueError, msgspec.ValidationError):
        pass  # raised below, and so without the error that may quote a value
    else:
        return
    raise Problem("malformed_query", f"expected `{query.name}` as {_expectation(query)}")


def _read(text: str, wanted: Any) -> object:
    if utf8_size(text) is None:
        raise ValueError
    if not isinstance(_kind(wanted), msgspec.inspect.IntType):
        return msgspec.convert(text, wanted)
    if _WHOLE.fullmatch(text) is None:
        raise ValueError
    return msgspec.convert(int(text), wanted)


def _expectation(query: Query) -> str:
    match _kind(query.type):
        case msgspec.inspect.IntType(ge=least, le=most):
            limits = [f"at least {least}"] * (least is not None) + [f"at most {most}"] * (most is not None)
            return " and ".join(["a whole number", *limits])
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case msgspec.inspect.StrType(min_length=least, max_length=int() as most):
            return f"{least or 0} to {most} characters"
        case _:
            return f"described: {query.text}"


def _kind(wanted: Any) -> msgspec.inspect.Type:
    return msgspec.inspect.type_info(wanted)
