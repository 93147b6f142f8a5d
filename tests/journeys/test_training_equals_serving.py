"""What a model is trained on is what it is served: `er.replay` equals the live `Runtime.vector`, bit for bit.

A real runtime on an encrypted file, with server rows in its database, events that arrive late and twice, and
a restart in the middle; then the same events and rows, shuffled, replayed at the times that were read.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import edge_runtime as er
from edge_runtime.sync.personal_rows import Stand, row_slot, seal_row, seal_stand, stand_slot
from edge_runtime.wire.messages import Row
from edge_runtime.wire.seal import subject_token
from tests.support.broken_catalog import SHOP
from tests.support.clock import ManualClock
from tests.support.shop import BASE_US

CATALOG = er.Catalog.load(SHOP)
PURPOSE, SECOND_US, DAY_US = "personalization", 1_000_000, 86_400_000_000
USERS, ITEMS = ("alice", "bob", "carol"), tuple(f"item-{n}" for n in range(6))
STEPS = 60
Table = dict[str, Any]


def opened(folder: Path, clock: ManualClock) -> er.Runtime:
    key = er.KeyFile(folder / "device.key")
    return er.Runtime.open(folder / "cache.db", catalog=CATALOG, key=key, clock=clock)


def deliver(rt: er.Runtime, given: Table) -> None:
    """Put a row where a delta would have put it, and tell readers as the replica does."""
    view, entity = CATALOG.view(given["view"]), given["entity"]
    at_us, values = round(given["event_time"] * SECOND_US), msgspec.msgpack.encode(given["values"])
    row = Row(1, entity, view.name, view.version, at_us, at_us, 0, False, values)
    with rt._database.write("test") as tx:
        if not entity.startswith("user:"):
            tx.set_channel("all", 1, 0)
            tx.set_whole("all", True)
            tx.put_row("all", row, bytes(16), 1)
        else:
            key = rt._keyring.key(entity, PURPOSE)
            assert key is not None
            token = subject_token(rt._keyring.pseudonym(entity))
            slot, stand = row_slot(key, view.key, token), stand_slot(key)
            row = msgspec.structs.replace(row, entity=token, grant=1)
            tx.put_personal_row(key.handle, slot, at_us // DAY_US, seal_row(key, slot, row, bytes(16)))
            sealed = seal_stand(key, stand, Stand(1, bytes(16)))
            tx.put_personal_row(key.handle, stand, at_us // DAY_US, sealed)
    rt._source.changed([(view.key, entity)])


def event(chance: random.Random, number: int, at_us: int) -> Table:
    kind = chance.choice(("view", "view", "buy"))
    named = {"type": kind, "user": chance.choice(USERS), "item": chance.choice(ITEMS)}
    return {**named, "price": chance.randrange(1, 900) / 100, "id": f"e{number}", "at": at_us / SECOND_US}


def rows_at(chance: random.Random, at_us: int) -> Iterator[Table]:
    """Some new rows, as they are published at `at_us`."""
    item, at = f"item:{chance.choice(ITEMS)}", at_us / SECOND_US
    if chance.random() < 0.5:
        others = {other: chance.random() for other in chance.sample(ITEMS, 3)}
        values: Table = {"popularity": chance.random(), "co_bought": others}
        yield {"view": "item_stats", "entity": item, "event_time": at, "values": values}
    if chance.random() < 0.3:
        values = {"embedding": [chance.uniform(-1, 1) for _ in range(16)]}
        yield {"view": "item_vec", "entity": item, "event_time": at, "values": values}
    if chance.random() < 0.2:
        user, values = f"user:{chance.choice(USERS)}", {"country": chance.choice(("UK", "DE", "FR"))}
        yield {"view": "profile", "entity": user, "event_time": at, "values": values}


class Served:
    """What happened, and what was served meanwhile."""

    def __init__(self) -> None:
        self.events: list[Table] = []
        self.rows: list[Table] = []
        self.points: list[Table] = []
        self.vectors: list[er.Vector] = []


def serve(folder: Path, clock: ManualClock, chance: random.Random) -> Served:
    """A few days of a kiosk: rows come, events come in any order within the lateness, vectors are read."""
    told = Served()
    rt = opened(folder, clock)
    for user in USERS:
        rt.consent.give(user, [PURPOSE], notice="2026-11")
    for step in range(STEPS):
        clock.advance(us=chance.choice((90 * SECOND_US, 700 * SECOND_US, 3 * 3600 * SECOND_US)))
        if step == STEPS // 2:
            rt.close()
            rt = opened(folder, clock)
        for row in rows_at(chance, clock.now_us()):
            deliver(rt, row)
            told.rows.append(row)
        for _ in range(chance.randrange(5)):
            at_us = clock.now_us() - chance.randrange(55 * SECOND_US)
            told.events.append(event(chance, len(told.events), at_us))
            assert rt.track_many([told.events[-1]] * 2).duplicate == 1
        point = {"user": chance.choice(USERS), "item": chance.choice(ITEMS)}
        request = {"ctx:hour": chance.randrange(24)} if step % 3 else None
        told.vectors.append(rt.vector("ranker", request=request, **point))
        told.points.append({**point, "at": clock.now_us() / SECOND_US, "request": request})
    rt.close()
    return told


def test_law_8_a_replayed_service_has_the_bits_that_the_runtime_served(tmp_path: Path) -> None:
    chance = random.Random(20261122)
    told = serve(tmp_path, ManualClock(BASE_US), chance)
    chance.shuffle(told.events)
    chance.shuffle(told.rows)
    table = er.replay(CATALOG, told.events, points=told.points, service="ranker", rows=told.rows)
    matrix = table.to_numpy()
    assert isinstance(matrix, np.ndarray)
    seen: set[int] = set()
    for n, vector in enumerate(told.vectors):
        assert matrix[n].tobytes() == vector.values.tobytes(), (n, vector.explain(), matrix[n])
        seen |= set(vector.status.tolist())
    assert {er.Status.PRESENT, er.Status.DEFAULTED, er.Status.EXPIRED} <= seen
    replayed = [[table.status(name)[n] for name in table.names] for n in range(STEPS)]
    assert [settled(row) for row in replayed] == [settled(v.status.tolist()) for v in told.vectors]


def settled(statuses: list[int]) -> list[int]:
    """Replay knows no channels: a row that never came was not found, whether it was asked for or not."""
    return [er.Status.NOT_FOUND if s == er.Status.NOT_SYNCED else s for s in statuses]
