"""The kiosks as the demo's parent sees them: processes that take orders and answer in JSON lines."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

LINE_LIMIT_BYTES = 16 * 1024 * 1024
GOODBYE_S = 10.0
"""How long a kiosk has to end by itself once its orders end."""


class KioskFailed(Exception):
    """A kiosk's process ended in mid-run; its log says why."""


class Kiosk:
    """One kiosk process. One order at a time: ask, then wait for the answer."""

    def __init__(self, number: int, folder: Path, process: Process, log: IO[bytes]) -> None:
        self.number, self.folder = number, folder
        self._process, self._log = process, log
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls, number: int, folder: Path) -> Kiosk:
        """Start a kiosk that keeps all its files in `folder`, its log too."""
        folder.mkdir(parents=True)
        log = (folder / "kiosk.log").open("wb")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "examples.demo.kiosk", str(folder)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=log,
            limit=LINE_LIMIT_BYTES,
        )
        return cls(number, folder, process, log)

    async def open(self, url: str, token: str, start_us: int) -> None:
        """Let the kiosk open its files and enrol; the first word to it."""
        await self._exchange({"url": url, "token": token, "start_us": start_us})

    async def ask(self, order: str, **details: object) -> dict[str, Any]:
        """Give one order and return the answer; `KioskFailed` if the process is gone."""
        return await self._exchange({"order": order, **details})

    async def _exchange(self, words: Mapping[str, object]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        async with self._turn:
            try:
                stdin.write(json.dumps(words).encode() + b"\n")
                await stdin.drain()
            except (BrokenPipeError, ConnectionResetError):
                raise self._failure() from None
            line = await stdout.readline()
        if not line:
            raise self._failure()
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def stop(self) -> None:
        """End the process: by closing its orders, by force if it does not listen."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), GOODBYE_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._log.close()

    def _failure(self) -> KioskFailed:
        log = (self.folder / "kiosk.log").read_text(errors="replace").strip()
        return KioskFailed(f"kiosk {self.number} ended in mid-run; {self.folder / 'kiosk.log'} says:\n{log}")


async def stop_all(kiosks: Iterable[Kiosk]) -> None:
    """Stop every kiosk, all at once."""
    await asyncio.gather(*(kiosk.stop() for kiosk in kiosks))
