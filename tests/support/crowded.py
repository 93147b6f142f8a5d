"""A device whose cache is filled with rows, and which of them still have their values."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable

import edge_runtime as er
from edge_runtime.cache.records import LET_GO
from edge_runtime.sync.shelf import PlainShelf
from edge_runtime.wire.messages import Row
from tests.support.sweeping import QUIET, Kiosk, P, packed

MIB = 1 << 20


def limited(limit_bytes: int) -> er.Settings:
    return dataclasses.replace(QUIET, cache_limit_bytes=limit_bytes)


def put_many(kiosk: Kiosk, view: str, numbers: Iterable[int], size: int = 600) -> None:
    """As a delta brings them: with values if there is room, each a moment after the other."""
    rng = random.Random(5)
    with kiosk.rt._database.write("test") as tx:
        tx.set_channel("all", 1, 0)
        keeps = kiosk.rt._upkeep.room.keeps(tx)
        for n in numbers:
            kiosk.clock.advance(us=1)
            at_us = kiosk.clock.now_us()
            values = packed({"text": f"{n}" + rng.randbytes(size // 2).hex()}) if keeps else LET_GO
            row = Row(n, f"item:{n}", view, 1, at_us, at_us, 0, False, values)
            PlainShelf(tx, "all", at_us).put([row], [n.to_bytes(16, "big")])


def put_profiles(kiosk: Kiosk, users: Iterable[str], size: int = 600) -> None:
    for user in users:
        kiosk.give(user, P)
        kiosk.put_personal("badge", user, {"level": 1, "pad": "x" * size})


def held(kiosk: Kiosk, view: str) -> set[int]:
    """Which rows about nobody still have their values."""
    with kiosk.rt._database.read() as tx:
        rows = list(tx.rows_of_view(view, 1))
    return {int(row.entity.partition(":")[2]) for row in rows if len(row.values) > len(LET_GO)}


def profiles(kiosk: Kiosk, users: Iterable[str]) -> set[str]:
    """Which of these subjects' rows still have their values."""
    status = {user: kiosk.read("badge:level", user=user).status for user in users}
    assert set(status.values()) <= {er.Status.PRESENT, er.Status.NOT_SYNCED}
    return {user for user, found in status.items() if found is er.Status.PRESENT}
