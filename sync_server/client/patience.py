"""Asking again: how long, how often, and after what."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sync_server.client.failure import Refused, Unreachable
from sync_server.clock import Waiter

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How a call that may be repeated is repeated. Times in seconds."""

    total_s: float = 60.0
    """No attempt begins later than this after the first."""
    first_s: float = 0.2
    """Longest pause before the second attempt; each next one may be twice as long."""
    most_s: float = 10.0


def again_and_again(attempt: Callable[[], T], patience: Patience, waiter: Waiter, rng: random.Random) -> T:
    """The result of the first attempt that is answered with something final.

    Between two stands a random part of the pause (so that many callers do not come at once), and at least
    what the server asked for. Only for requests that are the same thing when they come twice. Raises what
    the last attempt raised.
    """
    until_s, pause_s = waiter.now_s() + patience.total_s, patience.first_s
    while True:
        try:
            return attempt()
        except (Unreachable, Refused) as error:
            asked_s = _asked_s(error)
            if asked_s is None:
                raise
            wait_s = asked_s + rng.uniform(0.5, 1.0) * pause_s
            if waiter.now_s() + wait_s > until_s:
                raise
        waiter.wait(wait_s)
        pause_s = min(2 * pause_s, patience.most_s)


def _asked_s(error: Unreachable | Refused) -> float | None:
    """How long the server asked to wait at least; None: it is no use to ask again."""
    match error:
        case Refused(passes=True):
            return error.retry_after_s or 0.0
        case Refused():
            return None
        case Unreachable():
            return 0.0
