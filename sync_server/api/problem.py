"""A problem as an HTTP reply."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web

from sync_server.errors import Problem


def problem_reply(problem: Problem, headers: Mapping[str, str] | None = None) -> web.Response:
    """The RFC 9457 document of a problem; a 503 says when to come back, a 401 how to ask.

    Args:
        headers: others, or in place of these.
    """
    status, said = problem.reply.status, {}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        said["Retry-After"] = str(problem.extra.get("retry_after_s", 5))
    if status == HTTPStatus.UNAUTHORIZED:
        said["WWW-Authenticate"] = 'Bearer realm="edge-sync"'
    return web.Response(
        body=msgspec.json.encode(problem.document()),
        status=status,
        headers={**said, **(headers or {})},
        content_type="application/problem+json",
    )
