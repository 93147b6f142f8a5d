"""What the OpenAPI document promises of replies, and whether one keeps it.

Every reply of every `ShopServer` is asked. Stricter than the document: a member that it does not name is a
fault too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jsonschema_rs
from aiohttp import web

from sync_server.api import rooms
from sync_server.api.asked import route_of
from sync_server.api.openapi import openapi
from sync_server.api.route import Route

OF_HTTP = frozenset({"content-type", "content-length", "date", "server", "connection", "transfer-encoding"})
"""Headers of which HTTP itself speaks."""
NO_ROUTE = {404: "not_found", 405: "method_not_allowed"}
"""Status -> code, where no route answers."""


class Promises:
    """The document of `routes`, asked reply by reply."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.document = openapi(routes)
        self._components = copy.deepcopy(self.document["components"])
        for schema in self._components["schemas"].values():
            _close(schema)
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}

    def faults(self, request: web.Request, reply: web.StreamResponse) -> Iterator[str]:
        """Everything in which `reply` is not as promised. Quotes no value."""
        route = route_of(request)
        if route is None:
            if reply.status not in NO_ROUTE or reply.content_type != "application/problem+json":
                yield f"{request.method} of no route: {reply.status} {reply.content_type}"
            return
        where = f"{route.method} {route.path}: {reply.status}"
        promised = self.document["paths"][route.path][route.method.lower()]["responses"].get(
            str(reply.status)
        )
        if promised is None:
            yield f"{where} is not documented"
            return
        yield from _header_faults(where, promised.get("headers", {}), reply.headers)
        body = reply.body if isinstance(reply, web.Response) else None
        yield from self._body_faults(where, promised.get("content", {}), reply.content_type, body)

    def _body_faults(self, where: str, content: Mapping[str, Any], kind: str, body: object) -> Iterator[str]:
        if not content:
            if body:
                yield f"{where} has a body"
            return
        if kind not in content:
            yield f"{where} is {kind}, not {' or '.join(content)}"
            return
        schema = content[kind].get("schema")
        if schema is None:
            return
        assert isinstance(body, bytes)
        for error in self._validator(where, schema).iter_errors(json.loads(body)):
            rule, place = error.schema_path[-1], "/".join(map(str, error.instance_path))
            yield f"{where}: {rule} does not hold at /{place}"

    def _validator(self, where: str, schema: Any) -> jsonschema_rs.Draft202012Validator:
        if where not in self._validators:
            whole = {"components": self._components, "allOf": [schema]}
            self._validators[where] = jsonschema_rs.Draft202012Validator(whole)
        return self._validators[where]


_MADE: dict[frozenset[tuple[str, str]], Promises] = {}


def promises_of(app: web.Application) -> Promises:
    """Those of a server; made once for all servers whose routes have the same methods and paths."""
    routes = app[rooms.ROUTES]
    if frozenset(routes) not in _MADE:
        _MADE[frozenset(routes)] = Promises(tuple(routes.values()))
    return _MADE[frozenset(routes)]


def _header_faults(where: str, promised: Mapping[str, Any], told: Mapping[str, str]) -> Iterator[str]:
    known, names = {name.lower() for name in promised}, {name.lower() for name in told}
    yield from (f"{where} has the header {name}" for name in sorted(names - known - OF_HTTP))
    for name, header in promised.items():
        if header["required"] and name.lower() not in names:
            yield f"{where} lacks the header {name}"


def _close(schema: Any) -> None:
    """Let no object have a member that is not named."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            _close(part)
    elif isinstance(schema, list):
        for part in schema:
            _close(part)
