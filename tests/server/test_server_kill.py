"""kill -9 on `edge-sync serve` at random moments: what was answered stands, nothing is half done."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

from sync_server.client import Client, Unreachable
from sync_server.devices.authority import load_authority
from sync_server.devices.entropy import system_entropy
from tests.support.shop_server import CATALOG

KILLS = 12
SEED = 20261122
P = "personalization"


class Served:
    """`edge-sync serve` in a process of its own."""

    def __init__(self, data: Path) -> None:
        command = [sys.executable, "-c", "import sys; from sync_server.cli import main; sys.exit(main())"]
        command += ["serve", "--data", str(data), "--port", "0", "--catalog", str(CATALOG), "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline())["url"]
        self.client = Client.of(data, None)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)


class Callers:
    """Give, publish, revoke, open and close rounds until the server is gone; remember what was answered."""

    def __init__(self) -> None:
        self.n = 0
        self.given: dict[str, int] = {}
        """subject -> seq of an answered give that was not revoked since."""
        self.revoked: dict[str, str] = {}
        """revocation id -> subject."""
        self.rows: set[str] = set()
        """Item rows that were accepted."""
        self.personal: set[str] = set()
        """Subjects whose profile row was accepted."""
        self.releases: dict[str, Any] = {}
        """round -> release."""
        self.unanswered: str | None = None
        """A revocation under way when the server died."""

    def work(self, client: Client, turns: int, then: Callable[[], object]) -> None:
        """Call until the server is gone; `then` is done after so many turns, and ends it a little later."""
        try:
            for done in itertools.count(1):
                self._turn(client)
                if done == turns:
                    then()
        except (Unreachable, ConnectionError, IncompleteRead):
            return

    def _turn(self, client: Client) -> None:
        self.n += 1
        name, item = f"subject{self.n}", f"item:{self.n}"
        said = {"subject": name, "purpose": P, "notice": "2026-11"}
        self.given[name] = client.call("POST", "/v1/consents", said)["seq"]
        for view, entity, values in (
            ("item_stats", item, {"popularity": 0.5}),
            ("profile", f"user:{name}", {"country": "DE"}),
        ):
            row = {"entity": entity, "event_time": 1, "values": values}
            body = {"view": view, "rows": [row], "as_of": self.given[name]}
            assert client.call("POST", "/v1/features", body)["accepted"] == 1
            (self.rows if view == "item_stats" else self.personal).add(entity)
        if self.n % 3 == 0:
            self._revoke(client, f"subject{self.n - 1}")
        if self.n % 7 == 0:
            self._round(client)

    def _revoke(self, client: Client, name: str) -> None:
        self.given.pop(name, None)
        self.unanswered = name
        made = client.call(
            "POST", "/v1/consent-revocations", {"subject": name}, headers={"Idempotency-Key": f"r-{name}"}
        )
        self.unanswered = None
        self.revoked[made["id"]] = name

    def _round(self, client: Client) -> None:
        metric = "/v1/aggregates/customers_by_country/rounds"
        opened = client.call("POST", metric, {"closes_in_s": 3_600})
        self.releases[opened["round"]] = client.call("POST", f"{metric}/{opened['round']}/close", {})

    def check(self, client: Client) -> None:
        """Everything that was answered stands."""
        if self.unanswered is not None:
            self._revoke(client, self.unanswered)
        for revocation, name in self.revoked.items():
            assert client.call("GET", f"/v1/consent-revocations/{revocation}")["state"] == "completed"
            states = client.call("GET", f"/v1/consents?subject={name}")["states"]
            assert states[P]["state"] == "withdrawn"
        for name in self.given:
            assert client.call("GET", f"/v1/consents?subject={name}")["states"][P]["state"] == "given"
        for round_id, release in self.releases.items():
            found = client.call("GET", f"/v1/aggregates/customers_by_country/rounds/{round_id}")
            assert found["release"] == release


def check_files(data: Path, callers: Callers) -> None:
    """Rows, lane, ledger and keys agree, and no key or row of a denied grant is left."""
    authority = load_authority(data / "server.key", system_entropy, store_exists=True)
    main, keys = sqlite3.connect(data / "server.db"), sqlite3.connect(data / "keys.db")

    def all_of(connection: sqlite3.Connection, query: str) -> list[Any]:
        return connection.execute(query).fetchall()

    pseudonyms = {authority.pseudonym(f"user:{name}"): name for name in callers.given}
    live = dict(all_of(main, f"SELECT subject, grant_seq FROM lane WHERE purpose = '{P}' AND grant_seq > 0"))
    assert set(pseudonyms) <= set(live)
    sealed = all_of(main, "SELECT subject, grant_seq FROM rows WHERE subject IS NOT NULL")
    held = all_of(keys, "SELECT subject, grant_seq FROM payload_keys")
    assert {(s, g) for s, g in sealed} <= {(s, g) for s, g in held}
    assert all(live.get(subject) == grant for subject, grant in (*sealed, *held))
    entities = {entity for (entity,) in all_of(main, "SELECT entity FROM rows WHERE subject IS NULL")}
    assert callers.rows <= entities
    answered = {p for p, name in pseudonyms.items() if f"user:{name}" in callers.personal}
    assert answered <= {subject for subject, _ in sealed}
    assert all_of(main, "SELECT * FROM key_erasures") == []
    assert all_of(main, "SELECT * FROM revocations WHERE server_erased_us IS NULL") == []
    steps = [seq for (seq,) in all_of(main, "SELECT seq FROM evidence ORDER BY seq")]
    assert steps == list(range(1, len(steps) + 1))
    assert not all_of(main, "SELECT * FROM lane WHERE seq NOT IN (SELECT seq FROM evidence)")
    denied = all_of(main, "SELECT seq FROM evidence WHERE state = 'withdrawn' AND actor = 'api'")
    assert set(denied) == set(all_of(main, "SELECT seq FROM denials"))
    main.close()
    keys.close()


def test_law_6_a_server_killed_at_random_moments_keeps_what_it_answered_and_halves_nothing(
    tmp_path: Path,
) -> None:
    """Gives, publishes, revocations and rounds against a real process, killed again and again."""
    chance, callers = random.Random(SEED), Callers()
    for _ in range(KILLS):
        server = Served(tmp_path)
        callers.check(server.client)
        timer = threading.Timer(chance.uniform(0, 0.05), server.process.kill)
        callers.work(server.client, chance.randint(3, 9), timer.start)
        timer.join()
        server.end()
    server = Served(tmp_path)
    callers.check(server.client)
    server.end()
    check_files(tmp_path, callers)
    assert len(callers.revoked) > KILLS
