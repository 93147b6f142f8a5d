"""Running the application: one process per data directory, says where it listens, stops when asked."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Callable, Coroutine, Iterator

from aiohttp import web

from sync_server.api import rooms
from sync_server.api.connection import Runner
from sync_server.app import build_app
from sync_server.clock import Clock
from sync_server.errors import StoreInUse
from sync_server.settings import Settings

STOP_S = 10
"""Longest time that open requests get to finish after a stop was asked for."""


async def serve(settings: Settings, announce: Callable[[str], None], clock: Clock | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then let the sessions go in good order.

    `announce` is called with the url once requests are taken. `server.json` holds the url and pid while it
    runs. `clock` None is this machine's. Raises `StoreInUse`, and what `build_app` raises.
    """
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one(settings):
        app = build_app(settings, clock)
        runner = Runner.of(app, settings, access_log=None, shutdown_timeout=STOP_S)
        await runner.setup()
        try:
            site = web.TCPSite(runner, settings.host, settings.port)
            await site.start()
            url = _url(runner, settings)
            _write_address(settings, url)
            announce(url)
            stop = _stop_signals()
            await stop.get()
            await _unless_again(app[rooms.SYNC_DOOR].drain(), stop)
        finally:
            await runner.cleanup()
            settings.address_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Hold the data directory's lock; the kernel lets go of it however the process ends."""
    with (settings.data_dir / "server.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreInUse("another server runs on this data directory; nothing was opened") from None
        yield


def _url(runner: web.AppRunner, settings: Settings) -> str:
    address = runner.addresses[0]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{address[1]}"


def _write_address(settings: Settings, url: str) -> None:
    """Whole or not at all: scripts poll for this file."""
    written = settings.address_file.with_suffix(".new")
    written.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    written.replace(settings.address_file)


def _stop_signals() -> asyncio.Queue[None]:
    """Hears of SIGTERM and SIGINT; two are enough to know."""
    asked: asyncio.Queue[None] = asyncio.Queue(2)
    loop = asyncio.get_running_loop()

    def ask() -> None:
        if not asked.full():
            asked.put_nowait(None)

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ask)
    return asked


async def _unless_again(draining: Coroutine[None, None, None], stop: asyncio.Queue[None]) -> None:
    """Drain; who asks a second time does not want to wait for it."""
    both = {asyncio.ensure_future(draining), asyncio.ensure_future(stop.get())}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    for task in both:
        task.cancel()
    await asyncio.gather(*both, return_exceptions=True)
