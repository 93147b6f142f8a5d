"""`python -m tests.support.simulation --seed N --steps M`: one run, or one seed after another for a time."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.support.simulation.driver import run
from tests.support.simulation.invariants import Broken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--devices", type=int, default=3)
    parser.add_argument(
        "--minutes", type=float, default=0, help="go on with the next seeds for so much CPU time"
    )
    parser.add_argument(
        "--restores", action="store_true", help="the server is lost and restored now and then"
    )
    wanted = parser.parse_args()
    home = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    seed, total, broken = wanted.seed, 0, 0
    while True:
        with tempfile.TemporaryDirectory(dir=home) as folder:
            try:
                town, more = Path(folder) / "town", {"restores": wanted.restores}
                done = run(seed, wanted.steps, town, devices=wanted.devices, **more)
            except Broken as found:
                print(found, flush=True)
                broken += 1
            else:
                total += done.steps
                print(f"seed {seed}: {done.steps} steps, {done.digest[:16]}, {dict(done.counts)}", flush=True)
        if time.process_time() >= wanted.minutes * 60:
            break
        seed += 1
    print(f"{total} steps held in {time.process_time():.0f} s of CPU, {broken} runs broken", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
