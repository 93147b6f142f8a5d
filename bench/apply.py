"""How fast do delta frames become rows of the encrypted cache, beside the same upserts on plain apsw?

The frames are those of the server: rows published to its store, read and encoded by its fan-out. The device
decodes each, checks it against catalog and consent, and upserts rows, digest and cursor in one durable
transaction, then says which rows memory may no longer believe. The limit is plain apsw: the rows as tuples
beforehand, the same tables, transactions and settings, no cipher, nothing decoded or checked. Both take turns
with the same part of a stream; a personal channel is sealed row by row under its subject's key.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import apsw
import msgspec

import edge_runtime as er
from bench.apply_feed import CATALOG, affinity_publishes, customers, item_publishes
from bench.cache_stores import Ours, Settings
from bench.measure import seconds, table
from bench.pair import PURPOSE, ServerRooms, converse, device
from bench.streams import Flat, find
from edge_runtime.cache.schema import SCHEMA
from edge_runtime.sync.personal_rows import Delivered, Stand
from edge_runtime.sync.replica import Replica
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.seal import personal_channel, subject_token

EVENTS_EACH, PUBLISHES, CUSTOMERS, PURCHASES_EACH = 4_000, 80, 48, 250
WARM_UP: Final = 2
SHARED, PERSONAL = "shared", "personal"
HASH: Final = bytes(16)
DAY: Final = 20_000
SHARED_SQL: Final = (
    "INSERT INTO feature(entity, view, version, channel, seq, event_time_us, created_us, vals, hash,"
    " used_day) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO UPDATE SET seq = ?5,"
    " event_time_us = ?6, created_us = ?7, vals = ?8, hash = ?9, used_day = ?10"
    " WHERE (?6, ?7, ?5) >= (event_time_us, created_us, seq)"
)
CURSOR_SQL: Final = (
    "INSERT INTO channel(name, cursor, digest) VALUES(?, ?, ?)"
    " ON CONFLICT DO UPDATE SET cursor = excluded.cursor, digest = excluded.digest"
)
PERSONAL_SQL: Final = (
    "INSERT INTO personal(handle, slot, day, sealed) VALUES(?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET day = excluded.day, sealed = excluded.sealed"
)
_pack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Part:
    """What one publish brings to the device."""

    frames: list[bytes]
    deltas: list[m.Delta]
    """The same frames, decoded, for the limit."""

    @property
    def rows(self) -> int:
        """Rows in all frames."""
        return sum(len(delta.rows) for delta in self.deltas)


@dataclass(slots=True)
class Cost:
    """Seconds and rows of one kind of channel, the warm-up left out."""

    ours_s: list[float] = field(default_factory=list)
    plain_s: list[float] = field(default_factory=list)
    rows: int = 0
    features: int = 0
    frame_bytes: int = 0
    json_bytes: int = 0

    def take(self, part: Part) -> None:
        """Count what one measured part brought."""
        self.rows += part.rows
        self.frame_bytes += sum(map(len, part.frames))
        for delta in part.deltas:
            values = [msgspec.msgpack.decode(row.values) for row in delta.rows]
            self.features += sum(map(len, values))
            self.json_bytes += len(msgspec.json.encode(_plain(delta, values)))

    def numbers(self) -> dict[str, float | int]:
        """What goes into the result."""
        ours, plain = sum(self.ours_s), sum(self.plain_s)
        return {
            "rows": self.rows,
            "rows_per_s": round(self.rows / ours),
            "plain_rows_per_s": round(self.rows / plain),
            "ratio_to_plain": round(plain / ours, 2),
            "wire_bytes_per_feature": round(self.frame_bytes / self.features, 2),
            "json_bytes_per_feature": round(self.json_bytes / self.features, 2),
        }


def run(
    events_each: int = EVENTS_EACH, publishes: int = PUBLISHES, people: int = CUSTOMERS
) -> dict[str, object]:
    """Measure, print the table; returns the numbers. A small number of publishes shows whether it runs."""
    costs = {SHARED: Cost(), PERSONAL: Cost()}
    found = find("online_retail")
    with TemporaryDirectory() as name:
        folder = Path(name)
        catalog, server = er.Catalog.from_toml(CATALOG), ServerRooms(folder / "server")
        with device(folder / "device", catalog, server) as rt:
            limit = Limit(folder / "plain.db", _settings(folder))
            purchases = customers(found, people)
            for subject in purchases:
                rt.consent.give(subject, [PURPOSE], notice="bench")
            replica = converse(server, rt)
            shared = shared_parts(server, item_publishes(found, events_each), publishes)
            _race(replica, limit, shared, costs[SHARED])
            personal = personal_parts(server, purchases)
            _race(replica, limit, personal, costs[PERSONAL])
            _check(server, replica, {part.deltas[0].channel for part in (*shared, *personal)})
            limit.close()
        server.store.close()
    numbers = {kind: cost.numbers() for kind, cost in costs.items()}
    result: dict[str, object] = {
        **{key: numbers[SHARED][key] for key in numbers[SHARED] if key != "rows"},
        "personal": numbers[PERSONAL],
    }
    print(_report(numbers, found.what))
    return result


def main() -> None:
    """Print the table and the JSON line."""
    print(json.dumps(run()))


def shared_parts(server: ServerRooms, publishes: Iterable[list[m.Row]], count: int) -> list[Part]:
    """Frames of `all`, publish by publish; the first begins a snapshot."""
    parts: list[Part] = []
    cursor = 0
    for rows in islice(publishes, count):
        server.put(rows)
        part, cursor = _part(server, "all", cursor)
        parts.append(part)
    return parts


def personal_parts(server: ServerRooms, purchases: Mapping[str, list[Flat]]) -> list[Part]:
    """Frames of every customer's channel, customer after customer."""
    parts: list[Part] = []
    for subject, events in purchases.items():
        pseudonym = server.authority.pseudonym(subject)
        channel, cursor = personal_channel(pseudonym, PURPOSE), 0
        for rows in affinity_publishes(subject_token(pseudonym), events, PURCHASES_EACH):
            server.put_personal(subject, rows)
            part, cursor = _part(server, channel, cursor)
            parts.append(part)
    return parts


def _part(server: ServerRooms, channel: str, cursor: int) -> tuple[Part, int]:
    frames: list[bytes] = []
    for frame, upto in server.frames(channel, cursor):
        frames.append(frame)
        cursor = upto
    deltas = [codec.decode(frame) for frame in frames]
    return Part(frames, [delta for delta in deltas if isinstance(delta, m.Delta)]), cursor


class Limit:
    """The same upserts by hand: plain apsw in its quickest way, on a file with the settings of ours."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._connection = apsw.Connection(str(path), vfs=settings.vfs)
        for name, value in settings.pragmas.items():
            self._connection.execute(f"PRAGMA {name} = {value}").fetchall()
        self._connection.execute(SCHEMA)

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def write(self, frames: Iterable[Prepared]) -> None:
        """Upsert rows and cursor of each frame in a transaction that is durable at its end."""
        execute = self._connection.execute
        for frame in frames:
            execute("BEGIN IMMEDIATE")
            self._connection.executemany(frame.sql, frame.rows)
            execute(*frame.cursor)
            execute("COMMIT")


class Prepared(NamedTuple):
    """A frame as SQLite takes it."""

    sql: str
    rows: list[tuple[str | int | bytes, ...]]
    cursor: tuple[str, tuple[str | int | bytes, ...]]


def prepared(delta: m.Delta) -> Prepared:
    """What the limit writes for `delta`, made before the clock runs."""
    if not delta.channel.startswith("~"):
        rows = [
            (
                *(row.entity, row.view, row.version, delta.channel, row.seq),
                *(row.event_time_us, row.created_us, row.values, HASH, DAY),
            )
            for row in delta.rows
        ]
        return Prepared(SHARED_SQL, [*rows], (CURSOR_SQL, (delta.channel, delta.upto, HASH)))
    handle = hashlib.blake2b(delta.channel.encode(), digest_size=16).digest()
    sealed = [(handle, _slot(row.entity), DAY, _pack(Delivered(row, HASH))) for row in delta.rows]
    stand = (handle, _slot("stand"), DAY, _pack(Stand(delta.upto, HASH)))
    return Prepared(PERSONAL_SQL, [*sealed], (PERSONAL_SQL, stand))


def _plain(delta: m.Delta, values: list[dict[str, object]]) -> dict[str, object]:
    """The same delta as JSON would say it, values not in a string but as they are."""
    rows = [
        {**{name: getattr(row, name) for name in row.__struct_fields__}, "values": said}
        for row, said in zip(delta.rows, values, strict=True)
    ]
    return {**{name: getattr(delta, name) for name in delta.__struct_fields__}, "rows": rows}


def _slot(entity: str) -> bytes:
    return hashlib.blake2b(entity.encode(), digest_size=16).digest()


def _race(replica: Replica, limit: Limit, parts: Sequence[Part], cost: Cost) -> None:
    """Both take every part, each in turn first."""
    gc.collect()
    gc.freeze()
    for number, part in enumerate(parts):
        frames = [prepared(delta) for delta in part.deltas]
        work: list[tuple[list[float], Callable[[], None]]] = [
            (cost.ours_s, partial(_apply, replica, part.frames)),
            (cost.plain_s, partial(limit.write, frames)),
        ]
        for times, do in work if number % 2 else reversed(work):
            took = seconds(do)
            if number >= WARM_UP:
                times.append(took)
        if number >= WARM_UP:
            cost.take(part)
    gc.unfreeze()


def _apply(replica: Replica, frames: Iterable[bytes]) -> None:
    for frame in frames:
        delta = codec.decode(frame)
        assert isinstance(delta, m.Delta)
        replica.apply(delta)


def _check(server: ServerRooms, replica: Replica, channels: Iterable[str]) -> None:
    """Nothing was measured that is not whole: every digest equals the server's."""
    for channel in channels:
        with server.store.read() as tx:
            head = tx.channel_head(channel)
        assert replica.stand(channel) == (head.seq, head.digest), "not what the server has"


def _settings(folder: Path) -> Settings:
    ours = Ours(folder / "asked.db")
    try:
        return ours.settings()
    finally:
        ours.close()


def _report(numbers: Mapping[str, Mapping[str, float]], what: str) -> str:
    heads = ("rows_per_s", "plain_rows_per_s", "ratio_to_plain", "wire_bytes_per_feature")
    columns = (*heads, "json_bytes_per_feature", "rows")
    lines: list[tuple[str, ...]] = [("channel", *columns)]
    lines += [(kind, *(f"{found[name]:,}" for name in columns)) for kind, found in numbers.items()]
    shared = numbers[SHARED]
    return "\n".join(
        [
            table(lines),
            f"Online Retail, {what}: each row all features of one item, or of one customer's item",
            f"shared: {shared['rows_per_s']:,} rows a second (goal 50,000), "
            f"{shared['ratio_to_plain']} of plain's speed (goal 0.5)",
        ]
    )


if __name__ == "__main__":
    main()
