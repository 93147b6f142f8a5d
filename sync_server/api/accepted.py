"""Which form of a reply the caller wants: the `Accept` header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from aiohttp import web

from sync_server.errors import Problem

_RANGE = re.compile(r"([^\s;/]+)/([^\s;/]+)\s*((?:;.*)?)")
_WEIGHT = re.compile(r";\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*(?=;|$)", re.IGNORECASE)


def accepted(request: web.Request, offered: Sequence[str]) -> str:
    """Of the media types `offered`, in our own order of liking, the one that the caller likes best.

    Without the header, and for what nobody can read in it, the first. Raises `Problem("not_acceptable")` when
    the caller takes none of them.
    """
    ranges = [*_ranges(",".join(request.headers.getall("Accept", ())))]
    if not ranges:
        return offered[0]
    best = max(offered, key=lambda kind: _weight(kind, ranges))  # the first of equals
    if _weight(best, ranges) > 0:
        return best
    raise Problem("not_acceptable", f"expected an Accept that takes {' or '.join(offered)}")


def _ranges(text: str) -> Iterator[tuple[str, str, float]]:
    """(type, subtype, weight) of each range; parameters besides the weight say nothing here."""
    for part in text.lower().split(","):
        if (found := _RANGE.fullmatch(part.strip())) is not None:
            weight = _WEIGHT.search(found[3])
            yield found[1], found[2], 1.0 if weight is None else float(weight[1])


def _weight(kind: str, ranges: Sequence[tuple[str, str, float]]) -> float:
    """How much the caller likes `kind`: the most exact range that it falls under decides."""
    type_, subtype = kind.split("/")
    for wanted in ((type_, subtype), (type_, "*"), ("*", "*")):
        weights = [weight for *range_, weight in ranges if tuple(range_) == wanted]
        if weights:
            return max(weights)
    return 0.0
