"""What is broken on purpose is found: each breakage of `breakage.BREAKS` breaks a promise in some walk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.simulation.breakage import BREAKS, broken
from tests.support.simulation.driver import run
from tests.support.simulation.invariants import Broken

WALKS, STEPS = 24, 600


@pytest.mark.parametrize("name", BREAKS)
def test_the_simulation_notices(name: str, tmp_path: Path) -> None:
    """Within 14,400 steps; most within 600."""
    with broken(name), pytest.raises(Broken):
        _walk(tmp_path)


def _walk(folder: Path) -> None:
    for seed in range(WALKS):
        run(seed, STEPS, folder / f"town-{seed}")
