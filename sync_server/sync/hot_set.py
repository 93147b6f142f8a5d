"""Which rows a channel pushes when its byte budget is too small for all of them. Pure, and says why.

A row's score lies in 0..1, and a little above for one that is in already (`margin`)::

    (w_i * importance + w_u * use / (use + half_use) + w_f * freshness) / (w_i + w_u + w_f)

- *importance*, 0..1: said by whoever owns the data; 0.5 where nobody said anything.
- *use*: publishes and fetches that the server saw, each counting half after every half-life.
- *freshness*: what is left of the row's ttl, 1 to 0; without a ttl, half after every `fresh_half_life_us`.

A row past its ttl scores 0: no device may use it. Rows are taken in order of score until one does not fit,
and none after it: so a larger budget never drops a row, as a greedy that skips would, and less than one row
of it is wasted. The margin keeps a row in while another is only a little better: nothing flaps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from edge_runtime.wire.printing import prints_only
from sync_server.settings import DAY_US

Reason = Literal["within the budget", "the budget is full", "past its ttl"]

ORDINARY: Final = 0.5
"""Importance of a row of which nobody said anything."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How the parts are weighed. Times in microseconds."""

    importance: float = 0.4
    use: float = 0.4
    freshness: float = 0.2
    half_use: float = 4.0
    """A use of this much scores half of what use can."""
    fresh_half_life_us: int = 30 * DAY_US
    """Of the freshness of a row without a ttl."""
    margin: float = 0.05
    """What being in is worth."""


WEIGHTS: Final = Weights()


@prints_only("view", "bytes", "importance", "use", "ttl_us", "held")
@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that belongs in a channel."""

    entity: str
    view: str
    """The view's key, `name@version`."""
    bytes: int
    """Of its id and payload."""
    importance: float
    use: float
    """Publishes and fetches, decayed to now."""
    event_time_us: int
    ttl_us: int
    """0: for ever."""
    held: bool
    """Whether it is in now."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its score and the parts of it, each 0..1."""

    candidate: Candidate
    score: float
    use: float
    freshness: float

    @property
    def order(self) -> tuple[float, int, str, str]:
        """Best first; of equals the smaller, then by name: no order of arrival decides."""
        return -self.score, self.candidate.bytes, self.candidate.entity, self.candidate.view


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a row is in, and why."""

    ranked: Ranked
    hot: bool
    reason: Reason


def decayed(use: float, used_us: int, now_us: int, half_life_us: int) -> float:
    """A count that stood at `use` when it was `used_us`, as it stands now. A clock set back decays nothing.

    >>> decayed(8.0, 0, 2 * DAY_US, DAY_US)
    2.0
    """
    age_us = max(now_us - used_us, 0)
    return float(use * 2.0 ** -(age_us / half_life_us))


def rank(candidate: Candidate, now_us: int, weights: Weights = WEIGHTS) -> Ranked:
    """The candidate with its score."""
    used = candidate.use / (candidate.use + weights.half_use)
    fresh = _freshness(candidate, now_us, weights)
    if fresh == 0 and candidate.ttl_us:
        return Ranked(candidate, 0.0, used, 0.0)
    parts = weights.importance * candidate.importance + weights.use * used + weights.freshness * fresh
    score = parts / (weights.importance + weights.use + weights.freshness)
    return Ranked(candidate, score + (weights.margin if candidate.held else 0.0), used, fresh)


class Cut:
    """Takes ranked rows, best first, until the budget is full."""

    def __init__(self, budget_bytes: int) -> None:
        self._left, self._full = budget_bytes, False

    def take(self, ranked: Ranked) -> Verdict:
        """Whether the next row is in."""
        if ranked.score == 0 and ranked.freshness == 0 and ranked.candidate.ttl_us:
            return Verdict(ranked, hot=False, reason="past its ttl")
        self._full = self._full or ranked.candidate.bytes > self._left
        if self._full:
            return Verdict(ranked, hot=False, reason="the budget is full")
        self._left -= ranked.candidate.bytes
        return Verdict(ranked, hot=True, reason="within the budget")


def choose(
    candidates: Iterable[Candidate], budget_bytes: int, now_us: int, weights: Weights = WEIGHTS
) -> list[Verdict]:
    """Who is in, best first, with the reason; never more than `budget_bytes`.

    >>> old = Candidate("item:a", "v@1", 60, 0.5, 0.0, 0, 0, held=True)
    >>> used = Candidate("item:b", "v@1", 60, 0.5, 9.0, 0, 0, held=False)
    >>> [(v.ranked.candidate.entity, v.hot) for v in choose([old, used], 100, 0)]
    [('item:b', True), ('item:a', False)]
    """
    cut = Cut(budget_bytes)
    return [cut.take(one) for one in sorted((rank(c, now_us, weights) for c in candidates), key=_order)]


def _order(ranked: Ranked) -> tuple[float, int, str, str]:
    return ranked.order


def _freshness(candidate: Candidate, now_us: int, weights: Weights) -> float:
    age_us = max(now_us - candidate.event_time_us, 0)
    if candidate.ttl_us:
        return max(1.0 - age_us / candidate.ttl_us, 0.0)
    return float(2.0 ** -(age_us / weights.fresh_half_life_us))
