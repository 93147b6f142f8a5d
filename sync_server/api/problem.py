"""A problem as an HTTP reply."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from sync_server.api.remedies import REMEDIES
from sync_server.errors import Problem

PROBLEM_MEDIA: Final = "application/problem+json"


class Fault(msgspec.Struct):
    """One fault of a catalog."""

    place: str
    reason: str


class ProblemDocument(msgspec.Struct, omit_defaults=True):
    """An RFC 9457 problem document. What helps against one code only stands beside the common members."""

    type: str
    """`urn:edge-sync:problem:` and the code."""
    title: str
    """What the code means."""
    status: int
    code: str
    """One of the codes on this page; programs decide by it."""
    detail: str = ""
    """What was expected, and where, or what to do about it. Never what came."""
    faults: list[Fault] = []
    """`invalid_catalog`: every fault with its place; `registry_rollback`: where it protects less."""
    fingerprint: str = ""
    """`catalog_conflict`: of the content that is registered."""
    state: str = ""
    """`not_completed`: how far it has come."""
    retry_after_s: int = 0
    """`overloaded`, `rate_limited`: seconds after which to try again."""
    scope: str = ""
    """`missing_scope`: the scope that a token needs here."""


def problem_reply(problem: Problem, headers: Mapping[str, str] | None = None) -> web.Response:
    """The RFC 9457 document of a problem; what passes says when to come back, a 401 how to ask.

    Args:
        headers: others, or in place of these.
    """
    status, said = problem.reply.status, {}
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        said["Retry-After"] = str(problem.extra.get("retry_after_s", 5))
    if problem.code == "request_in_flight":
        said["Retry-After"] = "1"
    if status == HTTPStatus.UNAUTHORIZED:
        said["WWW-Authenticate"] = 'Bearer realm="edge-sync"'
    return web.Response(
        body=msgspec.json.encode({"detail": REMEDIES[problem.code], **problem.document()}),
        status=status,
        headers={**said, **(headers or {})},
        content_type=PROBLEM_MEDIA,
    )
