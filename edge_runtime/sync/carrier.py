"""What carries frames between a device and its server, and the ways in which that can end.

::

    SyncError
    ├── Unreachable   nobody answered, or something that is no server of ours and says nothing of the way
    ├── Blocked       whoever answered does not let this kind of session through
    └── Cut           it was open and ended without a word, or never said one
        └── Gone      and asking again is in vain

What the server itself says no to is a `SyncRefused`: a refusal is no fault of the way it came.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, Literal, Protocol

import msgspec

from edge_runtime.errors import SyncError, SyncRefused
from edge_runtime.wire.refusal import CODES

Way = Literal["websocket", "poll"]
Spend = Callable[[int], None]
"""Called with the bytes that went over the network, overhead estimated."""

BODY_LIMIT_BYTES: Final = 64 * 1024
"""Of a problem document; more is not read."""
RETRY_AFTER_MOST_S: Final = 86_400
_PROBLEM: Final = "application/problem+json"
_OURS: Final = frozenset({"session_closed", "poll_replaced", "poll_out_of_order"})


class Unreachable(SyncError):
    """No session came about, and the way is not to blame."""


class Blocked(SyncError):
    """Something in between does not let this kind of session through."""


class Cut(SyncError):
    """The connection ended, or fell silent, without a word of why."""


class Gone(Cut):
    """Whoever answers knows nothing of this session any more."""


class Carrier(Protocol):
    """One session's frames, both ways."""

    @property
    def steady(self) -> bool:
        """Whether nothing is known to be wrong just now."""
        ...

    async def receive(self, patience_us: int) -> bytes | None:
        """The next frame; None for a sign of life without one.

        Raises `Cut` after a silence of `patience_us` and at the end; `SyncRefused`; `WireFailure` for what
        can be no frame.
        """
        ...

    async def send(self, frames: Sequence[bytes]) -> None:
        """Take `frames` in their order. Raises `Cut`."""
        ...

    async def part(self, frame: bytes) -> None:
        """Send a last word, if it still goes; never raises for the network's sake."""
        ...


class Network(Protocol):
    """Opens carriers."""

    def open(self, way: Way, spend: Spend) -> AbstractAsyncContextManager[Carrier]:
        """A new carrier to the server, closed at the end of the block.

        Raises `Unreachable`, `Blocked`, `Cut` or `SyncRefused`.
        """
        ...


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""


def no_session(status: int, content_type: str, headers: dict[str, str], body: bytes | None) -> SyncError:
    """What an HTTP answer means where a session was expected.

    Args:
        headers: `Retry-After` and `Date`, as far as they came.
        body: of the answer; None when nobody could read it.
    """
    code = _code(body) if content_type == _PROBLEM else ""
    asked_us = _retry_after_us(headers)
    if code in _OURS:
        return Gone(f"the session is gone: {code}")
    if code in CODES:
        return SyncRefused(code, retry_after_us=asked_us)
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        return SyncRefused("overloaded", retry_after_us=asked_us)
    told = f"the server answered {status} where a session was expected"
    refused_by_server = content_type == _PROBLEM and status != HTTPStatus.UPGRADE_REQUIRED
    if refused_by_server or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unreachable(told)
    return Blocked(told)


def _code(body: bytes | None) -> str:
    try:
        return "" if body is None else msgspec.json.decode(body, type=_Problem).code
    except (msgspec.DecodeError, UnicodeError):
        return ""


def _retry_after_us(headers: dict[str, str]) -> int:
    """Seconds, or a date beside the answer's own `Date`: this device's clock may be wrong."""
    text = headers.get("Retry-After", "")
    if text.isascii() and text.isdecimal():
        seconds = int(text[:9])
    else:
        try:
            until, now = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("Date", ""))
            seconds = round((until - now).total_seconds())
        except (ValueError, TypeError, OverflowError):
            return 0
    return max(0, min(seconds, RETRY_AFTER_MOST_S)) * 1_000_000
