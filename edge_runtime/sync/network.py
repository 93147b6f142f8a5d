"""The network as a link uses it: one HTTP client, and the carriers it opens. The only sockets of the device
besides the one of enrolment.

aiohttp is imported where it is used, so that a runtime that never syncs never loads it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from edge_runtime.sync.carrier import Carrier, Network, Spend, Way
from edge_runtime.sync.settings import SyncSettings

if TYPE_CHECKING:
    from aiohttp import ClientSession

PATH = "/v1/sync"


class HttpNetwork:
    """See `carrier.Network`."""

    def __init__(self, http: ClientSession, url: str, settings: SyncSettings) -> None:
        from edge_runtime.sync.long_poll import Waits

        self._http, self._url, self._settings = http, f"{url}{PATH}", settings
        self._waits = Waits(settings)

    def open(self, way: Way, spend: Spend) -> AbstractAsyncContextManager[Carrier]:
        from edge_runtime.sync.long_poll import open_long_poll
        from edge_runtime.sync.web_socket import open_web_socket

        if way == "websocket":
            return open_web_socket(self._http, self._url, self._settings, spend)
        return open_long_poll(self._http, self._url, self._settings, spend, self._waits)


@asynccontextmanager
async def open_network(url: str, settings: SyncSettings) -> AsyncIterator[Network]:
    """The network, for as long as a link runs."""
    import aiohttp

    async with aiohttp.ClientSession(trust_env=False) as http:
        yield HttpNetwork(http, url, settings)
