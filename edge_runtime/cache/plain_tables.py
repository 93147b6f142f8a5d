"""Tables that a rebuilt database takes over as they are, column by column: rows on no handle, and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

Value = int | str | bytes


class Column(NamedTuple):
    """One column, what it holds, and what stands in its place where an earlier schema does not have it."""

    name: str
    kind: type[int] | type[str] | type[bytes]
    since: int = 1
    before: int = 0


class PlainTable(NamedTuple):
    """One table."""

    name: str
    key: tuple[str, ...]
    """Columns that order its rows."""
    columns: tuple[Column, ...]
    since: int = 1
    """Schema that has it first."""

    def columns_of(self, version: int) -> list[str]:
        """What to select in a file of that schema."""
        return [c.name if c.since <= version else str(c.before) for c in self.columns]

    def takes(self, fields: Sequence[object]) -> bool:
        """Whether these can be a row of this table."""
        return len(fields) == len(self.columns) and all(
            type(value) is column.kind for value, column in zip(fields, self.columns, strict=True)
        )


_TABLES: Final = (
    PlainTable("meta", ("key",), (Column("key", str), Column("value", bytes))),
    PlainTable(
        "lane",
        ("subject", "purpose"),
        (
            Column("subject", bytes),
            Column("purpose", str),
            Column("seq", int),
            Column("state", str),
            Column("live_grant", int),
            Column("denial", int),
        ),
    ),
    PlainTable("denial", ("id",), (Column("id", bytes), Column("body", bytes), Column("open", int, 2, 1))),
    PlainTable(
        "outbox",
        ("n",),
        (Column("n", int), Column("kind", str), Column("id", bytes), Column("payload", bytes)),
    ),
    PlainTable("budget", ("tag", "win"), (Column("tag", bytes), Column("win", int), Column("spent", int))),
    PlainTable(
        "answer",
        ("handle", "slot"),
        tuple(Column(name, bytes) for name in ("handle", "slot", "also", "outcome", "sealed")),
        since=4,
    ),
    PlainTable("channel", ("name",), (Column("name", str), Column("cursor", int), Column("digest", bytes))),
    PlainTable(
        "feature",
        ("entity", "view", "version", "channel"),
        (
            Column("entity", str),
            Column("view", str),
            Column("version", int),
            Column("channel", str),
            Column("seq", int),
            Column("event_time_us", int),
            Column("created_us", int),
            Column("vals", bytes),
            Column("hash", bytes),
            Column("used_day", int, 2),
        ),
    ),
)

PLAIN_TABLES: Final[Mapping[str, PlainTable]] = {table.name: table for table in _TABLES}
