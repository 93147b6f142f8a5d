"""Proof of convergence: devices and server over links that fail, one step at a time, under an oracle.

A run is replayed by its seed: `python -m tests.support.simulation --seed N --steps M`. A long one by hand:
`python -m tests.support.simulation --seed 1000 --steps 5000 --minutes 15`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.simulation.chance import seeded
from tests.support.simulation.driver import run
from tests.support.simulation.world import World

ROOT = Path(__file__).resolve().parents[2]
SEEDS, STEPS = range(8), 1_000
"""8,000 steps, with a rest after every 250, and another after the subject that goes then."""


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_fails_nothing_forbidden_is_readable_and_all_become_equal(seed: int, tmp_path: Path) -> None:
    """At every step laws 1, 2 and 3 and the order of positions; at every rest equal digests, rows and lanes,
    empty outboxes and completed revocations."""
    done = run(seed, STEPS, tmp_path / "town")
    assert done.counts["rests"] == 2 * (STEPS // 250) + 1
    assert done.counts["proven completed"] > 20
    assert done.counts["steps forgotten"] > 20
    assert done.counts["sessions"] > 10
    assert done.counts["ledger"] > 50


@pytest.mark.parametrize("seed", [62, 101])
def test_law_2_a_server_that_is_lost_and_restored_again_and_again(seed: int, tmp_path: Path) -> None:
    """By its journal it is the same server: nothing comes back, nobody is bricked, the lane goes on.

    By hand: `python -m tests.support.simulation --restores --minutes 10`.
    """
    done = run(seed, 240, tmp_path / "town", restores=True)
    assert done.counts["restores"] >= 1


def test_a_seed_replays_a_run_exactly(tmp_path: Path) -> None:
    """Every frame and event of a run is in its hash; another process and another hash seed find the same."""
    here = run(7, 400, tmp_path / "here")
    other = run(8, 400, tmp_path / "other")
    command = [sys.executable, "-m", "tests.support.simulation", "--seed", "7", "--steps", "400"]
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        told = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        assert told.stdout.startswith(f"seed 7: 400 steps, {here.digest[:16]},")
    assert here.digest != other.digest


class Town(RuleBasedStateMachine):
    """The same town, driven by Hypothesis, which shrinks what it finds."""

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        home = Path("/dev/shm")
        folder = tempfile.mkdtemp(prefix="town-", dir=home if home.is_dir() else None)
        self._open.callback(shutil.rmtree, folder, ignore_errors=True)
        self._open.enter_context(seeded(1))
        self.world = World(1, Path(folder) / "town", devices=2)
        self._open.callback(self.world.close)

    def teardown(self) -> None:
        try:
            self.world.rest()
        finally:
            self._open.close()

    small = st.integers(0, 5)

    @rule(n=small)
    def connect(self, n: int) -> None:
        self.world.do_connect(n)

    @rule(n=small, frames=st.sampled_from((1, 2, 5, 40)))
    def pump(self, n: int, frames: int) -> None:
        self.world.do_pump(n, frames)

    @rule(n=small, frames=st.sampled_from((3, 40)))
    def connect_and_pump(self, n: int, frames: int) -> None:
        self.world.do_connect(n)
        self.world.do_pump(n, frames)

    @rule(n=small, down=st.booleans())
    def deliver(self, n: int, down: bool) -> None:
        self.world.do_deliver(n, down)

    @rule(n=small)
    def pull(self, n: int) -> None:
        self.world.do_pull(n)

    @rule(n=small, keep=st.sampled_from((0, 0, 9)))
    def cut(self, n: int, keep: int) -> None:
        self.world.do_cut(n, keep)

    @rule(n=small, down=st.booleans())
    def block(self, n: int, down: bool) -> None:
        self.world.do_block(n, down)

    @rule(n=small, what=st.integers(0, 3), place=small, down=st.booleans())
    def meddle(self, n: int, what: int, place: int, down: bool) -> None:
        self.world.do_meddle(n, what, place, down)

    @rule(view=small, who=st.integers(0, 1), item=small, lag=st.sampled_from((0, 0, 2)), gone=st.booleans())
    def publish(self, view: int, who: int, item: int, lag: int, gone: bool) -> None:
        self.world.do_publish(view, who, item, 0, lag, gone)

    @rule(
        who=st.integers(0, 1), purpose=st.integers(0, 1), state=st.integers(2, 6), lag=st.sampled_from((0, 2))
    )
    def decide(self, who: int, purpose: int, state: int, lag: int) -> None:
        self.world.do_decide(who, purpose, state, lag)

    @rule(who=st.integers(0, 1), controller=st.booleans())
    def revoke(self, who: int, controller: bool) -> None:
        self.world.do_revoke(who, controller)

    @rule(n=small, who=st.integers(0, 1), purpose=st.integers(0, 1))
    def give(self, n: int, who: int, purpose: int) -> None:
        self.world.do_give(n, who, purpose)

    @rule(n=small, who=st.integers(0, 1), purpose=st.integers(0, 1))
    def admit(self, n: int, who: int, purpose: int) -> None:
        self.world.do_admit(n, who, purpose)

    @rule(n=small, who=st.integers(0, 1), purpose=st.integers(0, 1), refuse=st.booleans())
    def deny(self, n: int, who: int, purpose: int, refuse: bool) -> None:
        self.world.do_deny(n, who, purpose, refuse)

    @rule(n=small, who=st.integers(0, 1), flush=st.booleans())
    def track(self, n: int, who: int, flush: bool) -> None:
        self.world.do_track(n, who, flush)

    @rule(n=small, how=st.integers(0, 10))
    def restart(self, n: int, how: int) -> None:
        self.world.do_restart(n, how)

    @rule()
    def crash_server(self) -> None:
        self.world.do_crash_server()

    @rule()
    def sweep_server(self) -> None:
        self.world.do_sweep_server()

    @rule(seconds=st.sampled_from((1, 31, 100, 4_000, 40_000, 200_000)))
    def wait(self, seconds: int) -> None:
        self.world.do_wait(seconds)

    @rule(deaf=st.booleans())
    def lose_hints(self, deaf: bool) -> None:
        self.world.do_deaf(deaf)

    @rule(n=st.integers(0, 1), where=st.integers(0, 60))
    def jump(self, n: int, where: int) -> None:
        self.world.do_jump(n, where)

    @precondition(lambda self: self.world.steps % 3 == 0)
    @rule(n=small)
    def boot_back(self, n: int) -> None:
        self.world.do_boot_back(n)

    @invariant()
    def everything_holds(self) -> None:
        """After whatever happened."""
        self.world.check()


TestTown = Town.TestCase
TestTown.settings = settings(max_examples=25, stateful_step_count=40)
