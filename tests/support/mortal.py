"""A server that kills itself with SIGKILL at the n-th place where a transaction ends, before or after that.

A process that has imported everything forks one server after another: each start costs a few milliseconds.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from sync_server.client import Client
from sync_server.server import serve
from sync_server.settings import Settings
from tests.support.served import free_port
from tests.support.shop_server import CATALOG

_ZYGOTE = "from tests.support.mortal import zygote; zygote()"
_ENDS = ("DELETE", "INSERT", "UPDATE")
"""Statements that are a transaction by themselves, outside of one."""


class Mortal:
    """A server on `data`, to be started again and again on one port."""

    def __init__(self, data: Path) -> None:
        self.data, self.port, self.pid = data, free_port(), 0
        self.url = f"http://127.0.0.1:{self.port}"
        self._zygote = subprocess.Popen(
            [sys.executable, "-c", _ZYGOTE, str(data), str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Mortal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
        self._zygote.communicate(timeout=60)

    def start(self, kill_at: int | None = None) -> Client:
        """Start it; once armed it dies at the `kill_at`-th place."""
        self._tell({"kill_at": kill_at})
        self.pid = self._said("serves")
        return Client.of(self.data, None)

    def arm(self) -> None:
        """Count places from now on."""
        os.kill(self.pid, signal.SIGUSR1)
        self._said("armed")

    def dies(self, within_s: float) -> bool:
        """Whether it says so in that time."""
        assert self._zygote.stdout is not None
        heard = select.poll()  # the number of a file may be larger than `select` takes
        heard.register(self._zygote.stdout, select.POLLIN)
        return bool(heard.poll(within_s * 1_000))

    def died(self) -> str:
        """Wait until it has died; where that was."""
        where: str = self._said("dies")
        self._gone()
        return where

    def survive(self, work: threading.Thread) -> list[str]:
        """Start it again whenever it dies until `work` is done; where it died."""
        places = list[str]()
        while work.is_alive():
            if self.dies(within_s=0.02):
                places.append(self.died())
                self.start()
        return places

    def kill(self) -> None:
        """Kill it now, wherever it is."""
        os.kill(self.pid, signal.SIGKILL)
        self._gone()

    def _gone(self) -> None:
        assert self._said("ended") == signal.SIGKILL
        self.pid = 0

    def _tell(self, order: object) -> None:
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps(order) + "\n")
        self._zygote.stdin.flush()

    def _said(self, word: str) -> Any:
        assert self._zygote.stdout is not None
        said = json.loads(self._zygote.stdout.readline())
        assert list(said) == [word], said
        return said[word]


# ---- in the other process --------------------------------------------------------------------------------


def zygote() -> None:
    """Fork a server for each line on standard input, and tell when it has ended."""
    data, port = Path(sys.argv[1]), int(sys.argv[2])
    settings = Settings(data_dir=data, port=port, catalog=CATALOG)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _serve(settings, json.loads(line)["kill_at"])
        _say(ended=os.waitpid(pid, 0)[1])


def _serve(settings: Settings, kill_at: int | None) -> None:
    places = _Places(kill_at)
    signal.signal(signal.SIGUSR1, places.arm)
    vars(sqlite3)["connect"] = functools.partial(sqlite3.connect, factory=_counted(places))
    asyncio.run(serve(settings, lambda _: _say(serves=os.getpid())))
    os._exit(0)


class _Places:
    """Counts the places that were passed since it was armed."""

    def __init__(self, kill_at: int | None) -> None:
        self._left = 0 if kill_at is None else kill_at
        self._armed = False

    def arm(self, _: int, __: FrameType | None) -> None:
        self._armed = True
        _say(armed=True)

    def passed(self, side: str) -> None:
        if not self._armed:
            return
        self._left -= 1
        if self._left == 0:
            _say(dies=f"{side} {_transaction()}")
            os.kill(os.getpid(), signal.SIGKILL)


def _counted(places: _Places) -> type[sqlite3.Connection]:
    class Counted(sqlite3.Connection):
        writing = False

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql.startswith("BEGIN"):
                self.writing = sql == "BEGIN IMMEDIATE"
            alone = not self.in_transaction and sql.startswith(_ENDS)
            ends = alone or (sql == "COMMIT" and self.writing)
            if ends:
                places.passed("before")
            found = super().execute(sql, *values)
            if ends:
                places.passed("after")
            return found

    return Counted


def _transaction() -> str:
    """The name of the store's transaction that ends here, or what function is at work."""
    frame: FrameType | None = sys._getframe(3)
    assert frame is not None
    inner = frame.f_code.co_name
    while frame is not None:
        if frame.f_code.co_name == "write" and "name" in frame.f_locals:
            return inner if inner in ("_flush", "destroy") else str(frame.f_locals["name"])
        frame = frame.f_back
    return inner


def _say(**word: object) -> None:
    os.write(1, json.dumps(word).encode() + b"\n")
