"""Law 4 on the server: after a revocation its files hold neither what was erased nor a key that opens it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sync_server.api import rooms
from sync_server.app import build_app
from sync_server.restore.backup import back_up, back_up_keys
from sync_server.settings import HOUR_US, Settings
from tests.support.clock import ManualClock
from tests.support.shop_server import CATALOG, ShopServer

RAW_ID = "canary-subject-4711"
VALUE = "canary-value-0815"


def holding(folder: Path, needle: bytes) -> list[str]:
    """Names of the files under `folder` that hold `needle` anywhere, free pages and logs too."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path.name for path in files if needle in path.read_bytes())


def payload_keys(database: Path) -> list[bytes]:
    with sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True) as connection:
        found = [bytes(key) for (key,) in connection.execute("SELECT key FROM payload_keys")]
    connection.close()
    return found


async def test_law_4_nothing_readable_is_left_in_any_file_of_the_server(tmp_path: Path) -> None:
    """Database, write-ahead log, free pages, kept replies, key database, journal: all are searched."""
    data, journal = tmp_path / "data", tmp_path / "journal"
    journal.mkdir()
    catalog = tmp_path / "shop.toml"
    features = "[views.profile.features]\n"
    catalog.write_text(CATALOG.read_text().replace(features, features + 'note = { dtype = "string" }\n'))
    async with ShopServer(data, ManualClock(), journals=(journal,), catalog=catalog) as shop:
        await shop.give(RAW_ID)
        for n in range(40):  # others fill pages around it
            await shop.give(f"other-{n}")
        head = (await shop.call("GET", "/v1/consent-ledger/head")).body["size"]
        rows = [
            {"entity": f"user:{name}", "event_time": 1_700_000_000, "values": {"note": VALUE + name[-2:]}}
            for name in (RAW_ID, *(f"other-{n:02}" for n in range(10)))
        ]
        body = {"view": "profile", "rows": rows, "as_of": head}
        reply = await shop.call("POST", "/v1/features", body, headers={"Idempotency-Key": "k1"})
        assert reply.body["accepted"] >= 1, reply.body
        keys = payload_keys(data / "keys.db")
        doomed = _key_of(data / "keys.db", shop.pseudonym(RAW_ID))
        assert doomed in keys
        assert holding(data, doomed) == ["keys.db"]
        assert holding(tmp_path, VALUE.encode()) == []  # at rest it was never in plain text
        revoked = await shop.revoke(RAW_ID, **{"Idempotency-Key": "k2"})
        assert revoked.status == 202
        assert holding(tmp_path, doomed) == []
        assert holding(tmp_path, RAW_ID.encode()) == []
        assert holding(tmp_path, VALUE.encode()) == []
        assert len(payload_keys(data / "keys.db")) == len(keys) - 1
    assert holding(tmp_path, doomed) == []  # nor after the log was folded in


def _key_of(database: Path, subject: bytes) -> bytes:
    with sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True) as connection:
        (found,) = connection.execute("SELECT key FROM payload_keys WHERE subject = ?", (subject,)).fetchone()
    connection.close()
    return bytes(found)


def test_law_4_a_backup_of_the_store_opens_nothing(tmp_path: Path) -> None:
    """It holds no key, of payloads or of the server; nor does the other one hold a row."""
    settings = Settings(data_dir=tmp_path / "data", keys=tmp_path / "elsewhere.db", lease_us=48 * HOUR_US)
    app = build_app(settings, ManualClock())
    made = back_up(Settings(data_dir=tmp_path / "data"), tmp_path / "store", 1)
    back_up_keys(settings, tmp_path / "keys", None, force=True)
    assert made.lease_us == 48 * HOUR_US  # of the server that ran, whatever the backup was told
    seed = settings.key_file.read_bytes()
    assert holding(tmp_path / "store", seed) == []
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == ["keys.db", "server.key"]
    assert not (tmp_path / "data" / "keys.db").exists()
    app[rooms.STORE].close()
