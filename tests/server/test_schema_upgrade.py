"""A store of version 2 becomes one of this release, and nothing that stood in it is lost or changed."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_runtime.aggregates.mechanisms import mechanism_for
from edge_runtime.wire import seal
from edge_runtime.wire.merkle import leaf_hash, node_hash
from sync_server.aggregates.collector import Collector
from sync_server.aggregates.release import ENDINGS, read_release
from sync_server.aggregates.rounds import Rounds, parameters_of
from sync_server.consent.merkle import root
from sync_server.errors import StoreTooNew
from sync_server.settings import Settings
from sync_server.store.schema import VERSION
from sync_server.store.sqlite import SqliteStore
from tests.support.clock import ManualClock
from tests.support.entropy import CountingEntropy
from tests.support.shop import shop_catalog

SCHEMAS = Path(__file__).resolve().parents[1] / "data" / "schemas"
LIVE = bytes.fromhex("DB60538C3A279F48C2470B1657FA6A69")
"""The pseudonym in `server_2.sql` whose consent stands, with one row under grant 2."""
Rows = dict[str, list[tuple[object, ...]]]


def open_store(folder: Path) -> SqliteStore:
    return SqliteStore(
        folder / "server.db", folder / "keys.db", digest_key=b"d" * 32, entropy=CountingEntropy()
    )


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A data directory that release 2 left behind."""
    folder = tmp_path / "old"
    folder.mkdir()
    for name, file in (("server.db", "server_2.sql"), ("keys.db", "keys_1.sql")):
        db = sqlite3.connect(folder / name)
        db.executescript((SCHEMAS / file).read_text())
        if name == "keys.db":
            db.execute("INSERT INTO payload_keys VALUES (?, 'personalization', 2, ?)", (LIVE, b"k" * 32))
            db.commit()
        db.close()
    return folder


def schema(path: Path) -> dict[str, str]:
    """name -> SQL without comments and spacing."""
    db = sqlite3.connect(path)
    found = db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    version = db.execute("PRAGMA user_version").fetchone()[0]
    db.close()
    bare = {name: "".join(re.sub(r"--[^\n]*", "", sql).split()) for name, sql in found}
    return {**bare, "version": str(version)}


def columns(path: Path) -> dict[str, list[str]]:
    """table -> its columns, in order."""
    db = sqlite3.connect(path)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")] for table in tables}
    db.close()
    return found


def rows(path: Path, wanted: dict[str, list[str]]) -> Rows:
    """table -> what stands in the wanted columns, in order."""
    db = sqlite3.connect(path)
    found = {
        table: sorted(db.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall(), key=repr)
        for table, names in wanted.items()
    }
    db.close()
    return found


def test_a_store_of_version_2_upgraded_equals_a_new_one(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    open_store(new).close()
    open_store(old).close()
    assert schema(old / "server.db") == schema(new / "server.db")
    assert columns(old / "server.db") == columns(new / "server.db")
    assert schema(old / "server.db")["version"] == str(VERSION)


def test_an_upgrade_keeps_every_row_of_version_2(old: Path) -> None:
    """Decisions, ledger, revocations, targets, receipts, devices, catalogs and rows: each as it was."""
    wanted = columns(old / "server.db")
    del wanted["aggregate_counts"]  # of a round that was open; see below
    before = rows(old / "server.db", wanted)
    assert all(before[table] for table in ("evidence", "rows", "targets", "ledger_nodes"))
    open_store(old).close()
    assert rows(old / "server.db", wanted) == before


def test_an_upgraded_store_answers_as_before(old: Path) -> None:
    """The lane, the ledger's root, who permits what, and the device that had answered."""
    store = open_store(old)
    with store.read() as tx:
        assert tx.lane_head() == 3
        steps = [tx.evidence(seq) for seq in (1, 2, 3)]
        one, two, three = (leaf_hash(step.leaf) for step in steps if step is not None)
        assert root(3, tx.ledger_node) == node_hash(node_hash(one, two), three)
        assert tx.decision_state(LIVE, "personalization").usable == 2
        personal = seal.personal_channel(LIVE, "personalization")
        assert tx.channel_head(personal).seq == 1
        device = tx.device("dev-7kpkok2ykb43wuqi")
        assert device is not None
        assert device.lane_acked == 3
    store.close()


RELEASED = {
    "round": "02" * 16,
    "metric": "visits_band",
    "status": "released",
    "min_subjects": 2,
    "epsilon": 0.5,
    "mechanism": {"name": "subset_selection", "categories": 2, "subset_size": 1},
    "opened_at_us": 5,
    "closed_at_us": 9,
    "n": 40,
    "estimate": {"few": 0.25, "many": 0.75},
    "ci95": {"few": [0.125, 0.375], "many": [0.625, 0.875]},
    "share": {"few": 0.25, "many": 0.75},
}
ASKED = {
    "purposes": [{"name": "measurement", "consent": True}],
    "categories": ["few", "many"],
    "epsilon": "1/2",
    "cost_micros": 500_000,
    "window_days": 3,
    "min_subjects": 2,
}


@pytest.fixture
def asking(old: Path) -> Path:
    """The same, with a round that is open and has counted an answer, and one that was released."""
    db = sqlite3.connect(old / "server.db")
    for number, closed_us in ((1, None), (2, 9)):
        of = (bytes([number]) * 16, "visits_band", b"d" * 16, json.dumps(ASKED).encode(), 5, 10**15)
        db.execute("INSERT INTO aggregate_rounds VALUES (?, ?, ?, ?, ?, ?, ?, 1)", (*of, closed_us))
    db.execute("INSERT INTO aggregate_counts VALUES (?, 0, 1)", (b"\x01" * 16,))
    db.execute(
        "INSERT INTO aggregate_tickets VALUES (?, ?, ?, ?, 'dev', 0)", (b"t" * 16, b"\x01" * 16, b"g", LIVE)
    )
    db.execute("INSERT INTO aggregate_spends VALUES (?, 20000, 500000)", (b"g",))
    body = json.dumps(RELEASED).encode()
    db.execute("INSERT INTO aggregate_releases VALUES (?, 'visits_band', 9, ?)", (b"\x02" * 16, body))
    db.commit()
    db.close()
    return old


def test_releases_of_before_are_read_as_they_were_published(asking: Path) -> None:
    """The mechanism was an object then; its name is what is left to say. What was spent stays spent."""
    store = open_store(asking)
    with store.read() as tx:
        ((body,), _) = tx.aggregates.releases(None, 9)
        assert tx.tickets.spent(b"g", 0) == 500_000
    store.close()
    release = json.loads(msgspec.json.encode(read_release(body)))
    assert {name: release[name] for name in RELEASED} == {**RELEASED, "mechanism": "subset_selection"}
    assert (release["kind"], release["mode"], release["reason"]) == ("histogram", "local", None)


def test_a_round_open_at_the_upgrade_ends_without_a_number_and_says_why(asking: Path) -> None:
    """It takes nothing more, and makes way for the next one; the one released before is still described."""
    store, clock = open_store(asking), ManualClock()
    key = X25519PrivateKey.generate()
    signing = Ed25519PrivateKey.generate()
    rounds = Rounds(clock, CountingEntropy(), b"k" * 32, signing, key.public_key())
    with store.read() as tx:
        assert rounds.offers(tx) == []
        released = tx.aggregates.round(b"\x02" * 16)
        assert released is not None
        asked = parameters_of(released)
    assert (asked.question.categories, asked.question.epsilon) == (("few", "many"), "1/2")
    assert mechanism_for(asked.question).name == "subset_selection"
    with store.write("open") as tx:
        fresh, new = rounds.open(tx, shop_catalog().model, "visits_band", 3_600_000_000)
    assert new
    Collector(Settings(data_dir=asking), store, rounds, key, lambda: None).step(0)
    with store.read() as tx:
        bodies = [tx.aggregates.release(id_) for id_ in (b"\x01" * 16, fresh.id)]
    store.close()
    assert bodies[0] is not None
    ended = read_release(bodies[0])
    assert (ended.status, ended.reason, ended.n) == ("withheld", ENDINGS["upgraded"], None)
    assert bodies[1] is None


def test_law_12_an_upgrade_from_version_2_that_fails_leaves_the_file_as_it_was(old: Path) -> None:
    """All parts in one transaction: whatever is in the way of the last, version 2 is still there whole."""
    db = sqlite3.connect(old / "server.db")
    db.execute("CREATE TABLE api_tokens (x)")  # in the way of the new one
    db.commit()
    before = "\n".join(db.iterdump())
    db.close()
    with pytest.raises(sqlite3.OperationalError):
        open_store(old)
    db = sqlite3.connect(old / "server.db")
    assert "\n".join(db.iterdump()) == before
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.close()


def test_a_store_of_a_later_release_is_refused_untouched(old: Path) -> None:
    db = sqlite3.connect(old / "server.db")
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(StoreTooNew):
        open_store(old)
