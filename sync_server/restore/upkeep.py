"""What a server does by itself for its journals and its restore, every second or so."""

from __future__ import annotations

from sync_server.journal.journal import Journal
from sync_server.restore.backup import covered
from sync_server.restore.catching_up import CatchingUp
from sync_server.settings import HOUR_US, Settings


class RestoreUpkeep:
    """A chore of the housekeeping."""

    def __init__(
        self, catching_up: CatchingUp, journal: Journal, incarnation: bytes, settings: Settings
    ) -> None:
        self._catching_up, self._journal = catching_up, journal
        self._incarnation, self._settings = incarnation, settings
        self._retired_us: int | None = None

    def step(self, now_us: int) -> bool:
        """Open if everybody was heard, try failing journals, let go of what backups hold; nothing follows."""
        self._catching_up.settle()
        self._journal.beat()
        if self._retired_us is None or not 0 <= now_us - self._retired_us < HOUR_US:
            self._retired_us = now_us
            size = covered(self._settings, self._incarnation, self._settings.journal_backups)
            if size:
                self._journal.retire(size)
        return False
