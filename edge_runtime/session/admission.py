"""What becomes of an event, and the memory of one view for one entity.

Judged for each view and entity apart, in this order:

1. DUPLICATE: its id is known, from an event at most `dedup_horizon` behind the edge. The first content wins.
2. WAITING: it lies ahead of now. It is kept, with its id, until its time comes, and counts as accepted.
3. LATE: it lies more than `allowed_lateness` behind the edge.
4. ACCEPTED.

The *edge* is min(newest, now): a clock set back does not make honest events late, and a stream of the past is
judged by its own time. Where nothing was seen yet, nothing is late.

Full things: at most `WAITING_LIMIT` events wait, one more is malformed (its sender's clock is not ours). At
most `KNOWN_IDS_LIMIT` ids are known; when more lie within the horizon, the oldest quarter is forgotten and
what lies before them is LATE from then on, so that nothing can be counted twice.
"""

from __future__ import annotations

from enum import IntEnum

from edge_runtime.errors import MalformedEvent
from edge_runtime.session.event import Event

NEVER = -(1 << 62)
"""Stands for "no such time" in states, before every event."""
WAITING_LIMIT = 1024
KNOWN_IDS_LIMIT = 65_536
FEW_IDS = 8
"""Not worth going through: so many may stay when they lie behind the horizon."""


class Admission(IntEnum):
    """What `track` says of an event. `WAITING` is told to callers as `ACCEPTED`."""

    ACCEPTED = 0
    DUPLICATE = 1
    LATE = 2
    NO_CONSENT = 3
    """Set by the runtime: no view that the event feeds may be used."""
    WAITING = 4
    NO_ROOM = 5
    """Set by the runtime: the disk takes nothing, and memory holds all it may. Nothing changed."""


class Waiting:
    """One event ahead of its time, ordered by (time, id)."""

    __slots__ = ("at_us", "event", "event_id")

    def __init__(self, event: Event, event_id: str) -> None:
        self.at_us, self.event_id, self.event = event.at_us, event_id, event

    @property
    def order(self) -> tuple[int, str]:
        """Its place among all events: time, then id (code points order as UTF-8 bytes do)."""
        return self.at_us, self.event_id


class ViewState:
    """What one session view remembers of one entity. Plain data; made by `ViewPlan.new_state`.

    `cells` are the operators' slots, laid out by the plan. `previous` is what came before a silence longer
    than the retention: (newest, oldest, cells), kept only while a late event may still bridge the silence.
    """

    __slots__ = ("cells", "floor_us", "ids", "newest", "oldest", "previous", "prune_us", "waiting")

    def __init__(self, cells: list[object]) -> None:
        self.cells = cells
        self.newest = NEVER
        self.oldest = NEVER
        self.floor_us = NEVER
        self.prune_us = NEVER
        self.ids: dict[str, int] = {}
        self.waiting: list[Waiting] = []
        self.previous: tuple[int, int, list[object]] | None = None

    @property
    def newest_us(self) -> int | None:
        """Time of the newest applied event; None where there is none."""
        return None if self.newest == NEVER else self.newest

    @property
    def oldest_us(self) -> int | None:
        """Time of the oldest event that still counts; None where there is none."""
        return None if self.oldest == NEVER else self.oldest


def judge(
    state: ViewState, event_id: str, at_us: int, now_us: int, *, lateness_us: int, horizon_us: int
) -> Admission:
    """Decide what becomes of an event; changes nothing.

    Raises:
        MalformedEvent: it lies ahead of now and `WAITING_LIMIT` events wait already.
    """
    edge = state.newest
    if state.waiting:
        edge = max([edge, *(w.at_us for w in state.waiting if w.at_us <= now_us)])
    if edge > now_us:
        edge = now_us
    known_at = state.ids.get(event_id)
    if known_at is not None and known_at >= edge - horizon_us:
        return Admission.DUPLICATE
    if at_us > now_us:
        if len(state.waiting) >= WAITING_LIMIT:
            raise MalformedEvent(
                "at", f"at most {WAITING_LIMIT} events ahead of the clock", "one more ahead of it"
            )
        return Admission.WAITING
    if at_us < edge - lateness_us or at_us < state.floor_us:
        return Admission.LATE
    return Admission.ACCEPTED


def forget_ids(state: ViewState, now_us: int, horizon_us: int) -> None:
    """Drop ids that lie behind the horizon; when too many remain, the oldest quarter, and raise the floor."""
    edge = min(state.newest, now_us) - horizon_us
    kept = {event_id: at for event_id, at in state.ids.items() if at >= edge}
    if len(kept) > KNOWN_IDS_LIMIT:
        order = sorted(kept.items(), key=lambda item: (item[1], item[0]))
        gone = order[: len(order) - KNOWN_IDS_LIMIT * 3 // 4]
        state.floor_us = max(state.floor_us, gone[-1][1])
        kept = dict(order[len(gone) :])
    state.ids = kept
    state.prune_us = state.newest + horizon_us
