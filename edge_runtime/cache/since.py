"""Since when the statistics of a state are known, where a later catalog added them.

A list of newest values that a later catalog made longer is known in two parts: its newest values since when
the list was, and what lies beyond those since the journal told them. Features that ask for no more than the
first part do not notice the second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from edge_runtime.session.identity import NAME_BYTES, Identity

Since = dict[bytes, int]
"""Part of a statistic -> since when every event is in it, microseconds UTC; what is whole has no entry."""

_ROOM_BYTES = 4


def part(name: bytes, beyond: int) -> bytes:
    """What a list of newest values holds beyond so many of them; beyond 0 a statistic as a whole."""
    return name + beyond.to_bytes(_ROOM_BYTES, "big") if beyond else name


def known_since(since: Since, needed: Collection[Identity]) -> int | None:
    """Since when all of `needed` is known; None for always."""
    found = [us for key, us in since.items() for one in needed if _in(key, one.name, one.room)]
    return max(found, default=None)


def within(since: Since, held: Iterable[Identity]) -> Since:
    """What of `since` is about statistics that are still held."""
    rooms = {one.name: one.room for one in held}
    names = ((key, key[:NAME_BYTES]) for key in since)
    return {key: since[key] for key, name in names if name in rooms and _in(key, name, rooms[name])}


def not_before(since: Since, held: Iterable[Identity], whole_us: int) -> Since:
    """The same, with nothing of `held` known before `whole_us`."""
    raised = {one.name: whole_us for one in held}
    return {key: max(since.get(key, 0), raised.get(key, 0)) for key in since.keys() | raised.keys()}


def _in(key: bytes, name: bytes, room: int) -> bool:
    """Whether a statistic of this name and room holds any of a part."""
    beyond = int.from_bytes(key[NAME_BYTES:], "big")
    return key[:NAME_BYTES] == name and (not beyond or beyond < room)
