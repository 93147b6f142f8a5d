"""Tiers that a new catalog changed: rows walk in or out of their channels, so many a step.

A publish follows the active catalog at once. Rows that stood there before are brought after it by a walk over
the rows' ids, whose position is kept: a restart goes on where it stopped, and another catalog in the middle
makes the views that are half way walk again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from edge_runtime.catalog import Catalog
from edge_runtime.wire.printing import prints_only
from sync_server.catalog.registry import Registry
from sync_server.features.placing import Placing
from sync_server.store.protocol import ReadTx, Store, WriteTx

META: Final = "tiers"


@prints_only("after")
class Standing(msgspec.Struct, frozen=True):
    """By which tiers the rows stand now."""

    pushed: dict[str, bool | None] = {}
    """View key -> whether its rows stand in channels; None: some do."""
    walk: dict[str, bool] = {}
    """View key -> whether its rows are on their way in (or out)."""
    after: int = 0
    """Id of the last row looked at."""


def wanted(catalog: Catalog) -> dict[str, bool]:
    """View key -> whether its rows are pushed, of the views that a server fills."""
    return {v.key: v.tier == "hot" for v in catalog.model.views.values() if v.source == "server"}


def begin(standing: Standing, goal: Mapping[str, bool]) -> Standing:
    """Where to go on from: the same walk, a new one, or none when all is as it should be. Pure.

    Rows of a view never seen before stand in channels, if there are any: nothing but a tier took them out.

    >>> begin(Standing({"a@1": True}), {"a@1": False, "b@1": True})
    Standing(pushed={'a@1': None, 'b@1': True}, walk={'a@1': False}, after=0)
    """
    pushed = {**dict.fromkeys(goal, True), **standing.pushed}
    off = {key: hot for key, hot in goal.items() if pushed[key] is not hot}
    if off and off.items() <= standing.walk.items():
        return Standing(pushed, off, standing.after)
    return Standing({**pushed, **dict.fromkeys(off)}, off)


def arrived(going: Standing) -> Standing:
    """After the last row. Pure."""
    return Standing({**going.pushed, **going.walk})


class TierWalk:
    """Brings rows after the active catalog's tiers."""

    def __init__(self, store: Store, registry: Registry, chunk_rows: int) -> None:
        self._store, self._registry, self._chunk_rows = store, registry, chunk_rows

    def step(self, now_us: int) -> bool:
        """Look at the next rows, in one transaction, and move those that stand wrong; whether more follow."""
        catalog = self._registry.active_or_none
        if catalog is None:
            return False
        with self._store.read() as reading:
            stored, coming = _stored(reading), reading.rows_coming
        going = begin(stored, wanted(catalog))
        if going == stored and not going.walk and not coming:
            return False
        with self._store.write("tiers") as tx:
            last = self._move(tx, going, Placing(catalog.model.views), now_us) if going.walk else None
            now = arrived(going) if last is None else Standing(going.pushed, going.walk, last)
            tx.set_meta(META, msgspec.json.encode(now))
            tx.rows_come_in(coming=any(now.walk.values()))
        return last is not None

    def _move(self, tx: WriteTx, going: Standing, placing: Placing, now_us: int) -> int | None:
        """Returns the id of the last row looked at; None when there was none after it."""
        rows = tx.rows_after(going.after, self._chunk_rows)
        for row in rows:
            if f"{row.view}@{row.version}" in going.walk and not row.deleted:
                tx.move_row(row, placing.of_row(tx, row), now_us)
        return rows[-1].id if len(rows) == self._chunk_rows else None


def _stored(tx: ReadTx) -> Standing:
    raw = tx.meta(META)
    return Standing() if raw is None else msgspec.json.decode(raw, type=Standing)
