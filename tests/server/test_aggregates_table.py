"""Releases as CSV and Parquet: every number once, every text whole, nothing that a spreadsheet runs."""

from __future__ import annotations

import csv
import io
import sys
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_server.aggregates.release import Release
from sync_server.aggregates.table import COLUMNS, csv_table, parquet_table, rows
from sync_server.errors import MissingExtra
from tests.support.released import CLOSED_US, released, withheld

EVIL = ("=cmd|'/c calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "'quoted", "＝1", "")
NUMBERS = {"estimate", "low", "high", "share", "n", "epsilon", "min_subjects"}
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(EVIL)
releases = st.one_of(
    st.builds(
        released,
        st.just("histogram"),
        st.dictionaries(texts, st.tuples(finite, finite, finite), min_size=1, max_size=4),
        metric=texts,
        catalog=texts,
    ),
    st.builds(withheld, st.just("mean"), reason=texts),
)


def parsed(found: list[Release]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_table(found).decode(), newline="")))


def plain(cell: str) -> str:
    """As docs/aggregates.md says how a text is read back."""
    return cell.removeprefix("'")


@given(st.lists(releases, max_size=4))
def test_csv_reads_back_whole_and_no_text_is_a_formula(found: list[Release]) -> None:
    """Against the rows themselves: texts by taking the mark away, numbers exactly, none as empty."""
    want = list(rows(found))
    got = parsed(found)
    assert len(got) == len(want)
    for cells, row in zip(got, want, strict=True):
        assert tuple(cells) == COLUMNS
        for name, cell in cells.items():
            value = getattr(row, name)
            if name in NUMBERS:
                assert (float(cell) if cell else None) == value
                assert "e" not in cell.lower(), "a number as people write it"
            elif isinstance(value, datetime):
                assert datetime.fromisoformat(cell) == value
            else:
                assert plain(cell) == (value or "")
                assert cell.lstrip(" ")[:1] not in set("=+-@\t\r\n＝＋－＠")


@given(st.lists(releases, max_size=4))
def test_parquet_reads_back_the_same_rows_in_proper_types(found: list[Release]) -> None:
    """Column by column; times are microseconds in UTC."""
    table = pyarrow.parquet.read_table(io.BytesIO(parquet_table(found)))
    assert tuple(table.schema.names) == COLUMNS
    assert table.schema.field("opened").type == pa.timestamp("us", tz="UTC")
    assert {table.schema.field(name).type for name in ("estimate", "low", "high", "share")} == {pa.float64()}
    assert {table.schema.field(name).type for name in ("n", "min_subjects")} == {pa.int64()}
    want = [{name: getattr(row, name) for name in COLUMNS} for row in rows(found)]
    assert table.to_pylist() == want


def test_law_9_a_withheld_round_has_one_row_and_no_number() -> None:
    """With the reason, between those that were released."""
    numbers = {"UK": (0.1, 0.2, 0.3), "DE": (-0.1, 0.0, 0.1)}
    found = [released("histogram", numbers), withheld("mean"), released("count", {"count": (1.0, 2.0, 3.0)})]
    got = parsed(found)
    assert [row["label"] for row in got] == ["UK", "DE", "", "count"]
    assert {got[2][name] for name in NUMBERS - {"epsilon", "min_subjects"}} == {""}
    assert (got[2]["status"], got[2]["reason"]) == ("withheld", "fewer than 50 subjects answered")
    assert got[1]["low"] == "-0.1", "a number below 0 is a number"
    assert got[0]["closed"] == "2026-05-28T21:26:40.000000Z"
    assert datetime.fromtimestamp(CLOSED_US / 1e6, UTC) == datetime.fromisoformat(got[0]["closed"])


def test_without_pyarrow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The import is refused as on a machine that has none."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'edge-runtime\[parquet\]'"):
        parquet_table([])
