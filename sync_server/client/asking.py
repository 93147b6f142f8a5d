"""What the families of calls ask with, and how they read one document or a list in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from sync_server.client.connection import path_of

T = TypeVar("T")


class Page(Protocol):
    """A part of a list."""

    @property
    def next(self) -> str | int | None:
        """`after` of the page behind it; None: this is the last."""
        ...


P = TypeVar("P", bound=Page)


class Asking(Protocol):
    """What it asks with; see `Client`."""

    def ask(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> bytes: ...

    def patiently(self, attempt: Callable[[], T]) -> T: ...


def got(client: Asking, path: str, kind: type[T]) -> T:
    """The document at `path`, asked for until an answer comes."""
    return msgspec.json.decode(client.patiently(lambda: client.ask("GET", path)), type=kind)


def pages(
    client: Asking,
    where: Sequence[str],
    kind: type[P],
    *,
    after: str | int | None = None,
    **query: str | int | None,
) -> Iterator[P]:
    """Page after page, from `after` on, until the last says so."""
    while True:
        page = got(client, path_of(*where, after=after, **query), kind)
        yield page
        if page.next is None:
            return
        after = page.next
