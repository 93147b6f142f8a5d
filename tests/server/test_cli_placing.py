"""`edge-sync segments`, `hot-set` and `push --job` at a real server: one JSON document and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.shell import Shell
from tests.support.shop_server import ShopServer


@pytest.fixture
def shell(shop: ShopServer, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(shop, capsys)


async def test_segments_from_the_command_line(shell: Shell, tmp_path: Path) -> None:
    """put, add, remove, show; what is refused is told, and a wrong name is exit code 1."""
    members = tmp_path / "gold.txt"
    members.write_text("item:a\n\nitem:b\nuser:alice\n")
    put = await shell.json("segments", "put", "gold", str(members))
    assert (put["count"], [r["code"] for r in put["refused"]]) == (2, ["personal"])
    assert (await shell.json("segments", "add", "gold", "item:c", "item:a"))["added"] == 1
    assert (await shell.json("segments", "remove", "gold", "item:a"))["removed"] == 1
    assert (await shell.json("segments", "show", "gold"))["members"] == ["item:b", "item:c"]
    assert (await shell.json("segments", "show", "gold", "--after", "item:b"))["members"] == ["item:c"]
    assert (await shell.json("segments", "show"))["segments"] == [{"segment": "gold", "count": 2}]
    assert (await shell.json("segments", "add", "a b", "item:c", code=1))["code"] == "invalid_segment"


async def test_a_pushed_file_names_its_job_and_a_ranking_its_reasons(shell: Shell, tmp_path: Path) -> None:
    """`--job` stands with the rows; pushed again they are unchanged; importance is set and forgotten."""
    rows = tmp_path / "rows.jsonl"
    row = {"entity": "item:a", "event_time": 10, "values": {"embedding": [0.5] * 16}}
    rows.write_text(json.dumps(row) + "\n")
    push = ("push", "item_vec", str(rows), "--job", "nightly", "--run", "7")
    assert await shell.json(*push) == {"view": "item_vec", "accepted": 1, "unchanged": 0, "refused": []}
    assert (await shell.json(*push))["unchanged"] == 1
    ranking = (await shell.json("hot-set", "show", "all"))["ranking"]
    assert [(r["entity"], r["importance"]) for r in ranking] == [("item:a", 0.5)]
    await shell.json("hot-set", "importance", "item_vec", "0.9", "--entity", "item:a")
    assert (await shell.json("hot-set", "show", "all"))["ranking"][0]["importance"] == 0.9
    await shell.json("hot-set", "importance", "item_vec", "none", "--entity", "item:a")
    assert (await shell.json("hot-set", "show", "all"))["ranking"][0]["importance"] == 0.5
    assert (await shell.json("hot-set", "importance", "item_vec", "2", code=1))["code"] == "invalid_request"
    assert (
        "could not convert" in (await shell.json("hot-set", "importance", "item_vec", "x", code=2))["error"]
    )
