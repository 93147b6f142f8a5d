"""The channels that may be followed now, with their cursors: from what is stored, and from who is here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from edge_runtime.cache.database import Database
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.sync.shelf import personal_stand
from edge_runtime.wire import seal

NEVER_US: Final = 1 << 62
"""Later than any clock tells."""


class OpenChannels:
    """Those of one device.

    Args:
        may_follow: whether rows may come to rest under a data key now.
        here_until_us: up to when a typed subject, who gave consent at some time, is here unless it is seen
            again; after that its channels close.
        moved: tells what differs once keys, permissions or who came and left may have.
        now_us: the clock by which that is told.
        closed: called with the data keys of channels that are open no more, before this is told of; at the
            first look, with those of all that are not open, for an earlier run may have followed them.
        fed: purposes of which the server has rows to send; channels of others are open while there is room.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        may_follow: Callable[[DataKey], bool],
        here_until_us: Callable[[str, int], int],
        moved: Callable[[], object],
        now_us: Callable[[], int],
        closed: Callable[[Sequence[DataKey]], None],
        fed: Collection[str],
    ) -> None:
        self._database, self._keyring, self._may_follow = database, keyring, may_follow
        self._here_until_us, self._moved, self._now_us = here_until_us, moved, now_us
        self._closed, self._fed = closed, fed
        self._seen: object = None
        """What `moved` said at the last look at all keys, which reads the whole keystore."""
        self._holds_us = range(0)
        """The times at which that look still holds."""
        self._open: tuple[tuple[str, str], ...] | None = None
        """(typed subject, purpose) of the channels that were open then; None before the first look."""

    def allowed(self) -> tuple[str, ...]:
        """The shared channels that enrolment names outright; of a pattern, the app says what it wants."""
        return tuple(p for p in self._keyring.identity.patterns if not set("*?[~") & set(p))

    def shared(self, wanted: Sequence[str]) -> dict[str, int]:
        """Cursors of the shared channels: those held, and those wanted (0 when new)."""
        with self._database.read() as tx:
            held = {name: state.cursor for name, state in tx.channels().items()}
        return {**dict.fromkeys(wanted, 0), **held}

    def personal(self, limit: int, wanted: Collection[str] = ()) -> dict[str, int]:
        """Cursors of the personal channels open now: numbered grants with live permission.

        Of too many, those under purposes that bring rows come first, and of these the newest grants.

        Only of subjects who are here: the channel of one who is not closes, and nothing of it is erased.

        Args:
            wanted: typed subjects of whom rows are asked for, so that they need not be here.
        """
        seen, now_us = (self._moved(), limit, frozenset(wanted)), self._now_us()
        if seen != self._seen or now_us not in self._holds_us:
            self._look(limit, wanted, now_us)
            self._seen = seen
        keys = [key for pair in self._open or () if (key := self._keyring.key(*pair)) is not None]
        with self._database.read() as tx:
            return {self._channel_of(key): personal_stand(tx, key)[0] for key in keys}

    def _look(self, limit: int, wanted: Collection[str], now_us: int) -> None:
        every = list(self._keyring.every_key())
        numbered = [key for key in every if key.grant != 0 and self._may_follow(key)]
        until = [(self._until_us(key, wanted), key) for key in numbered]
        here = [(us, key) for us, key in until if us >= now_us]
        here.sort(key=lambda one: (one[1].purpose in self._fed, one[1].grant), reverse=True)
        now_open = tuple((key.subject, key.purpose) for _, key in here[:limit])
        self._close(every, now_open)
        self._open = now_open
        self._holds_us = range(now_us, min((us for us, _ in here), default=NEVER_US) + 1)

    def _close(self, every: Iterable[DataKey], now_open: Collection[tuple[str, str]]) -> None:
        still = frozenset(now_open)
        was_open = None if self._open is None else frozenset(self._open)
        pairs = ((key, (key.subject, key.purpose)) for key in every if key.grant != 0)
        shut = [(key, pair) for key, pair in pairs if pair not in still]
        gone = [key for key, pair in shut if was_open is None or pair in was_open]
        if gone:
            self._closed(gone)

    def _until_us(self, key: DataKey, wanted: Collection[str]) -> int:
        return NEVER_US if key.subject in wanted else self._here_until_us(key.subject, key.facts.at_us)

    def _channel_of(self, key: DataKey) -> str:
        return seal.personal_channel(self._keyring.pseudonym(key.subject), key.purpose)
