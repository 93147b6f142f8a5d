"""kill -9 in the middle of a large batch: the repeat under the same key finishes it, and says so."""

from __future__ import annotations

import sqlite3
import threading
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any

from sync_server.client import Client, Unreachable
from tests.server.test_server_kill import Served

ROWS = 20_000
DEADLINE_S = 60
PATH = "/v1/features"
KEY = {"Idempotency-Key": "nightly"}


def body() -> dict[str, object]:
    rows = [
        {"entity": f"item:{n}", "event_time": 1, "values": {"popularity": 0.5}, "segments": ["gold"][: n % 2]}
        for n in range(ROWS)
    ]
    return {"view": "item_stats", "rows": rows, "job": {"who": "me", "name": "nightly"}}


def count(database: Path) -> int:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5) as db:
        found: int = db.execute("SELECT count(*) FROM rows").fetchone()[0]
    db.close()
    return found


def test_law_6_a_batch_killed_in_the_middle_is_finished_by_its_repeat(tmp_path: Path) -> None:
    """Whole chunks stand, each row in its one channel; the repeat tells how many did; a third is replayed."""
    data = tmp_path / "data"
    served, answered = Served(data), list[Any]()

    def call(client: Client) -> None:
        try:
            answered.append(client.call("POST", PATH, body(), headers=KEY))
        except (Unreachable, ConnectionError, HTTPException):
            return

    caller = threading.Thread(target=call, args=(served.client,))
    caller.start()
    until = time.monotonic() + DEADLINE_S
    while count(data / "server.db") < 2_000:
        assert time.monotonic() < until
        time.sleep(0)
    served.end()
    caller.join(DEADLINE_S)
    stood = count(data / "server.db")
    assert answered == []
    assert 2_000 <= stood < ROWS
    assert stood % 500 == 0, "chunks are whole"
    served = Served(data)
    try:
        reply = served.client.call("POST", PATH, body(), headers=KEY)
        assert reply == {
            "view": "item_stats@1",
            "accepted": ROWS,
            "refused": [],
            "unchanged": stood,
            "resumed": True,
        }
        assert served.client.call("POST", PATH, body(), headers=KEY) == reply
        assert served.client.call("GET", "/v1/segments/gold")["count"] == ROWS // 2
    finally:
        served.end()
    with sqlite3.connect(data / "server.db") as db:
        found = db.execute(
            "SELECT c.channel, count(*) FROM placements p JOIN channels c ON c.id = p.channel"
            " WHERE p.deleted = 0 GROUP BY c.channel ORDER BY c.channel"
        ).fetchall()
        jobs = db.execute("SELECT name, rows FROM lineages").fetchall()
    db.close()
    assert found == [("all", ROWS // 2), ("segment:gold", ROWS // 2)]
    assert jobs == [("nightly", ROWS)]
