"""The room of events: what the doors ask of streams, webhooks and recipients, and who runs beside them."""

from __future__ import annotations

from dataclasses import dataclass

from sync_server.clock import Clock
from sync_server.devices.authority import Authority
from sync_server.devices.entropy import Entropy
from sync_server.events.bell import Bell
from sync_server.events.courier import Courier
from sync_server.events.sets import Speaker
from sync_server.settings import Settings
from sync_server.store.protocol import ReadTx, Store


@dataclass(frozen=True, slots=True)
class Events:
    """What the doors need. The owner runs `courier.run()` as a task, and closes the bell first."""

    speaker: Speaker
    bell: Bell
    courier: Courier


def open_events(
    settings: Settings, clock: Clock, store: Store, authority: Authority, entropy: Entropy
) -> Events:
    """Put the room together and let it hear of every commit of `store` that moved the lane."""
    speaker, bell = Speaker(authority, settings.issuer), Bell()
    store.listen(lambda moved: bell.ring() if moved.lane else None)
    return Events(speaker, bell, Courier(store, speaker, settings, clock, entropy, bell))


def warnings(tx: ReadTx, settings: Settings, now_us: int) -> list[str]:
    """What an operator should know about events; names destinations, never subjects."""
    counts = tx.events.count()
    said = []
    if counts["events"] > settings.undelivered_events:
        said.append(f"{counts['events']} events wait for an acknowledgement; none is dropped")
    if counts["dead"]:
        said.append(f"{counts['dead']} deliveries are dead: see /v1/webhook-deliveries?state=dead")
    for row in tx.destinations.registered():
        if row.failing_us is not None and now_us - row.failing_us >= settings.stream_failing_us:
            said.append(f"nothing gets through to {row.id}: {row.error}")
    overdue = tx.recipients.count(now_us)["overdue"]
    if overdue:
        said.append(f"{overdue} answers of onward recipients are overdue")
    return said
