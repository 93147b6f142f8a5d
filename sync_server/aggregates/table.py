"""Releases as a table, one row a number: CSV (RFC 4180) and Parquet. Pure.

A withheld round has one row without numbers, that says why.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from sync_server.aggregates.release import Release
from sync_server.errors import MissingExtra

CSV: Final = "text/csv"
PARQUET: Final = "application/vnd.apache.parquet"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORMULA: Final = frozenset("=+-@'\t\r\n\uff1d\uff0b\uff0d\uff20")
"""A cell that begins so may be run by a spreadsheet (the last four: full-width), or is our own mark."""


class Row(NamedTuple):
    """One number of a release, and everything that it takes to read it; None where there is none."""

    round: str
    metric: str
    kind: str
    label: str | None
    """Category, quantile, or the kind."""
    estimate: float | None
    low: float | None
    """Ends of the 95 % interval."""
    high: float | None
    share: float | None
    n: int | None
    """Subjects counted."""
    epsilon: float
    mechanism: str
    mode: str
    min_subjects: int
    opened: datetime
    closed: datetime
    status: str
    reason: str | None
    catalog: str


COLUMNS: Final = Row._fields


def rows(releases: Iterable[Release]) -> Iterator[Row]:
    """The rows of each release, in the order of its numbers."""
    for release in releases:
        for label in release.estimate or (None,):
            yield _row(release, label)


def csv_table(releases: Iterable[Release]) -> bytes:
    """CSV in UTF-8 with a header line; times in ISO 8601.

    A text that a spreadsheet would take for a formula, or that begins with an apostrophe, gets an apostrophe
    in front: take one away from any text that begins with it, and each is as it was. Numbers stay numbers.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(value) for value in row] for row in rows(releases))
    return out.getvalue().encode()


def parquet_table(releases: Iterable[Release]) -> bytes:
    """A Parquet file with typed columns; times are microseconds in UTC. Raises `MissingExtra`."""
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("pyarrow", "parquet") from None
    moment = pa.timestamp("us", tz="UTC")
    kinds = {"n": pa.int64(), "min_subjects": pa.int64(), "opened": moment, "closed": moment}
    kinds |= dict.fromkeys(("estimate", "low", "high", "share", "epsilon"), pa.float64())
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    found = [*rows(releases)]
    columns = [pa.array([row[i] for row in found], field.type) for i, field in enumerate(schema)]
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_arrays(columns, schema=schema), sink)
    return sink.getvalue()


def table(kind: str, releases: Sequence[Release]) -> bytes:
    """`releases` as the media type `kind`, one of `CSV` and `PARQUET`."""
    return csv_table(releases) if kind == CSV else parquet_table(releases)


def _row(release: Release, label: str | None) -> Row:
    low, high = (None, None) if label is None else (release.ci95 or {}).get(label, (None, None))
    return Row(
        round=release.round,
        metric=release.metric,
        kind=release.kind,
        label=label,
        estimate=None if label is None else (release.estimate or {})[label],
        low=low,
        high=high,
        share=None if label is None else (release.share or {}).get(label),
        n=release.n,
        epsilon=release.epsilon,
        mechanism=release.mechanism,
        mode=release.mode,
        min_subjects=release.min_subjects,
        opened=_EPOCH + timedelta(microseconds=release.opened_at_us),
        closed=_EPOCH + timedelta(microseconds=release.closed_at_us),
        status=release.status,
        reason=release.reason,
        catalog=release.catalog,
    )


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        case str():
            return f"'{value}" if value.lstrip(" ")[:1] in _FORMULA and value else value
        case float():
            return f"{Decimal(repr(value)):f}"
        case _:
            return str(value)
