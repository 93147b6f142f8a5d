"""Which cell of an experiment a subject is in: `unexposed`, or its arm with `no` or `yes`.

Whoever permits the experiment's purpose and was not exposed on this device answers `unexposed`. Of others the
outcome tells, as it reads when the device answers:

- an outcome that counts from the exposure on is a success once such an event lies at or after the exposure;
- any other is one when its value is positive or true. NULL is none: nothing happened.

Whoever was exposed and has no whole outcome (not synced, expired, still warming) counts as `unexposed` too:
not answering would tell, without any noise, that the subject was exposed.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_runtime.aggregates.reading import Reading
from edge_runtime.catalog import Experiment
from edge_runtime.catalog.exposure import exposed_s
from edge_runtime.catalog.model import UNEXPOSED
from edge_runtime.serving.status import Status

Read = Callable[[str, str], Reading]


def cell_input(experiment: Experiment, read: Read, subject: str) -> int | None:
    """The input of an experiment's metric for typed `subject`; None when it gives no permission."""
    cell = cell_of(experiment, read, subject)
    if cell is None:
        return None
    return experiment.cells.index(cell if cell in experiment.cells else UNEXPOSED)


def cell_of(experiment: Experiment, read: Read, subject: str) -> str | None:
    """The name of the subject's cell; None when it gives no permission.

    Args:
        read: a feature of a typed subject, judged now.
    """
    exposure = read(str(experiment.exposure), subject)
    outcome = read(str(experiment.outcome), subject)
    if Status.REVOKED in (exposure.status, outcome.status):
        return None
    if exposure.status is not Status.PRESENT:
        return UNEXPOSED
    since = experiment.since_exposure
    success = _since_exposure(experiment, outcome, read, subject) if since else _by_value(outcome)
    return UNEXPOSED if success is None else f"{exposure.value}/{'yes' if success else 'no'}"


def _since_exposure(experiment: Experiment, outcome: Reading, read: Read, subject: str) -> bool | None:
    """Read after the outcome: time passes between reads, and an event right after the exposure must count."""
    exposed = read(str(exposed_s(experiment)), subject)
    known_us, exposed_us = outcome.complete_from, exposed.event_time
    if known_us is not None and (exposed_us is None or known_us > exposed_us):
        return None
    if outcome.status is Status.NULL:
        return False
    ago_s, exposed_ago_s = outcome.value, exposed.value
    if outcome.status is not Status.PRESENT or not isinstance(ago_s, float):
        return None
    return ago_s <= exposed_ago_s if isinstance(exposed_ago_s, float) else None


def _by_value(outcome: Reading) -> bool | None:
    if outcome.status is Status.NULL:
        return False
    if outcome.status is not Status.PRESENT or not isinstance(outcome.value, bool | int | float):
        return None
    return outcome.value > 0
