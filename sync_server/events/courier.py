"""The courier: carries events to push streams, webhooks and callbacks, until each is acknowledged.

One task for each destination that has something due, one event after the other; so a slow receiver delays
nobody else. An event is marked only after its receiver took it: killed in between, the server sends it again
with the same id. What fails waits longer each time; a webhook's letter is dead after its tries, a stream's
never.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections import Counter

import aiohttp

from sync_server.clock import Clock
from sync_server.devices.enrolment import encode
from sync_server.devices.entropy import Entropy
from sync_server.events.addresses import GuardedResolver, Reach
from sync_server.events.attempt import Outcome, Signing, attempt
from sync_server.events.bell import Bell
from sync_server.events.retry import Retry
from sync_server.events.sets import Speaker
from sync_server.settings import Settings
from sync_server.store.destinations import DestinationRow
from sync_server.store.events import Delivery, DeliveryState
from sync_server.store.protocol import Store

log = logging.getLogger(__name__)


class Courier:
    """Sends what is due. `run` is its life; everything else is taken up again from the store."""

    def __init__(
        self, store: Store, speaker: Speaker, settings: Settings, clock: Clock, entropy: Entropy, bell: Bell
    ) -> None:
        self._store, self._speaker, self._settings = store, speaker, settings
        self._clock, self._entropy, self._bell = clock, entropy, bell
        self._reach = Reach.of(settings.deliver_to)
        self._retry = Retry(settings.delivery_retry_us, settings.delivery_retry_longest_us)
        self._under_way: dict[str, asyncio.Task[None]] = {}
        """By destination."""
        self._hosts: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter({"delivered": 0, "failed": 0, "dead": 0})
        """What came of them since the start."""

    async def run(self) -> None:
        """Send what is due until the bell is closed, then let go of whatever is under way."""
        async with self._client() as client:
            try:
                while not self._bell.closed:
                    with contextlib.suppress(sqlite3.OperationalError):  # a store that is busy: next time
                        self._start(client)
                    await self._bell.heard(self._settings.events_look_us)
            finally:
                for task in self._under_way.values():
                    task.cancel()
                await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _client(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(self._reach),
            use_dns_cache=False,
            limit=self._settings.deliveries_at_once,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._settings.delivery_timeout_us / 1_000_000),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    def _start(self, client: aiohttp.ClientSession) -> None:
        """Begin with every destination that is ready, as far as its host and all together leave room."""
        while (room := self._settings.deliveries_at_once - len(self._under_way)) > 0:
            full = [h for h, n in self._hosts.items() if n >= self._settings.deliveries_per_host]
            with self._store.read() as tx:
                ready = tx.events.ready(self._clock.now_us(), list(self._under_way), full, room)
            started = 0
            for destination in ready:
                if self._hosts[destination.host] < self._settings.deliveries_per_host:
                    self._hosts[destination.host] += 1
                    task = asyncio.create_task(self._serve(client, destination), name="deliver events")
                    self._under_way[destination.id] = task
                    started += 1
            if started == 0 or started == len(ready) < room:
                return

    async def _serve(self, client: aiohttp.ClientSession, destination: DestinationRow) -> None:
        """Look after one destination, and leave the place to the next."""
        try:
            await self._deliver(client, destination)
            self._bell.ring()
        except sqlite3.OperationalError:
            log.warning("an event's delivery is not marked: the store takes no writes; it will be sent again")
        finally:
            self._hosts[destination.host] -= 1
            del self._under_way[destination.id]

    async def _deliver(self, client: aiohttp.ClientSession, destination: DestinationRow) -> None:
        """Send what is due, one after the other, until nothing is, or one attempt fails."""
        while True:
            now_us = self._clock.now_us()
            with self._store.read() as tx:
                delivery = tx.events.next_of(destination.id, now_us)
            if delivery is None:
                self._nothing_due(destination.id)
                return
            signing = Signing(self._settings.webhook_signature_us, encode(self._entropy(16)))
            outcome = await attempt(
                *(client, self._reach, self._speaker, destination, delivery.event, signing, now_us)
            )
            if not self._mark(destination, delivery, outcome):
                return

    def _nothing_due(self, destination: str) -> None:
        with self._store.write("delivered", durable=False) as tx:
            now = tx.destinations.find(destination)
            if now is not None:
                tx.events.tried(destination, now.failures, 0, self._clock.now_us(), now.error)

    def _mark(self, destination: DestinationRow, delivery: Delivery, outcome: Outcome) -> bool:
        """Write down what came of an attempt; whether to go on with this destination at once."""
        now_us, jti = self._clock.now_us(), delivery.event.jti
        with self._store.write("delivered", durable=False) as tx:
            now = tx.destinations.find(destination.id)
            if now is None:  # deleted meanwhile
                return False
            if outcome.delivered:
                self.attempts["delivered"] += 1
                tx.events.acknowledged(now.id, jti, now_us)
                tx.events.tried(now.id, 0, 0, now_us, "")
                tx.destinations.drop_done_callback(now.id)
                return now.status == "enabled"
            tries, failures = delivery.attempts + 1, now.failures + 1
            own_us = self._retry.wait_us(tries, self._chance(), outcome.retry_after_us)
            gate_us = self._retry.wait_us(failures, self._chance(), outcome.retry_after_us)
            dead = self._is_dead(now, delivery, tries, now_us)
            self.attempts["dead" if dead else "failed"] += 1
            state: DeliveryState = "dead" if dead else "waiting"
            tx.events.failed(now.id, jti, now_us, now_us + own_us, outcome.error, state)
            tx.events.tried(now.id, failures, now_us + gate_us, now_us, outcome.error)
        return False

    def _is_dead(self, destination: DestinationRow, delivery: Delivery, tries: int, now_us: int) -> bool:
        if destination.method not in ("webhook", "callback"):
            return False
        old_us = now_us - delivery.event.noticed_us
        return tries >= self._settings.webhook_attempts or old_us >= self._settings.webhook_give_up_us

    def _chance(self) -> float:
        return int.from_bytes(self._entropy(4), "big") / 2**32
