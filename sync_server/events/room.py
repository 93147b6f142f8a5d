"""The room of events: what the doors ask of streams, webhooks and recipients, and who runs beside them."""

from __future__ import annotations

from dataclasses import dataclass

from sync_server.clock import Clock
from sync_server.devices.authority import Authority
from sync_server.devices.entropy import Entropy
from sync_server.events.bell import Bell
from sync_server.events.courier import Courier
from sync_server.events.keeping import EventKeeper
from sync_server.events.sets import Speaker
from sync_server.settings import Settings
from sync_server.store.protocol import Store


@dataclass(frozen=True, slots=True)
class Events:
    """What the doors need. The owner runs `courier.run()` as a task, and closes the bell first."""

    speaker: Speaker
    bell: Bell
    courier: Courier
    keeper: EventKeeper


def open_events(
    settings: Settings, clock: Clock, store: Store, authority: Authority, entropy: Entropy
) -> Events:
    """Put the room together and let it hear of every commit of `store` that moved the lane."""
    speaker, bell = Speaker(authority, settings.issuer), Bell()
    store.listen(lambda moved: bell.ring() if moved.lane else None)
    courier = Courier(store, speaker, settings, clock, entropy, bell)
    return Events(speaker, bell, courier, EventKeeper(store, settings))
