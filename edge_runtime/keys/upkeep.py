"""Upkeep of the keystore: compaction in steps, and rotation of every node's key."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Final

from edge_runtime.cache import failure
from edge_runtime.errors import StorageError
from edge_runtime.keys.compaction import Compaction, worth_it
from edge_runtime.keys.vault import Step, Vault, next_path, no_step

WASTE_LIMIT: Final = 8
"""With so many times the waste that is worth a compaction, a change does a step of it by itself."""


class Upkeep:
    """What is done beside the changes. The keyring's lock guards the vault.

    Args:
        lock: the keyring's.
    """

    def __init__(self, vault: Vault, lock: threading.RLock) -> None:
        self._vault, self._lock = vault, lock
        self._running: Compaction | None = None

    def clear(self) -> None:
        """Remove what a compaction that was cut short left behind."""
        if self._vault.path is not None:
            try:
                next_path(self._vault.path).unlink(missing_ok=True)
            except OSError as error:
                raise failure.of_file(error, "keystore") from None

    @property
    def waste_bytes(self) -> int:
        """How much of the keystore's file no living root reaches."""
        return self._vault.waste_bytes

    def advance(self) -> bool:
        """One step of a compaction, if one is worth it; whether there is more to do.

        A step copies a sixty-fourth of the keystore. Raises `StorageFull`, `StorageError`,
        `KeystoreMismatch` (a damaged node) with the keystore as it was.
        """
        with self._lock:
            if self._running is None:
                if not worth_it(self._vault):
                    return False
                self._running = Compaction(self._vault)
            return not self._done(self._running)

    def _done(self, running: Compaction) -> bool:
        done = True
        try:
            done = running.advance()
        finally:
            if done:
                self._running = None
        return done

    def grew(self) -> None:
        """A change was taken in: if nobody compacts, it is done here, so that the file stays bounded."""
        if worth_it(self._vault, WASTE_LIMIT):
            with suppress(StorageError):  # the change stands; the next one tries again
                self.advance()

    def rotate(self, step: Step = no_step) -> None:
        """Seal every node under a new key, so that no older copy of slot and keystore opens what comes now.

        The counter grows. Points for `step`: see `Compaction.advance`. Raises as `advance`.
        """
        with self._lock:
            if self._running is not None:
                self._running.give_up()
                self._running = None
            if self._vault.path is None:
                self._vault.commit(self._vault.trunk, {}, step, turn=True)
                return
            Compaction(self._vault, reseal=True, step=step).run()

    def close(self) -> None:
        """Leave a compaction that is under way."""
        if self._running is not None:
            self._running.give_up()
            self._running = None
