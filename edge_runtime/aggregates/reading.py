"""What a metric reads of a subject: the value, its status or its age; and the input that this makes.

A subject without permission has nothing to read, whatever the metric: it never answers.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Final, Protocol

from edge_runtime.aggregates.mechanisms import Question, input_of, question_of
from edge_runtime.catalog import Metric
from edge_runtime.serving.status import Status

SECOND_US: Final = 1_000_000
_NOT_KNOWN: Final = frozenset({Status.WARMING.name, Status.NOT_SYNCED.name})


class Reading(Protocol):
    """What `read_value` returns (a `FeatureValue` does)."""

    @property
    def value(self) -> object:
        """The feature's value."""
        ...

    @property
    def status(self) -> Status:
        """What the value is."""
        ...

    @property
    def event_time(self) -> int | None:
        """When it was true, in microseconds since 1970."""
        ...

    @property
    def complete_from(self) -> int | None:
        """Since when every event is counted; None when the whole history is."""
        ...

    @property
    def reason(self) -> str:
        """Of what is not PRESENT the cause: the name of a status first, also behind a default."""
        ...


def read_input(metric: Metric, reading: Reading, now_us: int) -> int | None:
    """The input that the subject answers with, or None: it has nothing to say.

    Where nothing is there, or what belongs to no category, a count hears no, and another metric what it
    declares as `absent`: so who takes part depends on nobody's value. Where it is not known what is there (it
    is still WARMING, or its row has not come) a subject says nothing: anything else were a guess (law 7).

    `now_us`: the runtime's time now. Of an experiment ask its own room.
    """
    if reading.status is Status.REVOKED:
        return None
    question, seen = _question(metric), what_is_read(metric, reading, now_us)
    if seen is None and not _is_known(reading):
        return None
    found = input_of(question, seen) if seen is not None or metric.kind == "count" else None
    return absent_input(question, metric.absent) if found is None else found


def absent_input(question: Question, absent: str | float | None) -> int | None:
    """The input of a subject without a value; None where it does not answer."""
    if isinstance(absent, str):
        return question.categories.index(absent)
    return None if absent is None else input_of(question, absent)


def what_is_read(metric: Metric, reading: Reading, now_us: int) -> object:
    """By `read`: the value, the status by name, or the age in seconds. None: there is none.

    Only a PRESENT value is one: a default, or a count that is still warming, is not the subject's.
    """
    if metric.read == "status":
        return None if reading.status is Status.REVOKED else reading.status.name
    if reading.status is not Status.PRESENT:
        return None
    if metric.read == "value":
        return reading.value
    return None if reading.event_time is None else Fraction(now_us - reading.event_time, SECOND_US)


def _is_known(reading: Reading) -> bool:
    cause = reading.reason.partition(":")[0] if reading.status is Status.DEFAULTED else reading.status.name
    return cause not in _NOT_KNOWN


@lru_cache(maxsize=64)
def _question(metric: Metric) -> Question:
    return question_of(metric)
