"""Which catalogs push no view that this server does not push: only for their devices a channel is whole.

A device judges by its own catalog what it may miss. Where that pushes a view which is on demand here by now,
rows of it stand in no channel, and their absence says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from edge_runtime.catalog import Catalog
from sync_server.catalog.registry import pushed
from sync_server.store.protocol import Store

REMEMBERED: Final = 256
"""Catalogs of devices that are remembered; then they are looked at again."""


class PushedViews:
    """What is known of the catalogs that devices name.

    Args:
        catalog: tells the catalog in force; without one no view is kept from anybody.
    """

    def __init__(self, store: Store, catalog: Callable[[], Catalog | None]) -> None:
        self._store, self._catalog = store, catalog
        self._active: Catalog | None = None
        self._known: dict[str, bool] = {}

    def cover(self, key: str) -> bool:
        """Whether every view that catalog `name@version` pushes is pushed here.

        One that was never registered here may push anything.
        """
        active = self._catalog()
        if active is None:
            return True
        if active is not self._active or len(self._known) >= REMEMBERED:
            self._active, self._known = active, {}
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = key == f"{active.name}@{active.version}" or self._look(key, active)
        return found

    def _look(self, key: str, active: Catalog) -> bool:
        name, _, version = key.rpartition("@")
        if not (version.isdecimal() and version.isascii() and len(version) < 19):
            return False
        with self._store.read() as tx:
            row = tx.catalog(name, int(version))
        if row is None:
            return False
        return pushed(Catalog.from_dict(msgspec.json.decode(row.document))) <= pushed(active)
