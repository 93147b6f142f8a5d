"""Examining a cache that may not open: what stands in its files, and what each check says to it.

Nothing is changed, created or locked for longer than the look: the database is read through `untouched`, the
keystore from a copy (sealed, as it is) in a private folder that is removed. While another process has the
cache open, only the files and the keys are looked at.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import apsw

from edge_runtime.aggregates import counts
from edge_runtime.aggregates.facts import NEWEST_DAY, UNSURE_DAY
from edge_runtime.cache import failure
from edge_runtime.cache.journal_entry import DAY_US
from edge_runtime.cache.plain_tables import PLAIN_TABLES
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.salvage import remains_of
from edge_runtime.cache.schema import VERSION
from edge_runtime.cache.untouched import first_bytes, untouched
from edge_runtime.cache.write_ahead_log import read_log
from edge_runtime.consent import witness
from edge_runtime.errors import DatabaseInUse, EdgeError, KeyMismatch, StorageError
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.providers import Assurance, KeyProvider
from edge_runtime.keys.slot import Slot, decode
from edge_runtime.recovery import checks, set_aside
from edge_runtime.recovery.checks import Check
from edge_runtime.recovery.rebuild import page_keys
from edge_runtime.recovery.sampling import Sampling

_COUNTER: Final = "slot.counter"
_OPENING: Final = "slot.opening"
_TURNING: Final = "slot.turning"
_FAULTS: Final = 8
"""Most faults of pages that are counted."""
_PLAIN: Final = b"SQLite format 3\x00"
_UNFINISHED: Final = {
    ".rebuild": "a rebuild that was cut short",
    ".rebuilt": "a new database that was not finished",
    ".scratch": "a scratch file",
    "-keys.new": "a keystore that was not finished",
    "-keys.next": "a compaction of the keystore that was cut short",
}


class Examination:
    """The checks of one cache.

    Args:
        path: of its database.
        deep: open every sealed row, and compare every index with its table.
        now_us: the wall clock's time.
    """

    def __init__(self, path: Path, provider: KeyProvider, *, deep: bool, now_us: int) -> None:
        self._path, self._provider, self._deep, self._now_us = path, provider, deep, now_us
        self._keystore = set_aside.beside(path, "-keys")
        self._spare_bytes: int | None = None
        self._stack = ExitStack()
        self.authority: str | None = None
        """`server` or `standalone`; None where no keystore tells."""
        self.registry_key: bytes | None = None
        """The key that is pinned to sign privacy parts; None: none is, or no keystore tells."""
        self.ledger: dict[str, object] | None = None
        """What is kept of the server's ledger, see `witness.told`; None where it cannot be read."""

    def run(self) -> list[Check]:
        """Every check that can be made."""
        with self._stack:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-doctor-"))  # 0700
            return [*self._checks(Path(folder)), self._sizes(), self._leftovers()]

    def _checks(self, private: Path) -> Iterator[Check]:
        slot, said = self._slot()
        yield said
        keyring = None
        if slot is not None:
            keyring, said = self._keyring(slot, private)
            yield said
        try:
            said = self._file()
            if slot is None or said.state != "ok":
                yield said
            else:
                yield from self._database(slot, keyring, private)
        except DatabaseInUse:
            advice = "close the app that has it open, then ask again: what is inside was not looked at"
            yield Check("database", "warn", "in use", advice)
        except StorageError as error:
            yield Check("database", "fault", str(error), "see that the file and its folder can be read")

    # ---- key and keystore -------------------------------------------------------------------------------

    def _slot(self) -> tuple[Slot | None, Check]:
        try:
            if not self._provider.exists():
                return None, checks.slot_unreadable("not there")
            slot = decode(self._provider.load())
        except EdgeError as error:
            return None, checks.slot_unreadable(str(error))
        return slot, checks.slot(self._provider.assurance, slot.counter, fresh=slot.fresh)

    def _keyring(self, slot: Slot, private: Path) -> tuple[Keyring | None, Check]:
        """The keystore, opened from a copy: reading it may finish what a crash cut short."""
        if slot.fresh:
            return None, Check("keystore", "warn", "none was made yet", "open the cache once")
        try:
            copy = private / self._keystore.name
            for file in self._path.parent.glob(f"{self._keystore.name}*"):
                shutil.copy2(file, private / file.name)
            held = _Held(slot.encode(), self._provider.assurance)
            keyring = self._stack.enter_context(closing(Keyring.open(held, copy, True))).load()
            facts = self._counted(keyring)
        except EdgeError as error:
            return None, checks.keystore_unreadable(str(error))
        except OSError as error:
            return None, checks.keystore_unreadable(str(failure.of_file(error, "keystore")))
        self.authority = "server" if keyring.identity.enrolled else "standalone"
        self.registry_key = keyring.identity.registry_key
        return keyring, checks.keystore(facts)

    def _counted(self, keyring: Keyring) -> checks.KeystoreFacts:
        keys = sum(1 for _ in keyring.every_key())
        unsent = [denial.taken_here and not denial.settled for denial in keyring.denials()]
        bytes_ = _size(self._keystore), keyring.upkeep.waste_bytes
        return checks.KeystoreFacts(keyring.subjects, keys, len(unsent), sum(unsent), *bytes_)

    # ---- the database -----------------------------------------------------------------------------------

    def _file(self) -> Check:
        """The file itself, without a key."""
        if set_aside.unfinished(self._path):
            advice = "open the cache once: that finishes it, and needs no more than the files"
            return Check("database", "warn", "a rebuild was cut short after it was decided", advice)
        if not self._path.exists():
            return Check("database", "fault", "not there", checks.DISCARD)
        if first_bytes(str(self._path), len(_PLAIN)) == _PLAIN:
            advice = "it is none of ours and was not read: move it away"
            return Check("database", "fault", "an unencrypted SQLite file", advice)
        if not _size(self._path):
            return Check("database", "fault", "a file of zero bytes", checks.REPAIR)
        return Check("database", "ok", checks.mib(_size(self._path)))

    def _database(self, slot: Slot, keyring: Keyring | None, private: Path) -> Iterator[Check]:
        for page_key in page_keys(slot):
            with untouched(str(self._path), page_key) as connection:
                version = _version(connection)
                if version is not None:
                    yield from self._inside(connection, version, slot, keyring)
                    return
        yield self._closed(slot, private)

    def _closed(self, slot: Slot, private: Path) -> Check:
        """It does not open: is the key another one's, or a page damaged that leads to all others?"""
        why = ""
        for page_key in page_keys(slot):
            try:
                with remains_of(str(self._path), page_key, str(private / "scratch")):
                    found = "damaged where it lists its tables; the key fits"
                    return Check("database", "fault", found, checks.REPAIR)
            except KeyMismatch as error:
                why = str(error).partition(";")[0]
        return Check("database", "fault", why, "put the key and the database of one device together again")

    def _inside(
        self, connection: apsw.Connection, version: int, slot: Slot, keyring: Keyring | None
    ) -> Iterator[Check]:
        if version > VERSION:
            advice = "install the release that wrote it, or a newer one"
            yield Check("database", "fault", f"schema {version}, this release knows {VERSION}", advice)
            return
        tx = ReadTransaction(connection)
        older = "" if version == VERSION else ": the next opening brings it to the newest"
        found = f"{checks.mib(_size(self._path))}, the key fits, schema {version}{older}"
        yield Check("database", "ok", found)
        state = read_log(set_aside.beside(self._path, "-wal"))
        yield checks.log(state.frames, state.commits_behind)
        yield _asked("pages", lambda: checks.pages(tx.faults(_FAULTS, indexes=self._deep), deep=self._deep))
        if version == VERSION:
            self._spare_bytes = _spare(tx)
            yield from self._tables(tx, slot, keyring)

    def _tables(self, tx: ReadTransaction, slot: Slot, keyring: Keyring | None) -> Iterator[Check]:
        yield _asked(
            "counters",
            lambda: checks.counters(
                checks.Count(slot.counter, slot.opening),
                checks.Count(_number(tx, _COUNTER) or 0, _number(tx, _OPENING) or 0),
                cut_short=bool(tx.open_denials()) or tx.meta(_TURNING) is not None,
            ),
        )
        yield _asked("erasures", lambda: checks.erasures(_rows(tx, "denial"), len(tx.open_denials())))
        if keyring is not None:
            sampling = Sampling(tx, keyring, deep=self._deep)
            enrolled = keyring.identity.enrolled
            yield _asked("sealed rows", lambda: checks.sealed(sampling.sealed()))
            yield _asked("channels", lambda: checks.channels(sampling.channels()))
            yield _asked(
                "decision lane",
                lambda: checks.lane(tx.lane_position(), _rows(tx, "lane"), enrolled=enrolled),
            )
            yield _asked("ledger", lambda: self._ledger(tx, keyring.identity.device_id))
        yield _asked("outbox", lambda: checks.outbox(tx.outbox_counts()))
        yield _asked("budget", lambda: self._budget(tx))
        yield _asked("aggregates", lambda: checks.aggregates(counts.standing(tx)))

    def _ledger(self, tx: ReadTransaction, device_id: str) -> Check:
        kept, conflict = witness.stored(tx)
        kept = kept if kept is not None and kept.device_id == device_id else None
        conflict = conflict if conflict is not None and conflict.device_id == device_id else None
        self.ledger = witness.told(kept, conflict)
        return checks.ledger(
            None if kept is None else kept.signed.head.size,
            0 if kept is None else kept.begun_anew,
            None if conflict is None else conflict.code,
        )

    def _budget(self, tx: ReadTransaction) -> Check:
        newest, unsure = _number(tx, NEWEST_DAY), _number(tx, UNSURE_DAY)
        return checks.budget(_rows(tx, "budget"), newest, unsure, self._now_us // DAY_US)

    # ---- files ------------------------------------------------------------------------------------------

    def _sizes(self) -> Check:
        file, log = _size(self._path), _size(set_aside.beside(self._path, "-wal"))
        free = shutil.disk_usage(self._path.parent).free
        return checks.sizes(checks.Sizes(file, self._spare_bytes, log, _size(self._keystore), free))

    def _leftovers(self) -> Check:
        damaged = set_aside.set_aside(self._path)
        given_up = list(self._path.parent.glob(f"{self._keystore.name}.aside-*"))
        cut_short = {
            ending: name
            for ending, name in _UNFINISHED.items()
            if set_aside.beside(self._path, ending).exists()
        }
        files = [*damaged, *given_up, *(set_aside.beside(self._path, ending) for ending in cut_short)]
        return checks.leftovers(len(damaged), len(given_up), [*cut_short.values()], sum(map(_size, files)))


class _Held:
    """A provider that has only what another one said once, and changes nothing."""

    def __init__(self, slot: bytes, assurance: Assurance) -> None:
        self._slot, self.assurance = slot, assurance

    def exists(self) -> bool:
        return True

    def load(self) -> bytes:
        return self._slot

    def create(self, slot: bytes) -> bool:
        raise StorageError("a look makes no key; nothing changed")

    def store(self, slot: bytes) -> None:
        raise StorageError("a look changes no key; nothing changed")


def _version(connection: apsw.Connection) -> int | None:
    """The schema of a file; None where its first page, or the list of its tables, does not open."""
    try:
        version = connection.pragma("user_version")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except apsw.Error:
        return None
    assert isinstance(version, int)
    return version


def _asked(name: str, look: Callable[[], Check]) -> Check:
    """What a check says, or that what it needs cannot be read."""
    try:
        return look()
    except (apsw.Error, StorageError) as error:
        public = failure.public(error) if isinstance(error, apsw.Error) else error
        return Check(name, "fault", str(public).partition(";")[0], checks.REPAIR)


def _number(tx: ReadTransaction, fact: str) -> int | None:
    raw = tx.meta(fact)
    return None if raw is None else int.from_bytes(raw, "big")


def _rows(tx: ReadTransaction, table: str) -> int:
    return tx.rows_of(PLAIN_TABLES[table])


def _spare(tx: ReadTransaction) -> int | None:
    try:
        used_bytes, file_bytes = tx.size()
    except apsw.Error:
        return None
    return file_bytes - used_bytes


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
