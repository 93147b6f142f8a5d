"""What an access log may say of a request: its route, never its path or query, which callers fill with ids.

`serve` writes no access log. A runner of somebody else's writes aiohttp's by default, with the whole request
line in it; `guard` puts this one in its place on every connection.
"""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger


class RouteLog(AbstractAccessLogger):
    """Method, route (`/v1/devices/{id}`), status, bytes and seconds of each request."""

    @property
    def enabled(self) -> bool:
        """Whether anybody listens."""
        return self.logger.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """One line; `-` stands for a path that is none of ours."""
        told = (request.method, _route(request), response.status, response.body_length, time)
        self.logger.info("%s %s %d %d %.6f", *told)


def keep_names_out(request: web.Request) -> None:
    """Have this connection's requests logged by route, where they are logged at all."""
    connection = request.protocol
    if connection.access_log is not None and not isinstance(connection.access_logger, RouteLog):
        connection.access_logger = RouteLog(connection.access_log, "")


def _route(request: web.BaseRequest) -> str:
    resource = request.match_info.route.resource if isinstance(request, web.Request) else None
    return "-" if resource is None else resource.canonical
