"""What is said to bytes that are no HTTP request, or one with a head over the limit: a problem document.

aiohttp answers these itself, with a text that quotes what came, and logs the same. Callers put ids into paths
and queries, so here neither the reply nor the log repeats a byte of it.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from sync_server.api.fault import told
from sync_server.api.problem import problem_reply
from sync_server.errors import Problem
from sync_server.settings import Settings

log = logging.getLogger(__name__)


class Connection(web.RequestHandler):
    """A connection whose faults are told as problems."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer, and close the connection. Raises ConnectionError when a reply has begun already."""
        if status == HTTPStatus.BAD_REQUEST:
            log.info("bytes that are no request of ours: %s", type(exc).__name__)
        else:
            log.error("a fault of the server\n%s", "" if exc is None else told(exc))
        if request.writer.output_size > 0:
            raise ConnectionError("a reply has begun: the connection is closed")
        reply = problem_reply(self._problem(status, exc))
        reply.force_close()
        return reply

    def log_exception(self, *_: object, **named: object) -> None:
        """Types and places only; the message of an error may quote whoever was being served."""
        error = named.get("exc_info")
        log.error("a fault of a connection\n%s", told(error) if isinstance(error, BaseException) else "")

    def _problem(self, status: int, exc: BaseException | None) -> Problem:
        if status != HTTPStatus.BAD_REQUEST:
            return Problem("internal")
        if isinstance(exc, LineTooLong):
            limits = (
                f"a request line of at most {self.max_line_size} bytes and headers of {self.max_field_size}"
            )
            return Problem("malformed_request", f"expected {limits}")
        return Problem("malformed_request", "expected an HTTP/1.1 request")


class Runner(web.AppRunner):
    """aiohttp's runner with our connections."""

    __slots__ = ()

    @classmethod
    def of(cls, app: web.Application, settings: Settings, **more: Any) -> Runner:
        """With the limits of `settings`; `more` is aiohttp's."""
        limit = settings.head_limit_bytes
        return cls(app, max_line_size=limit, max_field_size=limit, **more)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **self._kwargs)


class _Server(web.Server):
    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)
