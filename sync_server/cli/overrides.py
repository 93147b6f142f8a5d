"""`--set NAME=VALUE`: limits of a server as words of a command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from edge_runtime.catalog.duration import parse_duration
from sync_server.settings import Settings

SIZES = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def overridden(settings: Settings, words: Iterable[str]) -> Settings:
    """`settings` with each `name=value`: a whole number, a duration for `_us`, a size for `_bytes`.

    Raises `ValueError` naming the word: unknown, not a limit, or not a number of 1 or more (0 where nothing
    is a choice: `drain_us`, `drain_notice_us`, `fanout_file_bytes`, `revocation_sessions`).

    >>> from pathlib import Path
    >>> overridden(Settings(Path("d")), ["drain_us=5s", "snapshots=8", "fanout_cache_bytes=1MiB"]).snapshots
    8
    """
    limits = {f.name: getattr(settings, f.name) for f in fields(settings)}
    limits = {name: value for name, value in limits.items() if type(value) is int}
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if name not in limits or not equals:
            raise ValueError(f"expected a setting as NAME=VALUE, got {word!r}; see docs/settings.md")
        value = _number(name, text)
        if value is None or value < (0 if name in NOTHING else 1):
            raise ValueError(f"expected a number of {0 if name in NOTHING else 1} or more for {name}")
        found[name] = value
    return replace(settings, **found)


NOTHING = frozenset({"drain_us", "drain_notice_us", "fanout_file_bytes", "revocation_sessions", "port"})
"""Settings that may be 0."""


def _number(name: str, text: str) -> int | None:
    if text.isascii() and text.isdecimal():
        return int(text)
    if name.endswith("_us"):
        return parse_duration(text)
    number, unit = text[:-3], text[-3:]
    if name.endswith("_bytes") and unit in SIZES and number.isascii() and number.isdecimal():
        return int(number) * SIZES[unit]
    return None
