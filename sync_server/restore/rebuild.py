"""`edge-sync restore`: a data directory made anew from a backup, the keys, and the journal.

It is made beside its place and moved there whole, so a restore that was killed is simply run again. What it
leaves is a new incarnation of the server: open at once when the journal is whole, else closed to gives and to
personal channels until the devices were heard (`catching_up`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edge_runtime.wire.messages import Restore
from sync_server.aggregates.tickets import note_restore
from sync_server.catalog.registry import Registry
from sync_server.devices.authority import Authority, load_authority, write_restored
from sync_server.devices.entropy import Entropy
from sync_server.errors import NotRestored
from sync_server.journal.folder import FolderReading
from sync_server.restore import manifest
from sync_server.restore.again import Recorder
from sync_server.restore.backup import KEYS, keys_of
from sync_server.restore.lost import fill
from sync_server.restore.manifest import Manifest
from sync_server.restore.replay import Replay
from sync_server.settings import Settings
from sync_server.store.copying import copy_database, look_at
from sync_server.store.lasting import sync_folder
from sync_server.store.protocol import WriteTx
from sync_server.store.restores import RestoreRow
from sync_server.store.sqlite import SqliteStore

MARK: Final = "restore.part"
"""Stands in a directory that a restore is making."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What to restore from."""

    backup: Path
    """Folder of a backup of the store."""
    authority: Path | None = None
    """The server's `server.key`; by default the one in `keys`."""
    keys: Path | None = None
    """Folder of a backup of the keys, or a `keys.db`; None: every personal row is dropped."""
    journals: Sequence[Path] = ()
    incomplete: bool = False
    """The operator knows that the journals lack something."""
    lane: int = 0
    """A lane position that somebody knows to have been reached: numbers up to it are not given again."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it."""

    incarnation: str
    backup_at_us: int
    backup_size: int
    steps: int
    """Ledger steps that the journal brought."""
    denials: int
    """Of these, the denials."""
    devices: int
    """Devices that the journal told of."""
    kept: int
    """Ledger steps that are those of before."""
    lane: int
    """Ledger steps there are now; what lies between was lost."""
    whole: bool
    """Whether nothing can be missing: the server is open at once."""
    why: str
    """What is not whole; empty when everything is."""
    journal_alive_us: int | None
    """When the journal was last seen to be whole."""
    open_at_latest_us: int
    tokens_ended: int
    """API tokens that were good when the backup was made, and are no more."""


def restore(sources: Sources, settings: Settings, now_us: int, entropy: Entropy) -> Restored:
    """Make `settings.data_dir`, which is not there yet or empty, from `sources`.

    Raises:
        NotRestored: these sources cannot be restored from, or the directory holds something.
        StoreForeign, StoreTooNew, KeysMissing: as at a start. In every case nothing is left behind.
    """
    above = next(path for path in settings.data_dir.absolute().parents if path.exists())
    handle = os.open(above, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _restored(sources, settings, now_us, entropy)
    except BlockingIOError:
        raise NotRestored(f"another restore is under way in {above}; nothing was restored") from None
    finally:
        os.close(handle)


def _restored(sources: Sources, settings: Settings, now_us: int, entropy: Entropy) -> Restored:
    authority = load_authority(_key_file(sources), entropy, store_exists=True)
    made = _manifest(sources.backup, authority)
    at_us = max([now_us, made.time_us + 1, *(r.at_us + 1 for r in authority.restores)])
    lineage = _lineage(authority, made)
    target = settings.data_dir
    if target.exists() and any(target.iterdir()):
        raise NotRestored(f"expected an empty directory, {target} holds something; nothing was restored")
    part = _fresh(target.with_name(target.name + ".part"))
    try:
        found = _build(sources, settings, authority, made, lineage, at_us, part, entropy)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync_folder(part)
    if target.exists():
        target.rmdir()
    part.rename(target)
    sync_folder(target.parent)
    (target / MARK).unlink()
    return found


@dataclass(frozen=True, slots=True)
class _Leg:
    """One incarnation on the way from the backup to now."""

    incarnation: bytes
    until: int | None
    """Ledger steps after which the next incarnation took another way; None for the last."""


def _lineage(authority: Authority, made: Manifest) -> list[_Leg]:
    """The incarnations from the backup's on. Raises `NotRestored` for one whose ledger was left since."""
    names = [r.incarnation for r in authority.restores]
    later = authority.restores[names.index(made.incarnation) + 1 :] if made.incarnation in names else ()
    if made.incarnation not in names:
        later = authority.restores
    if any(restore.kept < made.size for restore in later):
        raise NotRestored(
            f"the backup holds {made.size} ledger steps; a restore after it kept fewer, so they are not this"
            " ledger's any more. Use an older backup, or one made since; nothing was restored"
        )
    starts = [made.incarnation, *(r.incarnation for r in later)]
    ends: list[int | None] = [*(r.kept for r in later), None]
    return [_Leg(one, until) for one, until in zip(starts, ends, strict=True)]


def _build(
    sources: Sources,
    settings: Settings,
    authority: Authority,
    made: Manifest,
    lineage: Sequence[_Leg],
    at_us: int,
    part: Path,
    entropy: Entropy,
) -> Restored:
    database, keys = part / "server.db", part / KEYS
    shutil.copyfile(sources.backup / manifest.DATABASE, database)
    if sources.keys is not None:
        copy_database(sources.keys / KEYS if sources.keys.is_dir() else sources.keys, keys)
    else:
        keys.touch(mode=0o600)
    database.chmod(0o600)
    _check(database, made)
    incarnation = entropy(16)
    until_us = settings.lease_bound_us(at_us, max(made.lease_us, settings.lease_us))
    opened = SqliteStore(database, keys, digest_key=authority.digest_key, entropy=entropy)
    try:
        leases, due_us = Registry(opened).leases(), at_us + settings.erasure_due_us
        recorder = Recorder(at_us, due_us, entropy, leases, settings.lease_bound_us)
        with opened.write("restore") as tx:
            tx.restores.leases_may_run(until_us)
            why, alive_us, replay = _replay(tx, sources, authority, lineage, recorder)
            tx.restores.leases_may_run(until_us)  # of devices that the journal brought, too
            replay.finish()
            kept = tx.lane_head()
            row = RestoreRow(at_us, incarnation, kept, made.size, until_us, None, None)
            tx.restores.begin(row if why else replace(row, opened_us=at_us, opened_by="journal"))
            fill(tx, max(sources.lane, replay.found.top), recorder)
            for bar in (bar for seq, bar in replay.bars if seq > kept):
                recorder.bar(tx, bar, kept)
            tx.erase_denied_keys()
            ended = tx.access.revoke_all(at_us)  # the backup does not know which were revoked since
            note_restore(tx, made.time_us, at_us)
            tx.aggregates.end_rounds("restored")  # nor which tickets were used, or what was released
            lane = tx.lane_head()
        opened.forget_keys_after(kept)
    finally:
        opened.close()
    # opened once more: rows whose keys are gone are dropped then
    SqliteStore(database, keys, digest_key=authority.digest_key, entropy=entropy).close()
    write_restored(_key_file(sources), part / "server.key", Restore(incarnation, kept, at_us))
    found = replay.found
    return Restored(
        *(incarnation.hex(), made.time_us, made.size, found.steps, found.denials, found.devices, kept, lane),
        *(not why, why, alive_us, until_us, ended),
    )


def _replay(
    tx: WriteTx, sources: Sources, authority: Authority, lineage: Sequence[_Leg], recorder: Recorder
) -> tuple[str, int | None, Replay]:
    """Tell the journals; returns what is not whole of them, when they were last whole, and what they told."""
    replay = Replay(tx, keys_of(authority), recorder)
    why, alive_us = "there is no journal" if not sources.journals else "", None
    for leg in lineage:
        faults, alive_us = [], None
        for reading in _readings(sources.journals, leg):
            replay.tell(reading.entries(), leg.until)
            if reading.fault is not None:
                faults.append(reading.fault)
            elif reading.alive_us is None:
                faults.append("a journal was behind, or is not there")
            else:
                alive_us = max(alive_us or 0, reading.alive_us)
        if leg.until is not None and tx.lane_head() < leg.until:
            raise NotRestored(
                f"this server was restored before, and kept {leg.until} ledger steps then; backup and"
                f" journals reach {tx.lane_head()}. Use a backup made since, or the journals; nothing was"
                " restored"
            )
        if alive_us is None and faults and leg.until is None:
            why = faults[0]
    if replay.found.gap is not None and tx.lane_head() < replay.found.gap:
        why = f"the journal lacks ledger step {replay.found.gap}"
    if sources.incomplete and not why:
        why = "the operator said that the journal lacks something"
    return why, alive_us, replay


def _readings(journals: Sequence[Path], leg: _Leg) -> Iterator[FolderReading]:
    return (FolderReading(folder, leg.incarnation) for folder in journals)


def _key_file(sources: Sources) -> Path:
    if sources.authority is not None:
        path = sources.authority
    elif sources.keys is not None and sources.keys.is_dir():
        path = sources.keys / "server.key"
    else:
        raise NotRestored("expected the server's server.key: --authority, or a folder of keys that has it")
    if not path.exists():
        raise NotRestored(f"expected server.key at {path}, found none; nothing was restored")
    return path


def _manifest(backup: Path, authority: Authority) -> Manifest:
    try:
        raw = (backup / manifest.NAME).read_bytes()
    except OSError:
        raise NotRestored(
            f"expected {manifest.NAME} in {backup}: no whole backup; nothing was restored"
        ) from None
    return manifest.verified(raw, keys_of(authority))


def _check(database: Path, made: Manifest) -> None:
    """The copy is the file that the manifest was made for, and its ledger the one it names."""
    with database.open("rb") as file:
        hashed = manifest.hash_of(file)
    if (database.stat().st_size, hashed) != (made.file_bytes, made.file_hash):
        raise NotRestored(
            "the backup's server.db is not the file that its manifest names; nothing was restored"
        )
    found = look_at(database)
    if (found.size, found.root) != (made.size, made.root):
        raise NotRestored("the backup's ledger is not the one that its manifest names; nothing was restored")


def _fresh(part: Path) -> Path:
    """An empty directory to build in; what an earlier restore left there goes."""
    if part.exists():
        if not (part / MARK).exists() and any(part.iterdir()):
            raise NotRestored(f"{part} is in the way and was not made by a restore; nothing was restored")
        shutil.rmtree(part)
    part.mkdir(mode=0o700, parents=True)
    (part / MARK).touch()
    return part
