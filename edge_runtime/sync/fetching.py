"""What one session asks of the server on demand, and what becomes of the answers. No socket, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from edge_runtime.errors import EdgeError, SyncError, SyncRefused
from edge_runtime.sync.fetch_places import ROWS_LIMIT, Place
from edge_runtime.sync.fetch_queue import Batch, FetchQueue, Pair, fail
from edge_runtime.sync.fetched import FetchedRows, Question
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.printing import prints_only
from edge_runtime.wire.refusal import id_of

_SETTLED_KEPT: Final = 64
"""Ids of requests that were given up, whose answers may still come."""


@prints_only("question", "heard_us")
@dataclass(slots=True)
class _Flight:
    """One request that was sent."""

    question: Question
    batch: Batch
    """Who waits for what has no answer yet."""
    heard_us: int
    """Boot time when it was sent, or its last part came."""


class Fetching:
    """The requests of one session.

    Args:
        chance: returns n unpredictable bytes, for ids of requests.
    """

    def __init__(
        self,
        queue: FetchQueue,
        rows: FetchedRows,
        settings: SyncSettings,
        chance: Callable[[int], bytes],
    ) -> None:
        self._queue, self._rows, self._settings, self._chance = queue, rows, settings, chance
        self._flights: dict[bytes, _Flight] = {}
        self._given_up: deque[bytes] = deque(maxlen=_SETTLED_KEPT)
        self._held_us = 0
        """Boot time before which the server wants to hear of nothing."""
        self._unasked = 0

    # ---- asking ----------------------------------------------------------------------------------------

    def subjects(self) -> set[str]:
        """Whose rows are wanted: their channels have to be open, whether or not they are here."""
        flying = {next(iter(flight.batch)).subject for flight in self._flights.values() if flight.batch}
        return {subject for subject in flying | {pair[0] for pair in self._queue.pairs()} if subject}

    def due(self, followed: Collection[str], refused: Mapping[str, str], boot_us: int) -> list[m.Fetch]:
        """The requests to send now, within what may be in flight.

        Args:
            followed: personal channels followed in this session; rows of other subjects wait.
            refused: channel -> why the server will not serve it in this session.
        """
        self._give_up(boot_us)
        if boot_us < self._held_us or not len(self._queue):
            return []
        ready = {pair for pair in self._queue.pairs() if self._may_ask(pair, followed, refused)}
        found: list[m.Fetch] = []
        while len(self._flights) < self._settings.fetches_in_flight:
            batch = self._queue.take(ready, ROWS_LIMIT)
            if not batch:
                break
            found.append(self._ask(batch, boot_us))
        return found

    def _may_ask(self, pair: Pair, followed: Collection[str], refused: Mapping[str, str]) -> bool:
        """Whether rows of a pair can be asked for now; where they never can, who waits is told."""
        subject, purpose = pair
        if subject is None or purpose is None:
            return True
        grant, channel = self._rows.grant(subject, purpose), self._rows.channel(subject, purpose)
        if grant is None or channel in refused:
            self._queue.refuse(pair, SyncRefused(refused.get(channel, "no_permission")))
            return False
        return grant != 0 and channel in followed

    def _ask(self, batch: Batch, boot_us: int) -> m.Fetch:
        question, id_ = self._rows.question(list(batch)), self._chance(16)
        self._flights[id_] = _Flight(question, batch, boot_us)
        view = question.view
        return m.Fetch(id=id_, view=view.name, version=view.version, entities=list(question.places))

    # ---- answers ---------------------------------------------------------------------------------------

    def take(self, fetched: m.Fetched, boot_us: int) -> str:
        """Take in an answer, or a part of one; returns the code to refuse it with, empty when it stands.

        Raises `WireFailure` when the session cannot go on; nothing of the answer was kept.
        """
        flight = self._flights.get(fetched.id)
        if flight is None:
            return self._not_asked(fetched.id)
        try:
            came = self._rows.apply(flight.question, fetched)
        except WireFailure as failure:
            if failure.code != "no_permission":
                raise
            self._end(fetched.id, SyncRefused(failure.code))
            return failure.code
        flight.heard_us = boot_us
        _told(flight.batch, came.here, found=True)
        _told(flight.batch, came.absent, found=False)
        if came.failed:
            self._end(fetched.id, SyncRefused(came.failed))
        elif not fetched.more:
            del self._flights[fetched.id]
        return ""

    def refused(self, refusal: m.Refusal, boot_us: int) -> bool:
        """The server will not answer a request; whether it was one of ours.

        One for which it had no time is asked again later; of any other, who waits is told.
        """
        id_ = id_of(refusal.about) or b""
        flight = self._flights.get(id_)
        if flight is None:
            return id_ in self._given_up
        if refusal.code == "overloaded":
            self._held_us = boot_us + max(refusal.retry_after_us, self._settings.tick_us)
            self._give_back(self._flights.pop(id_))
        else:
            self._end(id_, SyncRefused(refusal.code, retry_after_us=refusal.retry_after_us))
        return True

    def close(self) -> None:
        """The session is over: what has no answer is asked again in the next."""
        for flight in self._flights.values():
            self._give_back(flight)
        self._flights.clear()

    def _not_asked(self, id_: bytes) -> str:
        if id_ in self._given_up:
            return ""  # it crossed our giving up, or the refusal of its first part
        self._unasked += 1
        if self._unasked > self._settings.refollows:
            raise WireFailure("out_of_turn", "answers to what was not asked, again and again")
        return "out_of_turn"

    def _give_up(self, boot_us: int) -> None:
        late_us = boot_us - self._settings.fetch_answer_us
        for id_ in [id_ for id_, flight in self._flights.items() if flight.heard_us <= late_us]:
            self._end(id_, SyncError("the server did not answer; ask again"))

    def _end(self, id_: bytes, error: EdgeError) -> None:
        self._given_up.append(id_)
        fail([self._flights.pop(id_).batch], error)

    def _give_back(self, flight: _Flight) -> None:
        """To the queue, unless its subject is gone meanwhile."""
        first = next(iter(flight.batch))
        if first.subject is not None and self._rows.grant(first.subject, first.purpose or "") is None:
            fail([flight.batch], SyncRefused("no_permission"))
        else:
            self._queue.give_back(flight.batch)


def _told(batch: Batch, places: list[Place], *, found: bool) -> None:
    for place in places:
        for fetch in batch.pop(place):
            fetch.came(found=found)
