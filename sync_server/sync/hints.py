"""Hints that something moved. A lost one only delays: the log is the truth, and heads are polled besides.

There is no queue. A subscription is a flag and a set of channel names; hinting twice is hinting once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sync_server.store.records import Committed
from sync_server.sync.wake import Wake


class Subscription:
    """One session's ear. `wake` is set when anything it listens to moved."""

    __slots__ = ("_forget", "channels", "device", "device_id", "rounds", "wake")

    def __init__(self, forget: Callable[[Subscription], None]) -> None:
        self.wake = Wake()
        self.channels: list[str] = []
        self.rounds = False
        """Whether aggregate rounds moved since it was last lowered."""
        self.device_id = ""
        self.device = False
        """Whether what its device may do changed since it was last lowered."""
        self._forget = forget

    def close(self) -> None:
        """Listen no more."""
        self._forget(self)


class Hints:
    """One per node. Call it in the event loop's thread, after the commit."""

    def __init__(self) -> None:
        self._all: set[Subscription] = set()
        self._by_channel: dict[str, set[Subscription]] = {}
        self._listeners: list[Callable[[str | None], None]] = []

    def listen(self, listener: Callable[[str | None], None]) -> None:
        """Call `listener` before any session wakes: with a channel's name, or None when the lane moved."""
        self._listeners.append(listener)

    def subscribe(self) -> Subscription:
        """A new ear: it hears of the lane and of rounds, and of the channels it follows."""
        subscription = Subscription(self._drop)
        self._all.add(subscription)
        return subscription

    def follow(self, subscription: Subscription, channel: str) -> None:
        """Hear of `channel` too."""
        if channel not in subscription.channels:
            subscription.channels.append(channel)
        self._by_channel.setdefault(channel, set()).add(subscription)

    def unfollow(self, subscription: Subscription, channel: str) -> None:
        """Hear of `channel` no more."""
        if channel in subscription.channels:
            subscription.channels.remove(channel)
        ears = self._by_channel.get(channel)
        if ears is not None:
            ears.discard(subscription)
            if not ears:
                del self._by_channel[channel]

    @property
    def followed(self) -> Iterable[str]:
        """Channels that anybody follows now."""
        return tuple(self._by_channel)

    def committed(self, moved: Committed) -> None:
        """A transaction moved the lane or channels; for `Store.listen`."""
        if moved.lane:
            self.lane_moved()
        for device_id in moved.devices:
            self.device_moved(device_id)
        for channel in moved.channels:
            self.channel_moved(channel)

    def lane_moved(self) -> None:
        """A decision was recorded."""
        self._tell(None)
        for subscription in self._all:
            subscription.wake.lane = True
            subscription.wake.set()

    def channel_moved(self, name: str) -> None:
        """Rows of a channel changed."""
        self._tell(name)
        for subscription in self._by_channel.get(name, ()):
            subscription.wake.moved(name)

    def device_moved(self, device_id: str | None) -> None:
        """What a device may do changed; None: perhaps that of any."""
        for subscription in self._all:
            if device_id is None or subscription.device_id == device_id:
                subscription.device = True
                subscription.wake.set()

    def rounds_moved(self) -> None:
        """An aggregate round opened or closed."""
        for subscription in self._all:
            subscription.rounds = True
            subscription.wake.set()

    def _tell(self, name: str | None) -> None:
        for listener in self._listeners:
            listener(name)

    def _drop(self, subscription: Subscription) -> None:
        self._all.discard(subscription)
        for channel in tuple(subscription.channels):
            self.unfollow(subscription, channel)
