"""Killed in the middle of a rotation: nobody is locked out, and the audit log has what was done, no more."""

from __future__ import annotations

import signal
import sqlite3
import threading
from pathlib import Path

from sync_server.client import Client, Refused, Unreachable
from tests.support.served import Served

ROTATIONS = 25
"""Told before the server is killed under the next."""


class Rotating(threading.Thread):
    """One rotation after another until the server is gone; keeps each secret that was told."""

    def __init__(self, client: Client, token_id: str, first: str) -> None:
        super().__init__()
        self._client, self._path = client, f"/v1/tokens/{token_id}/rotate"
        self.told, self.enough = [first], threading.Event()

    def run(self) -> None:
        try:
            while True:
                self.told.append(self._client.call("POST", self._path, {"grace_s": 3_600})["token"])
                if len(self.told) > ROTATIONS:
                    self.enough.set()
        except (Unreachable, ValueError, OSError):  # between two, or in the middle of a reply
            return


def lets_in(server: Served, text: str) -> bool:
    """Whether a token is good."""
    try:
        Client(server.url, text).call("GET", "/v1/devices")
    except Refused:
        return False
    return True


def test_law_6_killed_in_the_middle_of_a_rotation_nobody_is_locked_out(tmp_path: Path) -> None:
    """Every secret that was told and not crowded out is good after the restart, the one of before among them.

    And in the file there are as many rows of rotations as there were rotations, told or not: a change and its
    row are one transaction.
    """
    with Served(tmp_path / "data") as server:
        made = server.client.call("POST", "/v1/tokens", {"name": "x", "scopes": ["device-admin"]})
        rotating = Rotating(server.client, made["id"], made["token"])
        rotating.start()
        assert rotating.enough.wait(60)
        server.end(signal.SIGKILL)
        rotating.join()
        db = sqlite3.connect(tmp_path / "data" / "server.db")
        rows = db.execute("SELECT count(*) FROM audit WHERE route LIKE '%/rotate'").fetchone()[0]
        mark = db.execute("SELECT value FROM meta WHERE key = 'token_changes'").fetchone()[0]
        db.close()
        done = int.from_bytes(mark, "big") - 1
        assert rows == done
        assert done - (len(rotating.told) - 1) in (0, 1)  # the last may have been done and not told
        server.start()
        assert [lets_in(server, text) for text in rotating.told[-7:]] == [True] * 7
        assert not lets_in(server, rotating.told[0])
        again = server.client.call("POST", f"/v1/tokens/{made['id']}/rotate", {"grace_s": 0})["token"]
        assert [lets_in(server, text) for text in (rotating.told[-1], again)] == [False, True]
