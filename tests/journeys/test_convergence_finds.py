"""What is broken on purpose is found: each breakage of `breakage.BREAKS` breaks a promise in some walk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.simulation.breakage import BREAKS, broken
from tests.support.simulation.driver import run
from tests.support.simulation.invariants import Broken

WALKS, STEPS = 24, 600
FIRST = {
    "a gap in the lane is not noticed": 4,
    "a row is not judged by its grant": 10,
    "a lease counts from its answer": 3,
    "a purpose's own lease is not minded": 19,
    "the poll does not look at the lane": 11,
}
"""What most walks do not notice -> a seed that does: where to begin."""


@pytest.mark.parametrize("name", BREAKS)
def test_the_simulation_notices(name: str, tmp_path: Path) -> None:
    """Within 14,400 steps; most within 600."""
    with broken(name), pytest.raises(Broken):
        _walk(tmp_path, FIRST.get(name, 0))


def _walk(folder: Path, first: int) -> None:
    for seed in (*range(first, WALKS), *range(first)):
        run(seed, STEPS, folder / f"town-{seed}")
