"""Devices as processes of their own under one clock that a test moves, beside a real server process."""

from __future__ import annotations

import mmap
import multiprocessing
import shutil
import struct
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import edge_runtime as er
import edge_runtime.runtime  # so that processes fork with it loaded
from edge_runtime.sync.background import BackgroundSync
from tests.support.shop_server import CATALOG

PURPOSE = "personalization"
CAUGHT_UP_S = 60


class SharedClock:
    """This machine's clocks plus what a test added to both, the same in every process that opens `path`."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._added = mmap.mmap(file.fileno(), 8)

    def advance(self, us: int) -> None:
        """Let time pass everywhere at once."""
        self._added[:] = struct.pack("<q", self._us() + us)

    def now_us(self) -> int:
        return time.time_ns() // 1_000 + self._us()

    def boot_us(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000 + self._us()

    def _us(self) -> int:
        (added,) = struct.unpack("<q", self._added[:])
        return int(added)


class DeviceProcess:
    """A real Runtime in a process of its own; each method runs there and returns what it says."""

    def __init__(self, name: str, folder: Path, clock: Path) -> None:
        self.name, self.folder, self._clock = name, folder, clock
        self.device_id = ""
        folder.mkdir(exist_ok=True)
        self.start()

    def start(self) -> None:
        """Open the runtime on the folder, in a new process."""
        self._pipe, far = _CONTEXT.Pipe()
        told = (far, str(self.folder), str(self._clock))
        self._process = _CONTEXT.Process(target=_live, args=told, name=self.name, daemon=True)
        self._process.start()
        far.close()

    def ask(self, what: str, *arguments: object) -> Any:
        """Have one of `_Life`'s methods called there; raises what it raised."""
        self._pipe.send((what, arguments))
        if not self._pipe.poll(CAUGHT_UP_S + 30):
            raise TimeoutError(f"{self.name} does not answer {what}")
        failed, answer = self._pipe.recv()
        if failed:
            raise AssertionError(f"{self.name} {what}: {answer}")
        return answer

    def enrol(self, url: str, token: str) -> None:
        """Once."""
        self.device_id = self.ask("enrol", url, token)

    def online(self) -> None:
        """Connect, and return when it is caught up."""
        self.ask("online")

    def offline(self) -> None:
        """Disconnect; it lives on."""
        self.ask("offline")

    def kill(self) -> None:
        """Without a word."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def image(self, to: Path) -> None:
        """A copy of its disk, taken while it is dead."""
        shutil.copytree(self.folder, to)

    def restore(self, image: Path) -> None:
        """Put a copy of its disk back, while it is dead."""
        shutil.rmtree(self.folder)
        shutil.copytree(image, self.folder)


def _live(pipe: Connection, folder: str, clock: str) -> None:
    """Body of a device's process."""
    life = _Life(Path(folder), SharedClock(Path(clock)))
    while True:
        try:
            what, arguments = pipe.recv()
        except EOFError:
            return
        act: Callable[..., object] = getattr(life, what)
        try:
            pipe.send((False, act(*arguments)))
        except Exception as error:  # noqa: BLE001 - told to the test, which raises it
            pipe.send((True, f"{type(error).__name__}: {error}"))


class _Life:
    """What a device does when it is asked to."""

    def __init__(self, folder: Path, clock: SharedClock) -> None:
        catalog, key = er.Catalog.load(CATALOG), er.KeyFile(folder / "device.key")
        self._rt = er.Runtime.open(folder / "cache.db", catalog=catalog, key=key, clock=clock)
        self._link: BackgroundSync | None = None

    def enrol(self, url: str, token: str) -> str:
        return self._rt.enrol(url, token)

    def online(self) -> None:
        if self._link is None:
            self._link = self._rt.sync_in_background()
        self._link.wait_caught_up(CAUGHT_UP_S)

    def go_online(self) -> None:
        """Without waiting: a device that was revoked is never caught up."""
        self._link = self._rt.sync_in_background()

    def offline(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def collect(self, subject: str) -> str:
        """Take the subject's consent and an event; returns what the event was answered with."""
        self._rt.consent.give(subject, [PURPOSE], notice="2026-11")
        return self.track(subject)

    def track(self, subject: str) -> str:
        answer = self._rt.track("view", user=subject, item="85123A", price=2.5)
        self._rt.flush()
        return answer.name

    def read(self, subject: str) -> tuple[str, Any]:
        found = self._rt.read("activity:views_5m", user=subject)
        return found.status.name, found.value

    def state(self, subject: str) -> str:
        return self._rt.consent.state(subject, PURPOSE)

    def status(self) -> dict[str, object]:
        return self._rt.status()


_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.support.fleet"])
