"""`edge-sync consent audit` walks a real data directory and names the first thing that does not hold."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edge_runtime.wire.messages import Restore
from sync_server.cli import main
from sync_server.consent import ledger, merkle
from sync_server.consent.audit_heads import heads_in
from sync_server.consent.auditing import Audit, Keys, audit_store
from sync_server.consent.statement import head_document
from sync_server.devices.authority import load_authority, rotate_key
from sync_server.store.ledger import LedgerRows
from sync_server.store.looking import look
from tests.support.entropy import CountingEntropy
from tests.support.ledgers import MadeUp, leaves
from tests.support.shop_server import ShopServer
from tests.support.town import ALICE, BOB, Kiosk, P, Session, Town

Spoil = Callable[[sqlite3.Connection], object]
ODD = 15
"""Steps in the town of these tests, or more."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town in which each kind of decision was taken, by API and device, and a revocation was answered."""
    town = Town(tmp_path_factory.mktemp("audit") / "town")
    with town.store.write("key") as tx:
        tx.ledger.note_key(town.authority.public_key, 0)
    kiosk = Kiosk(town, town.folder.parent / "kiosk")
    kiosk.give(ALICE)
    settle(kiosk)
    for subject, state in ((BOB, "given"), (BOB, "restricted"), (BOB, "given"), ("user:c", "refused")):
        town.decide(subject, state)
    with town.store.write("revoke") as tx:
        town.office.revoke(tx, town.pseudonym(ALICE), None, "subject", "2026-11")
    settle(kiosk)
    kiosk.give(ALICE)
    settle(kiosk)
    for n in range(6):
        town.decide(f"user:p-{n}", "given")
        town.decide(f"user:p-{n}", "objected")
    town.decide("user:p-last", "given")
    kiosk.close()
    yield town
    town.close()


@pytest.fixture
def folder(original: Town, tmp_path: Path) -> Path:
    """A copy of its data directory, as a server left it."""
    source, copy = original.folder / "server.db", tmp_path / "data"
    copy.mkdir()
    with sqlite3.connect(source) as there, sqlite3.connect(copy / "server.db") as here:
        there.backup(here)
    here.close()
    shutil.copy(original.folder / "server.key", copy)
    return copy


def settle(kiosk: Kiosk) -> None:
    session = Session(kiosk)
    session.open()
    session.settle()
    session.close()


def keys_of(folder: Path) -> Keys:
    authority = load_authority(folder / "server.key", CountingEntropy(), store_exists=True)
    return Keys(
        [(one.public_key, one.signature) for one in authority.earlier],
        *(authority.public_key, authority.incarnation, authority.restores),
    )


def audited(folder: Path, *documents: object) -> Audit:
    heads = [head for n, document in enumerate(documents) for head in heads_in(f"head {n + 1}", document)]
    assert len(heads) == len(documents)
    with look(folder / "server.db") as rows:
        return audit_store(rows, keys_of(folder), heads)


def fault(audit: Audit) -> tuple[str, str, int | None]:
    assert audit.fault is not None
    return audit.fault.name, audit.fault.where, audit.fault.seq


def spoil(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "server.db", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def head_of(town: Town, size: int | None = None) -> dict[str, object]:
    """What a device or an auditor kept of it."""
    with town.store.read() as tx:
        at = tx.lane_head() if size is None else size
        made = town.authority
        return dict(head_document(ledger.sign_head(made.signing, at, tx.ledger_node, 5, made.incarnation)))


def test_a_ledger_that_nobody_touched_holds(original: Town, folder: Path) -> None:
    """Every step, node, lane entry and denial, and heads of every size."""
    sizes = range(original.lane_head() + 1)
    found = audited(folder, *(head_of(original, size) for size in sizes))
    assert found.fault is None
    assert (found.leaves, found.erased, found.beyond) == (original.lane_head(), 0, ())
    assert found.leaves >= ODD
    assert found.root == merkle.root(original.lane_head(), node_of(original))


def node_of(town: Town) -> merkle.NodeReader:
    def node(level: int, place: int) -> bytes:
        with town.store.read() as tx:
            return tx.ledger_node(level, place)

    return node


# ---- the five of the issue ---------------------------------------------------------------------------------


def test_an_edited_leaf_is_named(folder: Path) -> None:
    """Leaf and column agree again, the commitment opens: the hash is another."""
    connection = sqlite3.connect(folder / "server.db", isolation_level=None)
    edit_leaf(connection)
    connection.close()
    assert fault(audited(folder)) == ("leaf_hash", "ledger_nodes 0:4", 5)


def test_an_edit_with_all_hashes_made_anew_is_a_fork_of_what_was_signed(original: Town, folder: Path) -> None:
    """Who holds an older head sees it; the audit names the head."""
    kept = head_of(original, 6)
    edit_and_rehash(folder)
    assert audited(folder).fault is None  # nothing in the files alone contradicts it
    assert fault(audited(folder, kept)) == ("fork", "head 1", 6)


def edit_leaf(connection: sqlite3.Connection) -> None:
    raw = connection.execute("SELECT leaf FROM evidence WHERE seq = 5").fetchone()[0]
    leaf = msgspec.structs.replace(msgspec.msgpack.decode(raw, type=ledger.Leaf), notice="2025-01")
    connection.execute(
        "UPDATE evidence SET leaf = ?, notice = '2025-01' WHERE seq = 5", (ledger.leaf_bytes(leaf),)
    )


def edit_and_rehash(folder: Path) -> None:
    connection = sqlite3.connect(folder / "server.db", isolation_level=None)
    edit_leaf(connection)
    edge = merkle.RightEdge()
    for (leaf_bytes,) in connection.execute("SELECT leaf FROM evidence ORDER BY seq").fetchall():
        for level, place, made in edge.add(leaf_bytes):
            connection.execute(
                "UPDATE ledger_nodes SET hash = ? WHERE level = ? AND place = ?", (made, level, place)
            )
    connection.close()


def test_reordered_steps_are_named(folder: Path) -> None:
    """Two rows change places."""
    spoil(
        folder,
        *("UPDATE evidence SET seq = -4 WHERE seq = 4", "UPDATE evidence SET seq = 4 WHERE seq = 7"),
        "UPDATE evidence SET seq = 7 WHERE seq = -4",
    )
    assert fault(audited(folder)) == ("column", "evidence.seq", 4)


@pytest.mark.parametrize("hashes", [False, True])
def test_a_cut_tail_is_named(original: Town, folder: Path, hashes: bool) -> None:
    """By the hashes that are left over; or, where those went too, by a head that somebody kept."""
    size = original.lane_head()
    spoil(folder, f"DELETE FROM evidence WHERE seq = {size}")
    if not hashes:
        assert fault(audited(folder)) == ("cut_tail", "ledger_nodes", size)
        return
    spoil(folder, f"DELETE FROM ledger_nodes WHERE (place + 1) << level = {size}")
    spoil(folder, f"DELETE FROM lane WHERE seq = {size}")
    assert audited(folder).fault is None  # nothing in the files alone contradicts it
    assert fault(audited(folder, head_of(original))) == ("cut_tail", "head 1", size)


def test_a_fork_is_named(original: Town, folder: Path, tmp_path: Path) -> None:
    """Two devices were told two ledgers: one of their heads is not a beginning of the one that is kept."""
    other = Town(tmp_path / "other", original.clock)
    other.close()
    shutil.copy(folder / "server.key", tmp_path / "other")
    shutil.copy(folder / "server.db", tmp_path / "other")
    forked = Town(tmp_path / "other", original.clock)
    with forked.store.write("fork") as tx:
        tx.execute("UPDATE ledger_nodes SET hash = zeroblob(32) WHERE level = 0 AND place = ?", (4,))
    kept = head_of(forked, 5)
    forked.close()
    assert fault(audited(folder, head_of(original, 4), kept)) == ("fork", "head 2", 5)


def test_a_head_under_an_old_key_is_named(original: Town, folder: Path) -> None:
    """Who has a key of before signs the ledger of today with it: that key was over when it was so long."""
    old, size = head_of(original), original.lane_head()
    early = head_of(original, 3)
    key = rotate_key(folder / "server.key", CountingEntropy())
    spoil(folder, f"INSERT INTO ledger_keys VALUES (x'{key.hex()}', 6)")
    assert audited(folder, early).fault is None
    assert fault(audited(folder, early, old)) == ("old_key", "head 2", size)


def test_a_strangers_head_and_a_false_succession_are_named(original: Town, folder: Path) -> None:
    """A head that no key of ours signed; a key file whose keys do not name each other."""
    stranger = {**head_of(original), "signature": head_of(original, 2)["signature"]}
    assert fault(audited(folder, stranger))[:2] == ("head_signature", "head 1")
    rotate_key(folder / "server.key", CountingEntropy())
    keys = keys_of(folder)
    false = Keys([(keys.earlier[0][0], bytes(64))], keys.present, keys.incarnation)
    with look(folder / "server.db") as rows:
        found = audit_store(rows, false)
    assert fault(found) == ("succession", "server.key", None)


def test_a_head_from_before_a_restore_is_not_called_a_fork(original: Town, folder: Path) -> None:
    """Leaves that a restore lost cannot be compared, which is said; those that it kept still are."""
    keys, spoken = keys_of(folder), b"another one 1234"
    restored = Keys(keys.earlier, keys.present, spoken, [Restore(spoken, 6, 9)])
    heads = [head_of(original, 6), head_of(original, 9)]
    with look(folder / "server.db") as rows:
        found = audit_store(rows, restored, [one for d in heads for one in heads_in(str(d["size"]), d)])
    assert (found.fault, found.beyond) == (None, ("9",))


# ---- every column ------------------------------------------------------------------------------------------

COLUMNS = {
    "evidence": (
        *("seq", "subject", "purpose", "state", "outcome", "notice", "base", "actor", "decision", "at_us"),
        *("recorded_us", "grant_seq", "salt", "leaf", "notice_hash", "registry", "signals"),
    ),
    "ledger_nodes": ("level", "place", "hash"),
    "lane": ("subject", "purpose", "seq", "state", "grant_seq", "denial"),
    "denials": ("seq", "revocation", "subject", "purpose"),
}


def flipped(value: object) -> object:
    """Another value of the same type."""
    match value:
        case int():
            return value + 100_000
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:] if value else b"\x01"
        case None:
            return b"0123456789abcdef"
        case _:
            return f"{value}x" if value else "gpc"


def test_the_columns_are_all_there_are(folder: Path) -> None:
    """A column that is added is walked too, or this fails."""
    connection = sqlite3.connect(folder / "server.db")
    for table, columns in COLUMNS.items():
        stands = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        assert stands == set(columns), table
    connection.close()


@pytest.mark.parametrize(("table", "column"), [(t, c) for t, columns in COLUMNS.items() for c in columns])
def test_a_flip_in_any_column_is_found(folder: Path, table: str, column: str) -> None:
    """In the first row, one in the middle and the last, each by itself."""
    connection = sqlite3.connect(folder / "server.db", isolation_level=None)
    total = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    for at in {0, total // 2, total - 1}:
        key = {"evidence": "seq", "denials": "seq", "lane": "subject", "ledger_nodes": "place"}[table]
        other = {"lane": "purpose", "ledger_nodes": "level"}.get(table, key)
        row = connection.execute(
            f"SELECT {key}, {other}, {column} FROM {table} ORDER BY {key}, {other} LIMIT 1 OFFSET {at}"
        ).fetchone()
        connection.execute("BEGIN")
        connection.execute(
            f"UPDATE {table} SET {column} = ? WHERE {key} IS ? AND {other} IS ?", (flipped(row[2]), *row[:2])
        )
        connection.execute("COMMIT")
        found = audited(folder)
        assert found.fault is not None, (table, column, at)
        again = (row[2], *row[:2])
        keys = [flipped(v) if n in (column,) else v for n, v in ((key, row[0]), (other, row[1]))]
        connection.execute(
            f"UPDATE {table} SET {column} = ? WHERE {key} IS ? AND {other} IS ?", (again[0], *keys)
        )
        assert audited(folder).fault is None
    connection.close()


@pytest.mark.parametrize("table", COLUMNS)
def test_a_row_that_is_gone_is_found(folder: Path, table: str) -> None:
    """Each row of each table, one at a time."""
    key = {"evidence": "seq", "denials": "seq", "lane": "seq", "ledger_nodes": "hash"}[table]
    connection = sqlite3.connect(folder / "server.db", isolation_level=None)
    for (name,) in connection.execute(f"SELECT {key} FROM {table}").fetchall():
        connection.execute("SAVEPOINT one")
        connection.execute(f"DELETE FROM {table} WHERE {key} = ?", (name,))
        found = audit_store(LedgerRows(connection), keys_of(folder))
        assert found.fault is not None, (table, name)
        connection.execute("ROLLBACK TO one")
    connection.close()


# ---- at the command line -----------------------------------------------------------------------------------


def test_the_command_names_the_fault_and_its_exit_code_says_no(
    original: Town, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 holds, 1 does not; with a head that a device printed. The data directory is not changed."""
    file = tmp_path / "head.json"
    file.write_text(json.dumps(head_of(original)))
    before = (folder / "server.db").read_bytes()
    command = ["consent", "audit", "--data", str(folder), "--offline", "--head", str(file), "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["holds"]
    assert told["heads"] == 1
    assert (folder / "server.db").read_bytes() == before
    spoil(folder, "UPDATE evidence SET outcome = 'superseded' WHERE seq = 2")
    assert main(command) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["fault"]["name"], told["fault"]["seq"]) == ("column", 2)
    assert main(command[:-1]) == 1
    assert "step 2" in capsys.readouterr().out
    for junk in ("{}", "no JSON", "[" * 100_000, json.dumps({**head_of(original), "root": 7})):
        file.write_text(junk)
        assert main(command) == 2


async def test_a_running_server_is_audited_by_its_leaves(
    shop: ShopServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Page by page over the API; a head that was kept of another ledger is a fork, and a longer one cut."""
    for n in range(7):
        assert (await shop.give(f"user:p-{n}")).status == 201
    kept = (await shop.call("GET", "/v1/consent-ledger/head")).body
    (tmp_path / "head.json").write_text(json.dumps(kept))
    url = str(shop.client.make_url("")).rstrip("/")
    data, file = str(shop.settings.data_dir), str(tmp_path / "head.json")
    command = ["consent", "audit", "--data", data, "--url", url, "--head", file, "--json"]
    monkey = pytest.MonkeyPatch()
    monkey.setattr("sync_server.cli.ledger.PAGE", 3)
    assert await asyncio.to_thread(main, command) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["leaves"], told["heads"]) == (7, 2)
    forked, made = MadeUp(leaves(9)), shop.authority
    earlier = forked.head(made.signing, 7)  # of another incarnation: a restore may have lost its leaves
    (tmp_path / "head.json").write_text(json.dumps(head_document(earlier)))
    assert await asyncio.to_thread(main, command) == 0
    assert json.loads(capsys.readouterr().out)["beyond"] == [file]
    for size, name in ((7, "fork"), (9, "cut_tail")):
        head = forked.head(made.signing, size, incarnation=made.incarnation)
        (tmp_path / "head.json").write_text(json.dumps(head_document(head)))
        assert await asyncio.to_thread(main, command) == 1
        assert json.loads(capsys.readouterr().out)["fault"]["name"] == name
    monkey.undo()


if __name__ == "__main__":  # how long 100,000 leaves take
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        big = Town(Path(place) / "town")
        with big.store.write("many") as tx:
            from sync_server.consent.decisions import API, Proposal, record

            for n in range(100_000):
                asked = Proposal(n.to_bytes(16, "big"), P, "given", "2026-11", n, n, API)
                record(tx, asked, now_us=n, salt=n.to_bytes(32, "big"))
        began = time.perf_counter()
        print(audited(big.folder), f"{time.perf_counter() - began:.2f} s")
        big.close()
