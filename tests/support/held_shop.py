"""A runtime over every kind of feature and column, and the cold read that a held row is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import edge_runtime as er
from edge_runtime.serving.binding import Binding
from edge_runtime.serving.cache_source import CacheSource
from edge_runtime.serving.columns import Scope
from edge_runtime.serving.plan import cast_row
from edge_runtime.sync.personal_rows import row_slot, seal_row
from edge_runtime.wire import seal
from edge_runtime.wire.messages import Row
from tests.support.clock import ManualClock

DAY_US = 86_400_000_000
CATALOG = er.Catalog.load(Path(__file__).with_name("held_rows.toml"))


class Shop:
    """A runtime, and what a server would have stored in its cache."""

    def __init__(self, rt: er.Runtime, clock: ManualClock) -> None:
        self.rt, self.clock = rt, clock

    def put(self, view: str, entity: str, values: Mapping[str, object] | None, age_us: int = 0) -> None:
        """A row arrived, or (None) was deleted: as the replica stores it and tells of it."""
        rt, at_us = self.rt, self.clock.now_us() - age_us
        with rt._database.write("test") as tx:
            tx.set_channel("all", 1, 0)
            tx.set_whole("all", True)
            if values is None:
                tx.delete_row("all", entity, view, 1)
            else:
                row = Row(1, entity, view, 1, at_us, at_us, 0, False, msgspec.msgpack.encode(values))
                tx.put_row("all", row, bytes(16), 1)
        rt._source.changed([(f"{view}@1", entity)])

    def put_profile(self, user: str, values: Mapping[str, object]) -> None:
        """A personal row arrived under the subject's key; without one it is not taken."""
        rt, typed, at_us = self.rt, f"user:{user}", self.clock.now_us()
        key = rt._keyring.key(typed, "ads")
        if key is None:
            return
        on_wire = seal.subject_token(rt._keyring.pseudonym(typed))
        row = Row(1, on_wire, "profile", 1, at_us, at_us, key.grant, False, msgspec.msgpack.encode(values))
        slot = row_slot(key, "profile@1", on_wire)
        with rt._database.write("test") as tx:
            tx.put_personal_row(key.handle, slot, at_us // DAY_US, seal_row(key, slot, row, bytes(16)))
        rt._source.changed([("profile@1", typed)])

    def cold(self) -> CacheSource:
        """A source that has read nothing yet."""
        rt = self.rt
        return CacheSource(
            rt.catalog,
            rt._database,
            rt._keyring,
            rt.consent,
            rt._tracker,
            rt._states,
            rt._commit,
            self.clock,
            100,
        )

    def slowly(
        self, service: str, ids: Mapping[str, str], request: Mapping[str, object]
    ) -> tuple[bytes, list[int], list[str]]:
        """The row cell by cell, from a source that holds nothing: the meaning."""
        source, now_us = self.cold(), self.clock.now_us()
        binding = Binding(CATALOG.views, CATALOG.purposes, CATALOG.service(service))
        readings = [
            (request.get("ctx:hour"),) if g.view.source == "request" else g.read(source, ids, now_us)
            for g in binding.groups
        ]
        cells = [column.cell(Scope(source, ids, now_us), readings) for column in binding.columns]
        return (
            cast_row([number for cell in cells for number in cell.numbers]).tobytes(),
            [int(cell.status) for cell in cells for _ in cell.numbers],
            [cell.reason for cell in cells for _ in cell.numbers],
        )


@contextmanager
def shop(
    clock: ManualClock,
    *,
    held_rows: int = 4_096,
    live_states: int = 20_000,
    grace_us: int = 7 * DAY_US,
) -> Iterator[Shop]:
    """Opened in memory at this clock."""
    settings_ = er.Settings(held_rows=held_rows, live_states=live_states, grace_us=grace_us)
    with er.Runtime.open(
        ":memory:", catalog=CATALOG, key=er.KeyMemory(), clock=clock, settings=settings_
    ) as rt:
        yield Shop(rt, clock)


def told(records: list[dict[str, Any]]) -> list[str]:
    """Records to compare: arrays and NaN by their text."""
    return [repr({**one, "raw": np.asarray(one["raw"], dtype=object).tolist()}) for one in records]
