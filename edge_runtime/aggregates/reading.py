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


def read_input(metric: Metric, reading: Reading, now_us: int) -> int | None:
    """The input that the subject answers with, or None: it has nothing to say.

    `now_us`: the runtime's time now. Of an experiment ask its own room.
    """
    if reading.status is Status.REVOKED:
        return None
    seen = what_is_read(metric, reading, now_us)
    if seen is None and metric.kind != "count":
        return None
    return input_of(_question(metric), seen)


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


@lru_cache(maxsize=64)
def _question(metric: Metric) -> Question:
    return question_of(metric)
