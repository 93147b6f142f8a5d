"""Where the rows of each channel rest, and under which key: what is held, and the place for what comes.

A shared channel's rows rest under the page key alone, a subject's under the data key of (subject, purpose):
no key, no place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from edge_runtime.cache.database import Database
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.records import ChannelState
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.clock import Clock
from edge_runtime.consent.decisions import Consents
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.sync import subranges
from edge_runtime.sync.channel_name import Channel, Personal
from edge_runtime.sync.shelf import PersonalShelf, PlainShelf, Shelf, personal_state
from edge_runtime.sync.subranges import Member
from edge_runtime.wire.failure import WireFailure

T = TypeVar("T")
AT_ONCE: Final = 256
"""Most channels that are looked at, or doubted, in one transaction."""


class ChannelShelves:
    """The shelves of one cache.

    Args:
        clock: tells the day on which a row was brought.
    """

    def __init__(self, database: Database, keyring: Keyring, consents: Consents, clock: Clock) -> None:
        self._database, self._keyring, self._consents, self._clock = database, keyring, consents, clock

    def key(self, channel: Channel) -> DataKey | None:
        """The data key of a personal channel, if there is one; None for any other."""
        if not isinstance(channel, Personal):
            return None
        return self._keyring.by_pseudonym(channel.subject, channel.purpose)

    def shelf(self, tx: WriteTransaction, channel: Channel, key: DataKey | None) -> Shelf | None:
        """Where rows of a channel go; None for a personal channel without a key.

        Args:
            key: of the channel, as `key` told it in this transaction.
        """
        if not isinstance(channel, Personal):
            return PlainShelf(tx, channel.name, self._clock.now_us())
        return None if key is None else PersonalShelf(tx, key)

    def state(self, channel: Channel) -> ChannelState | None:
        """How far this device is in it; None for a personal channel without a key."""
        key, nothing = self.key(channel), ChannelState(0, 0)
        with self._database.read() as tx:
            if not isinstance(channel, Personal):
                return tx.channel(channel.name) or nothing
            return None if key is None else personal_state(tx, key) or nothing

    def look(self, channel: Channel, question: Callable[[Iterator[Member]], T]) -> T:
        """What `question` says of the rows that a channel brought.

        Raises `WireFailure("no_permission")` for a personal channel without a key.
        """
        key = self.key(channel)
        with self._database.read() as tx:
            if not isinstance(channel, Personal):
                return question(tx.places_in_channel(channel.name))
            if key is None:
                raise WireFailure("no_permission", "no data key for this channel")
            return question(subranges.personal_members(tx, key))

    def doubt(self, keys: Sequence[DataKey]) -> list[DataKey]:
        """Forget whether subjects' channels are whole; returns the keys of those where it was known."""
        doubted: list[DataKey] = []
        for start in range(0, len(keys), AT_ONCE):
            part = keys[start : start + AT_ONCE]
            with self._database.read() as tx:
                judged = _judged(tx, part)
            if not judged:
                continue
            with self._database.write("whole") as tx:
                judged = _judged(tx, judged)  # of one that was erased meanwhile nothing may be written
                for key in judged:
                    PersonalShelf(tx, key).judge(None)
            doubted += judged
        return doubted

    def drop(self, channel: Channel) -> None:
        """Delete a channel's rows and cursor."""
        with self._database.write("drop_channel") as tx:
            key = self.key(channel)
            if key is not None:
                tx.clear_personal_rows(key.handle, fetched=True)
            else:
                tx.drop_channel(channel.name)

    def may_follow(self, key: DataKey) -> bool:
        """Law 1: whether rows of a subject may come to rest under this key now."""
        return key.resting and self._consents.permission(key.subject, key.purpose).allowed

    def check_permission(self, channel: Channel) -> None:
        """Raise `WireFailure("no_permission")` unless rows of a channel may come to rest here now."""
        key = self.key(channel)
        if isinstance(channel, Personal) and (key is None or not self.may_follow(key)):
            raise WireFailure("no_permission", "no live permission for this channel")


def _judged(tx: ReadTransaction, keys: Iterable[DataKey]) -> list[DataKey]:
    """Those of whose channels it is known whether they are whole."""
    states = ((key, personal_state(tx, key)) for key in keys)
    return [key for key, state in states if state is not None and state.whole is not None]
