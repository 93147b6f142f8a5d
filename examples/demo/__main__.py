"""`python -m examples.demo`: run the demo, write its report, say what happened."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from examples.demo.fleet import KioskFailed
from examples.demo.kiosk import CATALOG
from examples.demo.server import EDGE_SYNC, ApiRefused, ServerFailed, ShopServer, end_leftover, running
from examples.demo.story import Plan, play
from examples.demo.summary import show

MARK = "made-by-the-demo"
"""A file in the demo's folder: only a folder with it is ever emptied."""


def arguments() -> argparse.Namespace:
    """What stands on the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the server up at the end, until Ctrl-C")
    parser.add_argument("--kiosks", type=int, default=8, help="number of kiosk processes (default 8)")
    parser.add_argument("--events", type=int, default=20_000, help="most purchases to replay (default: all)")
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where files go (default .demo)")
    chosen = parser.parse_args()
    if chosen.kiosks < 1 or chosen.events < 1:
        parser.error("--kiosks and --events must be at least 1")
    return chosen


@contextlib.contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """Empty the folder of an earlier run, or make it, and hold it until the demo ends.

    Refuses a folder that is not the demo's, and one in which another demo is running.
    """
    folder = folder.absolute()
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARK).exists():
            raise SystemExit(f"{folder} is not empty and not the demo's: nothing was touched")
        with _held(folder):
            end_leftover(folder / "server")
            _remove(folder)
    folder.mkdir(parents=True)
    with _held(folder):
        yield folder


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The mark, locked by this process; a killed one lets go of it."""
    with (folder / MARK).open("w") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(
                f"another demo is running in {folder}: wait for it, or choose another --folder"
            ) from None
        yield


def _remove(folder: Path) -> None:
    """Remove the folder; kiosks of a killed run may still be closing their files in it."""
    for _ in range(50):
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
            return
        time.sleep(0.1)
    shutil.rmtree(folder)


async def run(chosen: argparse.Namespace, console: Console) -> int:
    """Run the demo; returns the exit code."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _cancel, asyncio.current_task())
    start = time.monotonic()
    with fresh(chosen.folder) as folder:
        return await _run_in(folder, chosen, start, console)


async def _run_in(folder: Path, chosen: argparse.Namespace, start: float, console: Console) -> int:
    async with running(folder / "server", CATALOG, port=0) as server:
        outcome = await play(Plan(folder, chosen.kiosks, chosen.events), server, console)
        (folder / "report.json").write_text(json.dumps(outcome.report.to_json(), indent=2) + "\n")
        failures = outcome.failures()
        show(console, outcome, failures, chosen.folder, time.monotonic() - start)
        if outcome.withdrawal.completion is not None:
            (folder / "receipt.json").write_text(json.dumps(outcome.withdrawal.completion, indent=1) + "\n")
            file, root = chosen.folder / "receipt.json", outcome.withdrawal.root
            proof = f"  {EDGE_SYNC} consent verify {file} --root {root}"
            console.print("The withdrawal is proven by its receipt and one fingerprint, without the server:")
            console.print(proof, markup=False, highlight=False, soft_wrap=True)
        if chosen.keep:
            await _keep(server, chosen.folder, console)
    return 1 if failures else 0


def _cancel(task: asyncio.Task[int] | None) -> None:
    if task is not None:
        task.cancel()


async def _keep(server: ShopServer, folder: Path, console: Console) -> None:
    """Leave the server up until Ctrl-C, with words on what to ask it."""
    api = f'curl -H "Authorization: Bearer $(cat {folder / "server" / "api.token"})" {server.url}'
    tries = (
        f"{api}/v1/consent-revocations",
        f"{api}/v1/aggregates/releases",
        f"{api}/v1/consent-ledger/head",
        f"{api}/v1/devices",
        f"""{api}/v1/consent-revocations -H "Idempotency-Key: 1" --json '{{"subject": "user:17841"}}'""",
        f"{api}/v1/consent-revocations/ID/targets    # ID as the line above answers",
    )
    console.print(
        f"The server is up until Ctrl-C; its docs are at {server.url}/docs. The kiosks have closed, so"
    )
    console.print("a withdrawal now waits for them (or for the end of their lease). Try:")
    for line in tries:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    await stop.wait()


def main() -> int:
    """Run, and turn what may go wrong into a line of words and an exit code."""
    console = Console()
    try:
        return asyncio.run(run(arguments(), console))
    except (ServerFailed, KioskFailed, ApiRefused) as error:
        console.print("[red]The demo failed:[/red]", escape(str(error)))
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Stopped; the kiosks and the server have ended.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
