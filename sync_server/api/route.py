"""One row of the route table: what the app serves and what the OpenAPI document says, from the same words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


BODILESS = frozenset({101, 204, 304})
"""Statuses of replies that have no body."""

Scope = Literal["publish", "consent", "analyst", "operator", "device-admin"]
"""What a token is for; a route asks for one."""


Name = Annotated[str, msgspec.Meta(min_length=1)]
"""A path parameter of which nothing else is said."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter, or a header that is read."""

    name: str
    text: str
    required: bool = False
    type: Any = str
    """A msgspec type with its limits. Queries that do not fit it are refused before the handler is called;
    headers are judged by their door."""


@dataclass(frozen=True, slots=True)
class Told:
    """A header of a reply."""

    name: str
    text: str
    always: bool = True


@dataclass(frozen=True, slots=True)
class Link:
    """A reply names something that another route shows."""

    method: str
    path: str
    parameter: str
    """The path parameter there."""
    source: str
    """Where its value stands in this reply: a runtime expression, `$response.body#/id`."""


@dataclass(frozen=True, slots=True)
class Route:
    """A door: verb, path, handler, and what it promises."""

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    """Heading under which it stands in the docs."""
    scope: Scope | None = None
    """Which scope a token needs; None: a token is not needed, or anyone's will do."""
    receivers: bool = False
    """Takes tokens too that are bound to destinations; its handler asks whether to this one."""
    open: bool = False
    """True: no bearer token is asked for."""
    audit: bool | None = None
    """Whether each call is kept in the audit log; None: as `audited` says."""
    body: type | None = None
    """Type of the JSON body: a msgspec Struct, or `dict` for an object that its room checks."""
    body_needed: bool = True
    """False: without a body every field has its default."""
    example: Any = field(default=None, repr=False)
    """A body that is taken."""
    parts: tuple[type, ...] = ()
    """Types of what stands inside the body."""
    media: str = ""
    """Media type of a body that is bytes, not JSON."""
    places: Mapping[str, Any] = field(default_factory=dict)
    """Path parameter -> msgspec type of it, where more is known than that it is not empty. It says what can
    be found there; anything else is simply not found."""
    query: tuple[Query, ...] = ()
    headers: tuple[Query, ...] = ()
    """Headers that it reads."""
    anything: bool = False
    """The path's last parameter takes any text, slashes and braces too."""
    idempotent: bool = False
    """Takes an `Idempotency-Key`."""
    keyed: bool = False
    """Besides, answers nothing without one."""
    replies: Mapping[int, str] = field(default_factory=lambda: {200: "as described"})
    returns: Mapping[int, type | UnionType] = field(default_factory=dict)
    """Status -> type of the JSON reply: a msgspec Struct, or `dict` for a document whose form is said
    elsewhere. Every status of `replies` stands here or in `gives`, or has no body (see `BODILESS`)."""
    gives: Mapping[int, str | tuple[str, ...]] = field(default_factory=dict)
    """Status -> media type or types of a reply that is not JSON, or not only."""
    tells: Mapping[int, tuple[Told, ...]] = field(default_factory=dict)
    """Status -> headers of that reply that a caller needs."""
    tells_all: tuple[Told, ...] = ()
    """Headers of every reply, problems too."""
    links: Mapping[int, tuple[Link, ...]] = field(default_factory=dict)
    """Status -> where that reply leads."""
    problems: tuple[str, ...] = ()
    """Codes of `errors.PROBLEMS` that are this door's own."""

    @property
    def audited(self) -> bool:
        """Whether each call is kept in the audit log: those that need a scope, except publishing."""
        return self.scope not in (None, "publish") if self.audit is None else self.audit

    @property
    def pattern(self) -> str:
        """The path as the router takes it."""
        return f"{self.path[:-1]}:(?s:.+)}}" if self.anything else self.path
