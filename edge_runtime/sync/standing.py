"""How fresh a device is, in one word and with the reason. Pure: facts in, verdict out."""

from __future__ import annotations

from typing import Literal, NamedTuple

from edge_runtime.errors import EdgeError

LinkState = Literal["fresh", "stale", "locked", "diverged"]


class Standing(NamedTuple):
    """A state and why; the reason of `fresh` is empty. Nothing personal in it."""

    state: LinkState
    reason: str


class Facts(NamedTuple):
    """What a link knows of itself at one moment."""

    diverged: int
    """Channels that could not be repaired."""
    locked: str
    """Why consented features are locked; empty while a lease runs."""
    paused: bool
    lean: bool
    """The byte budget is spent."""
    connected: bool
    steady: bool
    """The connection is not known to be in trouble."""
    caught_up: bool
    trouble: EdgeError | None
    """Why the last session ended."""


def judge(facts: Facts) -> Standing:
    """The worst that is true: `diverged`, `locked`, `stale`, and only then `fresh`."""
    if facts.diverged:
        return Standing("diverged", f"channels that could not be repaired: {facts.diverged}")
    if facts.locked:
        return Standing("locked", facts.locked)
    if facts.paused:
        return Standing("stale", "paused by the app")
    if not facts.connected:
        return Standing("stale", "not connected" if facts.trouble is None else str(facts.trouble))
    if not facts.steady:
        return Standing("stale", "the server's answer is overdue: asking again")
    if facts.lean:
        return Standing("stale", "the byte budget is spent: only decisions, leases and receipts flow")
    return Standing("fresh", "") if facts.caught_up else Standing("stale", "catching up")
