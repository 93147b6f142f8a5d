"""Making a backup: the store in one folder, its keys in another, never both in one place.

Both may be made while the server runs. A folder is complete once its manifest, or its `server.key`, is there.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

from edge_runtime.wire.seal import public_bytes
from sync_server.devices.authority import Authority, load_authority
from sync_server.devices.entropy import system_entropy
from sync_server.errors import NotRestored
from sync_server.restore import manifest
from sync_server.settings import Settings
from sync_server.store.copying import copy_database, look_at
from sync_server.store.lasting import write_private

KEYS: Final = "keys.db"
COVERED: Final = "backups.json"
"""In the data directory: the newest backups, by which the server lets old parts of its journal go."""
REMEMBERED: Final = 16


def back_up(settings: Settings, folder: Path, now_us: int) -> manifest.Manifest:
    """Copy `server.db` into `folder`, with a signed manifest. Never the keys.

    Raises `NotRestored` for a folder that holds something, `StoreForeign` and `KeysMissing` as at a start.
    """
    authority = _authority(settings)
    _empty(folder)
    database = folder / manifest.DATABASE
    part = database.with_suffix(".part")
    part.unlink(missing_ok=True)
    copy_database(settings.database, part)
    found = look_at(part)
    with part.open("rb") as file:
        hashed = manifest.hash_of(file)
        os.fsync(file.fileno())
    made = manifest.signed(
        authority.signing,
        manifest.Manifest(
            incarnation=authority.incarnation,
            time_us=now_us,
            size=found.size,
            root=found.root,
            schema=found.schema,
            catalog=found.catalog,
            lease_us=max(settings.lease_us, found.lease_us),
            file_bytes=part.stat().st_size,
            file_hash=hashed,
        ),
    )
    part.replace(database)
    write_private(folder / manifest.NAME, manifest.written(made))
    _remember(settings, made)
    return made


def back_up_keys(settings: Settings, folder: Path, beside: Path | None, *, force: bool) -> None:
    """Copy `keys.db` and `server.key` into `folder`.

    Args:
        beside: a backup of the store; the keys do not go onto the same file system.
        force: let them go there all the same: whoever holds both can read what was erased meanwhile.

    Raises `NotRestored`, with nothing made.
    """
    _authority(settings)
    _empty(folder)
    places = [place for place in (beside, settings.data_dir) if place is not None]
    if not force and any(_same_disk(folder, place) for place in places):
        raise NotRestored(
            f"{folder} is on the file system of the store or of its backup: a copy of both together brings"
            " back what was erased. Choose another, or --force; nothing was copied"
        )
    copy_database(settings.key_database, folder / KEYS)
    shutil.copyfile(settings.key_file, folder / "server.key.part")
    (folder / "server.key.part").chmod(0o600)
    (folder / "server.key.part").replace(folder / "server.key")


def covered(settings: Settings, incarnation: bytes, backups: int) -> int:
    """Ledger steps that each of the newest `backups` backups holds; 0 when there are fewer."""
    sizes = [b["size"] for b in _remembered(settings) if b["incarnation"] == incarnation.hex()]
    return min(sizes[-backups:]) if len(sizes) >= backups else 0


def newest_us(settings: Settings) -> int | None:
    """When the newest backup was made; None for never."""
    found = [int(b["time_us"]) for b in _remembered(settings)]
    return found[-1] if found else None


def _remember(settings: Settings, made: manifest.Manifest) -> None:
    one = {"incarnation": made.incarnation.hex(), "size": made.size, "time_us": made.time_us}
    path = settings.data_dir / COVERED
    part = path.with_suffix(".part")
    part.write_text(json.dumps([*_remembered(settings), one][-REMEMBERED:]))
    part.replace(path)


def _remembered(settings: Settings) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads((settings.data_dir / COVERED).read_text())
    except (FileNotFoundError, ValueError):
        return []
    return found


def _authority(settings: Settings) -> Authority:
    if not settings.database.exists():
        raise NotRestored(f"expected server.db in {settings.data_dir}, found none; nothing was made")
    return load_authority(settings.key_file, system_entropy, store_exists=True)


def _empty(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(not path.name.endswith(".part") for path in folder.iterdir()):
        raise NotRestored(f"expected an empty folder, {folder} holds something; nothing was copied")


def _same_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def keys_of(authority: Authority) -> list[bytes]:
    """Every key that this server ever signed with."""
    return [public_bytes(authority.signing), *(earlier.public_key for earlier in authority.earlier)]
