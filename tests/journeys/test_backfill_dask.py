"""A dataframe engine with two worker processes computes a training set as one replay does, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


def test_law_8_two_dask_workers_give_the_bits_of_one_replay_and_leave_nothing_behind() -> None:
    """The example is run as its docstring says, with every warning an error; its processes end with it."""
    command = [sys.executable, "-W", "error", "-m", "examples.backfill", "--rows", "2000"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        said, complained = run.communicate(timeout=120)
    assert run.returncode == 0, said + complained
    assert said.splitlines() == [
        "2000 events, 112 points, 8 partitions, 2 processes",
        "the same bits as one replay",
    ]
    # Python's own tracker of shared memory ends when it has seen the end of the others: wait for that.
    _, alive = psutil.wait_procs(alive_in(run.pid), timeout=30)
    assert [process.name() for process in alive] == []


def alive_in(session: int) -> list[psutil.Process]:
    """What still runs of a session."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            mine = os.getsid(process.pid) == session
        except ProcessLookupError:
            continue
        if mine and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found
