"""Which shared channels the app wishes for, or for none of: kept over restarts until it says otherwise."""

from __future__ import annotations

import threading
from typing import Final

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.errors import MalformedRequest
from edge_runtime.wire.printing import prints_only
from edge_runtime.wire.utf8 import utf8_size

NAME_LIMIT: Final = 512
_META: Final = "sync.channels"


@prints_only()
class _Stored(msgspec.Struct, frozen=True, array_like=True):
    follow: list[str]
    unfollow: list[str]


class Wishes:
    """Thread-safe.

    Args:
        first: channels to follow from the start, in this run only.
        limit: most channels wished for or against.
    """

    def __init__(self, database: Database, first: tuple[str, ...], limit: int) -> None:
        self._database, self._limit, self._lock = database, limit, threading.Lock()
        with database.read() as tx:
            raw = tx.meta(_META)
        stored = _Stored([], []) if raw is None else msgspec.msgpack.decode(raw, type=_Stored)
        self._follow: dict[str, None] = dict.fromkeys(stored.follow)
        self._unfollow: dict[str, None] = dict.fromkeys(stored.unfollow)
        self._first = tuple(channel for channel in first if channel not in self._unfollow)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Channels to follow besides those that the enrolment names and those held."""
        return tuple(dict.fromkeys((*self._first, *self._follow)))

    @property
    def unwanted(self) -> frozenset[str]:
        """Channels of which the app wants none, whoever names them."""
        return frozenset(self._unfollow)

    def follow(self, channel: str) -> None:
        """Wish for `channel`; durable when this returns.

        Raises `MalformedRequest`: not a shared channel's name, or too many; nothing changed.
        """
        self._wish(channel, follow=True)

    def unfollow(self, channel: str) -> None:
        """Wish against it; as `follow`."""
        self._wish(channel, follow=False)

    def _wish(self, channel: str, *, follow: bool) -> None:
        _check(channel)
        with self._lock:
            wished, other = dict(self._follow), dict(self._unfollow)
            into, out = (wished, other) if follow else (other, wished)
            into[channel] = None
            out.pop(channel, None)
            if max(len(wished), len(other)) > self._limit:
                raise MalformedRequest("channel", f"at most {self._limit} channels", "one more")
            with self._database.write("wish") as tx:
                tx.set_meta(_META, msgspec.msgpack.encode(_Stored(list(wished), list(other))))
            self._follow, self._unfollow = wished, other
            if not follow:
                self._first = tuple(c for c in self._first if c != channel)


def _check(channel: str) -> None:
    size = utf8_size(channel) if isinstance(channel, str) else None
    if size is None or not 0 < size <= NAME_LIMIT:
        raise MalformedRequest("channel", f"a name of 1 to {NAME_LIMIT} bytes", "something else")
    if channel.startswith("~"):
        raise MalformedRequest(
            "channel", "a shared channel; a consent opens a subject's own", "a personal one"
        )
