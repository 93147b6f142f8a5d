"""One row of the route table: what the app serves and what the OpenAPI document says, from the same words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


Scope = Literal["publish", "consent", "analyst", "operator", "device-admin"]
"""What a token is for; a route asks for one."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter."""

    name: str
    text: str
    required: bool = False


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
    open: bool = False
    """True: no bearer token is asked for."""
    body: type | None = None
    """Type of the JSON body: a msgspec Struct, or `dict` for an object that its room checks."""
    parts: tuple[type, ...] = ()
    """Types of what stands inside the body."""
    media: str = ""
    """Media type of a body that is bytes, not JSON."""
    query: tuple[Query, ...] = ()
    headers: tuple[Query, ...] = ()
    """Headers that it reads."""
    anything: bool = False
    """The path's last parameter takes any text, slashes and braces too."""
    idempotent: bool = False
    """Takes an `Idempotency-Key`."""
    replies: dict[int, str] = field(default_factory=lambda: {200: "as described"})
    returns: dict[int, type] = field(default_factory=dict)
    """Status -> type of the JSON reply."""
    problems: tuple[str, ...] = ()
    """Codes of `errors.PROBLEMS` that are this door's own."""

    @property
    def pattern(self) -> str:
        """The path as the router takes it."""
        return f"{self.path[:-1]}:(?s:.+)}}" if self.anything else self.path
