"""One worker of a replay: takes its task and events from standard input, gives answers on standard output."""

from __future__ import annotations

import gc
import os
import sys
from typing import IO

from edge_runtime.errors import MalformedEvent
from edge_runtime.history.workers import Answered, Batch, End, Refused, Task, read, write
from edge_runtime.serving.training import Question, Training


def main() -> None:
    """Answer one task and end; what anything prints goes to standard error, the pipe belongs to messages."""
    heard, said = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    gc.disable()  # events hold no circles, and searching millions of them for some takes long
    with said:
        _work(heard, said)


def _work(heard: IO[bytes], said: IO[bytes]) -> None:
    task = read(heard)
    if not isinstance(task, Task):
        return  # the replay was given up
    question = Question(task.catalog, task.refs, task.service, as_seen=task.as_seen)
    training = Training(question, task.rows, task.moments)
    while isinstance(message := read(heard), Batch):
        refused = _take(training, message)
        if refused is not None:
            write(said, refused)
            return
    if isinstance(message, End) and message.answers:
        write(said, training.answers(lambda points: write(said, Answered(points))))


def _take(training: Training, batch: Batch) -> Refused | None:
    try:
        training.take_all(batch.events, batch.numbers)
    except MalformedEvent as error:
        number = int(error.place.removeprefix("events[").partition("]")[0])
        return Refused(number, error.place, error.expected, error.got)
    return None


if __name__ == "__main__":
    main()
