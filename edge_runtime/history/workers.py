"""The processes that share one replay: started here, fed through pipes, ended when the replay ends.

Each is this interpreter running `edge_runtime.history.worker`, started anew and not forked, so it is safe
beside threads, needs no guard in the caller's script and works under any other engine's processes. What a
worker is sent, in this order: its task, batches of (numbers, events), then `END` or `STOP`. What it says: how
many points it has answered, then its `Answers`; or the first malformed event, and nothing after it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, NamedTuple, Self

import numpy as np

from edge_runtime.catalog import Catalog
from edge_runtime.errors import MalformedEvent
from edge_runtime.history.shards import Shards
from edge_runtime.serving.past_rows import PastRows
from edge_runtime.serving.training import Answers, Moment, Question
from edge_runtime.session.event import Event
from edge_runtime.session.replay import Received
from edge_runtime.wire.printing import prints_only

if TYPE_CHECKING:
    from edge_runtime.history.replay import Told

BATCH = 2048
"""Events in one message to a worker; all that this process holds of them."""
LENGTH_BYTES = 8


@prints_only("refs", "service", "as_seen")
class Task(NamedTuple):
    """What a worker is to answer."""

    catalog: Catalog
    refs: tuple[str, ...] | None
    service: str | None
    as_seen: bool
    rows: PastRows
    moments: tuple[Moment, ...]


@prints_only()
class Batch(NamedTuple):
    """Some events and their numbers."""

    numbers: list[int]
    events: list[Event | Received | Mapping[str, object]]


class End(NamedTuple):
    """No more events: the answers, please; or none, for another worker has met a malformed event."""

    answers: bool


class Answered(NamedTuple):
    """So many more points are answered."""

    points: int


class Refused(NamedTuple):
    """A malformed event: its number, and the parts of its error."""

    number: int
    place: str
    expected: str
    got: str


Message = Task | Batch | End | Answered | Refused | Answers


class Crew:
    """The workers of one replay. A context manager: none is left when it ends."""

    def __init__(self, question: Question, rows: PastRows, moments: Sequence[Moment], workers: int) -> None:
        self._question, self._rows, self._moments = question, rows, moments
        self._shards = Shards(question, moments, workers)
        self._waiting = [Batch([], []) for _ in range(workers)]
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        try:
            for number in range(len(self._waiting)):
                worker = Worker()
                self._workers.append(worker)
                worker.send(self._task(number))
        except BrokenPipeError:
            self._close()
            raise ChildProcessError("expected replay workers to start, got the end of one") from None
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def take_all(self, events: Iterable[Event | Received | Mapping[str, object]], told: Told) -> None:
        """Send every event where it is needed.

        Raises:
            MalformedEvent: the first malformed one, also where `events` itself failed behind it.
        """
        of_event, waiting = self._shards.of_event, self._waiting
        number = -1
        try:
            for number, given in enumerate(events):
                for shard in of_event(number, given):
                    batch = waiting[shard]
                    batch.numbers.append(number)
                    batch.events.append(given)
                    if len(batch.numbers) >= BATCH:
                        self._send(shard)
                        told.took(number + 1)
        except BrokenPipeError:
            self._refuse()
            raise ChildProcessError("expected replay workers to take events, got the end of one") from None
        except BaseException:
            self._refuse()  # an event before the failing one may be malformed, then that is the first fault
            raise
        told.took(number + 1)
        told.took_all()

    def answers(self, told: Told) -> Answers:
        """What all workers found, in the order of the points.

        Raises:
            MalformedEvent: the first malformed event.
            ChildProcessError: a worker ended without an answer.
        """
        self._end(answers=True)
        found = [worker.reply(told) for worker in self._workers]
        _raise_first(found)
        answers = [one for one in found if isinstance(one, Answers)]
        if len(answers) < len(found):
            raise ChildProcessError("expected answers from every replay worker, got the end of one")
        return self._joined(answers)

    def _task(self, number: int) -> Task:
        question, service = self._question, self._question.service
        name = None if service is None else f"{service.service.name}@{service.service.version}"
        refs = None if name else tuple(question.refs)
        mine = tuple(self._moments[n] for n in self._shards.points[number])
        part = self._shards.of_rows(self._rows, number)
        return Task(question.catalog, refs, name, question.as_seen, part, mine)

    def _close(self) -> None:
        for worker in self._workers:
            worker.close()

    def _send(self, shard: int) -> None:
        self._workers[shard].send(self._waiting[shard])
        self._waiting[shard] = Batch([], [])

    def _end(self, *, answers: bool) -> None:
        for shard, worker in enumerate(self._workers):
            try:
                self._send(shard)
                worker.end(answers=answers)
            except BrokenPipeError:
                continue  # it has said why, and is asked next

    def _refuse(self) -> None:
        """Raise the first malformed event that some worker has met; return where none has."""
        self._end(answers=False)
        _raise_first([worker.reply(None) for worker in self._workers])

    def _joined(self, parts: Sequence[Answers]) -> Answers:
        places = self._shards.points
        if self._question.service is not None:
            width = len(self._question.service.names)
            matrix = np.empty((len(self._moments), width), dtype=np.float32)
            statuses = np.empty((len(self._moments), width), dtype=np.uint8)
            for numbers, part in zip(places, parts, strict=True):
                assert part.rows is not None
                matrix[numbers], statuses[numbers] = part.rows
            return Answers((matrix, statuses), {})
        return Answers(None, {text: self._column(text, parts) for text in self._question.refs})

    def _column(self, text: str, parts: Sequence[Answers]) -> tuple[list[object], list[int]]:
        values: list[object] = [None] * len(self._moments)
        statuses = [0] * len(self._moments)
        for numbers, part in zip(self._shards.points, parts, strict=True):
            for number, value, status in zip(numbers, *part.columns[text], strict=True):
                values[number], statuses[number] = value, status
        return values, statuses


class Worker:
    """One process and the two pipes to it."""

    def __init__(self) -> None:
        if not sys.executable:
            raise ChildProcessError("expected a Python interpreter for replay workers, got none")
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime.history.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout

    def send(self, message: Message) -> None:
        """Send one message.

        Raises:
            BrokenPipeError: it has ended; `reply` says why.
        """
        write(self._to, message)

    def end(self, *, answers: bool) -> None:
        """Say that no more events come, and send nothing after it.

        Raises:
            BrokenPipeError: as `send`.
        """
        self.send(End(answers))
        self._to.close()

    def reply(self, told: Told | None) -> Answers | Refused | None:
        """What it found, or the malformed event that it met; None where it ended without either."""
        while (message := read(self._from)) is not None:
            if isinstance(message, Answers | Refused):
                return message
            if told is not None and isinstance(message, Answered):
                told.answered(message.points)
        return None

    def close(self) -> None:
        """End it, if it has not ended, and wait for that."""
        if self._process.poll() is None:
            self._process.kill()
        for pipe in (self._to, self._from):
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # bytes that it no longer reads
        self._process.wait()


def write(pipe: IO[bytes], message: Message) -> None:
    """One message: its length, then its pickle."""
    raw = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(len(raw).to_bytes(LENGTH_BYTES, "big"))
    pipe.write(raw)
    pipe.flush()


def read(pipe: IO[bytes]) -> Message | None:
    """The next message; None at the end, also where that cuts a message short."""
    head = pipe.read(LENGTH_BYTES)
    length = int.from_bytes(head, "big")
    raw = pipe.read(length) if len(head) == LENGTH_BYTES else b""
    if not raw or len(raw) < length:
        return None
    message: Message = pickle.loads(raw)  # noqa: S301 (between this process and its own child)
    return message


def _raise_first(found: Sequence[Answers | Refused | None]) -> None:
    refused = [one for one in found if isinstance(one, Refused)]
    if refused:
        first = min(refused)
        raise MalformedEvent(first.place, first.expected, first.got)
