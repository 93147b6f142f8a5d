"""The channels that may be followed now, with their cursors: from what is stored, and from who is here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from edge_runtime.cache.database import Database
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.sync.shelf import personal_stand
from edge_runtime.wire import seal


class OpenChannels:
    """Those of one device.

    Args:
        may_follow: whether rows may come to rest under a data key now.
        here: whether a typed subject, who gave consent at some time, is here; else its channels stay closed.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        may_follow: Callable[[DataKey], bool],
        here: Callable[[str, int], bool],
    ) -> None:
        self._database, self._keyring, self._may_follow, self._here = database, keyring, may_follow, here

    def allowed(self) -> tuple[str, ...]:
        """The shared channels that enrolment names outright; of a pattern, the app says what it wants."""
        return tuple(p for p in self._keyring.identity.patterns if not set("*?[~") & set(p))

    def shared(self, wanted: Sequence[str]) -> dict[str, int]:
        """Cursors of the shared channels: those held, and those wanted (0 when new)."""
        with self._database.read() as tx:
            held = {name: state.cursor for name, state in tx.channels().items()}
        return {**dict.fromkeys(wanted, 0), **held}

    def personal(self, limit: int, wanted: Collection[str] = ()) -> dict[str, int]:
        """Cursors of the personal channels open now: numbered grants with live permission, newest first.

        Only of subjects who are here: the channel of one who is not closes, and nothing of it is erased.

        Args:
            wanted: typed subjects of whom rows are asked for, so that they need not be here.
        """
        every = list(self._keyring.every_key())
        numbered = (key for key in every if key.grant != 0 and self._may_follow(key))
        keys = [key for key in numbered if key.subject in wanted or self._here(key.subject, key.facts.at_us)]
        keys.sort(key=lambda k: k.grant, reverse=True)
        with self._database.read() as tx:
            return {self._channel_of(k): personal_stand(tx, k)[0] for k in keys[:limit]}

    def _channel_of(self, key: DataKey) -> str:
        return seal.personal_channel(self._keyring.pseudonym(key.subject), key.purpose)
