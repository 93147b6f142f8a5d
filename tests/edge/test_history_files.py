"""Events, points and rows of a file are what its catalog says, or the line that is not is named."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import edge_runtime as er
from edge_runtime.catalog import Catalog
from edge_runtime.errors import MalformedEvent, MalformedRequest
from edge_runtime.history.files import events_of, located, points_of, rows_of
from edge_runtime.history.output import write_table
from edge_runtime.history.records import Sheet
from tests.support.broken_catalog import SHOP
from tests.support.streams import CATALOG as EVERY

CATALOG = Catalog.load(SHOP)
AT = 1_700_000_000
EVENTS: list[dict[str, Any]] = [
    {"type": "view", "user": "alice", "item": "007", "price": 2.5, "category": "a,b", "at": AT, "id": "e1"},
    {"type": "buy", "user": "ünï", "item": "b", "price": 1e-7, "quantity": 3, "at": AT + 0.25},
]
CSV = (
    "type,user,item,price,category,quantity,at,id\n"
    'view,alice,007,2.5,"a,b",,1700000000,e1\n'
    "\n"
    "buy,ünï,b,1e-07,,3,2023-11-14T22:13:20.250Z,\n"
)


def instants(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Times as Unix seconds."""
    return [e | {"at": e["at"].timestamp() if isinstance(e["at"], datetime) else e["at"]} for e in events]


def write(path: Path, text: str) -> Sheet:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return Sheet(path)


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.tsv", "e.jsonl", "e.jsonl.gz", "e.parquet"])
def test_the_same_events_come_out_of_every_form(name: str, tmp_path: Path) -> None:
    """Texts become what is declared, empty cells are not known, a time is seconds or ISO with a zone."""
    path = tmp_path / name
    if path.suffix == ".parquet":
        columns = {
            k: [e.get(k) for e in EVENTS] for k in ("type", "user", "item", "price", "category", "quantity")
        }
        times = pa.array([datetime.fromtimestamp(e["at"], UTC) for e in EVENTS], pa.timestamp("us", "UTC"))
        pq.write_table(pa.table({**columns, "at": times, "id": ["e1", None]}), path)
    elif ".csv" in name:
        write(path, CSV)
    elif ".tsv" in name:
        write(path, CSV.replace('"a,b"', "a;b").replace(",", "\t").replace("a;b", "a,b"))
    else:
        write(path, "\n".join(json.dumps(e) for e in EVENTS))
    assert instants(list(events_of(Sheet(path), CATALOG))) == EVENTS


def test_columns_are_renamed_or_left_out_and_a_type_and_a_zone_are_added(tmp_path: Path) -> None:
    """A foreign file is read as it lies."""
    path = tmp_path / "foreign.csv"
    path.write_text("\ufeffCustomer,Code,When,Note\n7,x,2023-11-14 22:13:20,why\n", encoding="utf-8")
    sheet = Sheet(path, {"Customer": "user", "Code": "item", "When": "at", "Note": ""})
    (event,) = events_of(sheet, CATALOG, event_type="view", zone=ZoneInfo("Europe/London"))
    assert event == {"type": "view", "user": "7", "item": "x", "at": event["at"]}
    assert instants([event])[0]["at"] == AT
    with pytest.raises(MalformedRequest, match="a column 'Ghost' to rename, got none"):
        list(events_of(Sheet(path, {"Ghost": "user"}), CATALOG))
    with pytest.raises(MalformedRequest, match=r"foreign\.csv:1: expected columns of different names"):
        list(events_of(Sheet(path, {"Customer": "Code"}), CATALOG))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "type,at\nview,2023-11-14T22:13:20\n", r"csv:2 at: expected a time with a zone"),
        ("a.csv", "type,at\nview,noon\n", r"csv:2 at: expected Unix seconds or an ISO 8601 time"),
        ("a.csv", "type,at,price\nview,1,1\nview,1,cheap\n", r"csv:3 price: expected a number, got a text"),
        ("a.csv", "type,at,price\nview,1,1_0\n", r"csv:2 price: expected a number"),
        ("a.csv", "type,at,quantity\nbuy,1,1.5\n", r"csv:2 quantity: expected a whole number"),
        ("a.csv", "type,at\nview\n", r"csv:2: expected 2 cells, got 1 cells"),
        ("a.csv", 'type,at\n"view,1\n', r"csv:\d: expected a line of quoted"),
        ("a.csv", 'type,at\n"vi"ew,1\n', r"csv:2: expected a line of quoted"),
        ("a.jsonl", '{"a": 1}\n\n{"type": \n', r"jsonl:3: expected one JSON object, got no JSON"),
        ("a.jsonl", "[1]\n", r"jsonl:1: expected one JSON object, got list"),
        ("a.jsonl", '{"type": "view", "at": "2023-11-14T22:13:20"}', r"jsonl:1 at: expected a time with"),
        ("a.parquet", "no parquet at all", r"a\.parquet: expected a Parquet file"),
        ("a.xlsx", "", r"a\.xlsx: expected an ending \.csv"),
        ("a.parquet.gz", "", r"expected an ending"),
    ],
)  # fmt: skip
def test_law_12_a_bad_line_is_named_with_what_was_expected(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    """File and line, expected, got; never the value itself."""
    with pytest.raises(MalformedRequest, match=said):
        list(events_of(write(tmp_path / name, text), CATALOG))


def test_law_12_bytes_that_are_no_utf_8_are_named_by_their_line(tmp_path: Path) -> None:
    """In a CSV as in JSON Lines."""
    for name, line in (("a.csv", b"type,user\nview,\xff\n"), ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}\n')):
        (tmp_path / name).write_bytes(line)
        with pytest.raises(MalformedRequest, match=rf"{name}:2: expected (UTF-8|one JSON object)"):
            list(Sheet(tmp_path / name).records())


def test_law_12_a_naive_time_in_parquet_is_refused_by_its_row(tmp_path: Path) -> None:
    """A timestamp without a zone is no time."""
    times = pa.array([datetime(2023, 11, 14)], pa.timestamp("us"))
    pq.write_table(pa.table({"type": ["view"], "at": times}), tmp_path / "a.parquet")
    with pytest.raises(MalformedRequest, match=r"a\.parquet:1 at: expected a time with a zone"):
        list(events_of(Sheet(tmp_path / "a.parquet"), CATALOG))


def test_law_12_what_only_the_replay_can_judge_is_named_by_its_line_too(tmp_path: Path) -> None:
    """NaN is a number to a file; the replay refuses it, and its number leads back to the line."""
    sheet = write(tmp_path / "e.csv", CSV + "\nview,bob,x,nan,,,1700000001,\n")
    points = [{"user": "alice", "at": AT}]
    with pytest.raises(MalformedEvent, match=r"^events\[2\]\.view\.price") as caught:
        er.replay(CATALOG, events_of(sheet, CATALOG), points=points, refs=["activity:pace"])
    error = located(caught.value, {"events": sheet})
    assert str(error).startswith(f"{sheet.path}:6 view.price: expected a finite number, got NaN")


def test_points_carry_requests_and_rows_their_values_in_every_form(tmp_path: Path) -> None:
    """Flat columns in a CSV, tables in JSON Lines: the same points and rows, the same matrix."""
    flat = write(tmp_path / "p.csv", "user,item,at,ctx:hour\nalice,007,1700000000,14\nbob,b,1700000000,\n")
    nested = write(
        tmp_path / "p.jsonl",
        '{"user": "alice", "item": "007", "at": 1700000000, "request": {"ctx:hour": 14}}\n'
        '{"user": "bob", "item": "b", "at": 1700000000}\n',
    )
    points = list(points_of(flat, CATALOG))
    assert points == list(points_of(nested, CATALOG))
    rows = write(
        tmp_path / "r.csv",
        "view,version,entity,event_time,created,popularity,co_bought,country,embedding\n"
        'item_stats,,item:007,1699999000,1699999001,0.25,"{""b"": 0.5}",,\n'
        "profile,1,user:alice,2023-11-14T00:00:00Z,,,,FR,\n"
        f'item_vec,2,item:007,1699999000,,,,,"{[0.5] * 16}"\n',
    )
    found = list(rows_of(rows, CATALOG))
    assert [r["values"] for r in found] == [
        {"popularity": 0.25, "co_bought": {"b": 0.5}},
        {"country": "FR"},
        {"embedding": [0.5] * 16},
    ]
    with_json = write(
        tmp_path / "r.jsonl", "\n".join(json.dumps(r, default=datetime.isoformat) for r in found)
    )
    tables = [
        er.replay(CATALOG, EVENTS, points=points, service="ranker", rows=rows_of(sheet, CATALOG))
        for sheet in (rows, with_json)
    ]
    assert tables[0].column("ctx:hour")[0] == 14.0
    assert tables[0].column("item_stats:popularity")[0] == 0.25
    first, second = (t.to_numpy() for t in tables)
    assert not isinstance(first, dict)
    assert not isinstance(second, dict)
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl", "t.parquet"])
def test_a_written_table_is_read_back_as_it_was(name: str, tmp_path: Path) -> None:
    """Numbers keep their bits, None stays none, a vector is a list, counts are a map."""
    catalog = Catalog.from_toml(EVERY)
    event = {"type": "view", "user": "alice", "item": "a", "price": 0.1, "at": AT}
    points = [{"user": user, "at": AT + 7.125} for user in ("alice", "bob")]
    refs = ["activity:sum_all", "activity:pace", "activity:last_item", "activity:by_item", "activity:last_3"]
    table = er.replay(catalog, [event] * 3, points=points, refs=refs)
    write_table(tmp_path / name, points, table, statuses=True)
    sheet = Sheet(tmp_path / name)
    for n, (_, record) in enumerate(sheet.records()):
        for ref in refs:
            text, value = record[ref], table.column(ref)[n]
            if sheet.is_text and text is not None:
                text = text if isinstance(value, str) else json.loads(str(text))
            assert text == value
            assert int(str(record[f"{ref}.status"])) == table.status(ref)[n]
