"""Which round a person means who types the beginning of its id."""

from __future__ import annotations

from sync_server.aggregates.documents import RoundBrief
from sync_server.client import Client


def named_round(server: Client, metric: str | None, prefix: str) -> RoundBrief:
    """The one round whose id begins with `prefix`; raises ValueError for none and for several."""
    found = [one for one in server.aggregates.rounds(metric) if one.round.startswith(prefix.lower())]
    if len(found) == 1:
        return found[0]
    of = "" if metric is None else f" of {metric}"
    count = f"{len(found)} begin so" if found else "there is none"
    raise ValueError(f"expected the id of one round{of}, or its beginning: {count}; see `aggregates rounds`")
