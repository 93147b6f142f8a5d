"""`edge-runtime replay` reads files as they lie, says what it found, names the line it cannot use."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import edge_runtime as er
from edge_runtime.cli import main
from edge_runtime.history.records import Sheet
from tests.support.broken_catalog import SHOP

AT = 1_699_999_980  # 22:13:00
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def call(tmp_path: Path) -> list[str]:
    """A catalog, a foreign CSV of views, two points."""
    lines = [f"{n % 3},x{n % 2},2023-11-14 22:13:{n:02},{n}" for n in range(30)]
    (tmp_path / "clicks.csv").write_text("\n".join(["customer,sku,when,price", *lines]))
    (tmp_path / "points.csv").write_text(f"user,item,at\n0,x0,{AT + 20}\n9,x1,{AT + 20}\n")
    found = ["replay", str(SHOP), str(tmp_path / "clicks.csv"), "--points", str(tmp_path / "points.csv")]
    found += ["--event-type", "view", "--rename", "customer=user", "sku=item", "when=at", "--zone", "UTC"]
    return found


def test_a_foreign_file_is_replayed_and_the_rows_are_printed(call: list[str], capsys: Capture) -> None:
    """JSON Lines on standard output, the summary beside them on standard error."""
    assert main([*call, "--refs", "activity:views_5m", "activity:by_item"]) == 0
    said = capsys.readouterr()
    assert [json.loads(line) for line in said.out.splitlines()] == [
        {"user": "0", "item": "x0", "at": AT + 20}
        | {"activity:views_5m": 7, "activity:by_item": {"x0": 4, "x1": 3}},
        {"user": "9", "item": "x1", "at": AT + 20, "activity:views_5m": 0, "activity:by_item": {}},
    ]
    assert said.err.splitlines()[0] == "30 events, 2 points, 2 columns"
    assert said.err.split()[-3:] == ["PRESENT", "4", "cells"]


def test_a_service_is_written_with_its_statuses_and_two_workers_write_the_same_bytes(
    call: list[str], tmp_path: Path, capsys: Capture
) -> None:
    """CSV twice, once by two processes; Parquet holds the same; parity agrees."""
    rows = tmp_path / "rows.jsonl"
    row = {"view": "item_stats", "entity": "item:x0", "event_time": AT, "values": {"popularity": 0.5}}
    rows.write_text(json.dumps(row))
    call += ["--service", "ranker", "--rows", str(rows), "--status", "--json"]
    outs = [tmp_path / name for name in ("one.csv", "two.csv", "one.parquet")]
    for out, workers in zip(outs, ("1", "2", "1"), strict=True):
        assert main([*call, "--out", str(out), "--workers", workers]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (said["events"], said["points"]) == (30, 2)
    assert sum(said["statuses"].values()) == 2 * 12
    assert outs[0].read_bytes() == outs[1].read_bytes()
    cells = list(csv.DictReader(io.StringIO(outs[0].read_text())))
    assert (cells[0]["item_stats:popularity"], cells[0]["item_stats:popularity.status"]) == ("0.5", "0")
    assert main(["parity", str(outs[0]), str(outs[2]), "--keys", "user", "item", "at", "--json"]) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_law_12_a_bad_line_stops_the_replay_with_2_and_its_place(
    call: list[str], tmp_path: Path, capsys: Capture, workers: str
) -> None:
    """What a file cannot read and what the catalog refuses, in events, points and rows."""
    events, points = tmp_path / "clicks.csv", tmp_path / "points.csv"
    call += ["--refs", "activity:pace", "--workers", workers]
    whole = events.read_text()
    events.write_text(whole + "\n1,x1,2023-11-14 22:14:00,inf")
    assert main(call) == 2
    assert f"{events}:32 view.price: expected a number of at most 2^500" in capsys.readouterr().out
    events.write_text(whole + "\n1,x1,22:14,1")
    assert main(call) == 2
    assert f"{events}:32 at: expected Unix seconds or an ISO 8601 time" in capsys.readouterr().out
    events.write_text(whole)
    points.write_text(points.read_text() + "1,x1,\n")
    assert main(call) == 2
    assert f"{points}:4 at: expected an aware datetime or Unix seconds" in capsys.readouterr().out


def test_law_12_a_wrong_call_is_told_before_anything_is_read(
    call: list[str], tmp_path: Path, capsys: Capture
) -> None:
    """An ending that cannot be written, a zone that is none, a column without a name."""
    refs = ["--refs", "activity:pace"]
    assert main([*call, *refs, "--out", str(tmp_path / "out.xlsx")]) == 2
    assert "expected an ending" in capsys.readouterr().out
    assert main([*call, *refs, "--zone", "Nowhere/At-All"]) == 2
    assert "--zone: expected a zone" in capsys.readouterr().out
    assert main([*call, *refs, "--rename", "user"]) == 2
    assert "--rename: expected COLUMN=NAME" in capsys.readouterr().out
    assert main([*call, *refs, "--workers", "0"]) == 2
    assert "workers: expected at least 1, got 0" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*call, *refs, "--service", "ranker"])


def test_a_terminal_sees_a_bar_and_a_script_does_not(
    call: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error only, so the rows can be piped; never with --json."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert main([*call, "--refs", "activity:pace"]) == 0
    said = capsys.readouterr()
    assert "32/32" in said.err
    assert len(said.out.splitlines()) == 2
    assert main([*call, "--refs", "activity:pace", "--json"]) == 0
    assert capsys.readouterr().err == ""


def test_a_replay_of_files_equals_the_call(call: list[str], tmp_path: Path) -> None:
    """The command adds nothing: the same values as `er.replay` over the same events."""
    out = tmp_path / "out.jsonl"
    assert main([*call, "--refs", "activity:pace", "--out", str(out)]) == 0
    events: list[dict[str, Any]] = [
        {"type": "view", "user": str(n % 3), "item": f"x{n % 2}", "at": AT + n, "price": n} for n in range(30)
    ]
    points = [{"user": user, "at": AT + 20} for user in ("0", "9")]
    table = er.replay(er.Catalog.load(SHOP), events, points=points, refs=["activity:pace"])
    assert [record["activity:pace"] for _, record in Sheet(out).records()] == table.column("activity:pace")
