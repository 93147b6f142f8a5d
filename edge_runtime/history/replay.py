"""`er.replay`: values as they were at given points, computed by the engine that serves them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from itertools import count

from edge_runtime.catalog import Catalog
from edge_runtime.errors import MalformedRequest
from edge_runtime.serving.past_rows import PastRows
from edge_runtime.serving.training import Question, Training
from edge_runtime.session.event import Event
from edge_runtime.session.replay import Received
from edge_runtime.session.table import Table

Progress = Callable[[int, int | None], None]
"""Called with (done, total): events taken and points answered; total None while the events are uncounted."""


def replay(
    catalog: Catalog,
    events: Iterable[Event | Received | Mapping[str, object]],
    *,
    points: Sequence[Mapping[str, object]],
    refs: Sequence[str] | None = None,
    service: str | None = None,
    rows: Iterable[Mapping[str, object]] | None = None,
    as_seen: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Table:
    """Features (`refs`) or whole rows of a service (`service`) as they were at `points`.

    Args:
        events: as for `track_many`, in any order, each with its time; a dict may say `received`.
        points: `{"user": "alice", "item": "x", "at": t, "request": {"ctx:hour": 14}}`; `request` is optional.
            An event at exactly `at` is included.
        service: `ranker` or `ranker@2`. The table then has one float32 column for each number, and
            `to_numpy()` is the float32[points, n] matrix.
        rows: feature rows as published: `{"view": "item_stats", "entity": "item:x", "event_time": t,
            "created": t, "values": {...}}`, `version` for other than the newest version, `created` defaults
            to the event time. The newest by (event time, created) at or before the point counts.
        as_seen: leave out events received, and rows created, after the point; of one id the event received
            first counts, not the one given first.
        workers: processes to share the work; any number gives the same bits in the same order. Events are
            sent to them once, in batches, so only the workers hold them.
        progress: told now and then how much is done.

    Raises:
        MalformedEvent: an event that does not fit the catalog: the first one, as `events[number]...`.
        MalformedRequest: a bad point or row (`points[number]...`), reference or service, not exactly one of
            refs and service, or fewer than one worker.
        ChildProcessError: a worker ended without an answer.
    """
    if workers < 1:
        raise MalformedRequest("workers", "at least 1", str(workers))
    question = Question(catalog, refs, service, as_seen=as_seen)
    moments = question.moments(points)
    past = PastRows.of(catalog, rows or (), as_seen=as_seen)
    told = Told(progress, events, len(moments))
    if workers == 1 or len(moments) < 2:
        training = Training(question, past, moments)
        training.take_all(events, count(), told.took)
        told.took_all()
        with _uncollected():
            return question.table(training.answers(told.answered))
    from edge_runtime.history.workers import (
        Crew,  # only here: a device that replays nothing needs no processes
    )

    with Crew(question, past, moments, workers) as crew:
        crew.take_all(events, told)
        return question.table(crew.answers(told))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Nothing here makes circles, and searching its many objects for some takes a third of the time."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


class Told:
    """Counts what is done and tells it."""

    def __init__(self, progress: Progress | None, events: Iterable[object], points: int) -> None:
        self._progress, self._points, self._done = progress, points, 0
        self._total = len(events) + points if isinstance(events, Sized) else None

    def took(self, number: int) -> None:
        """So many events were taken."""
        self._done = number
        if self._progress is not None:
            self._progress(number, self._total)

    def took_all(self) -> None:
        """No more events come."""
        self._total = self._done + self._points
        self.answered(0)

    def answered(self, points: int) -> None:
        """So many more points were answered."""
        self._done += points
        if self._progress is not None:
            self._progress(self._done, self._total)
