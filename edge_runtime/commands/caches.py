"""`read`, `export` and `rotate`, on a cache that no other process has open."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands import key_options
from edge_runtime.commands.command import Declare, Out
from edge_runtime.serving.plain import plain

if TYPE_CHECKING:
    from edge_runtime.runtime import Runtime


def add(command: Declare) -> None:
    """Declare these commands."""
    read = command("read", _read, "one feature from a cache that no other process has open")
    _cache_arguments(read)
    read.add_argument("ref", metavar="VIEW:FEATURE")
    read.add_argument("entities", nargs="+", metavar="TYPE=ID")

    export = command(
        "export", _export, "everything a cache holds on a subject, into a new file for you alone"
    )
    _cache_arguments(export)
    export.add_argument("subject")
    export.add_argument("--out", type=Path, required=True, metavar="FILE")

    rotate = command("rotate", _rotate, "put new secrets in the root slot and write everything under them")
    _cache_arguments(rotate)


def _cache_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("database", type=Path)
    parser.add_argument("--catalog", type=Path, required=True)
    key_options.add(parser)


def _open(options: argparse.Namespace) -> Runtime:
    from edge_runtime.catalog import Catalog
    from edge_runtime.errors import KeyMissing
    from edge_runtime.runtime import Runtime

    if not options.database.exists():
        raise KeyMissing("expected an existing database; nothing was created")
    catalog = Catalog.load(options.catalog)
    return Runtime.open(options.database, catalog=catalog, key=key_options.provider(options))


def _read(options: argparse.Namespace) -> tuple[int, Out, str]:
    entities = dict(text.partition("=")[::2] for text in options.entities)
    with _open(options) as rt:
        found = rt.read(options.ref, **entities)
    out: Out = {"value": plain(found.value), "status": found.status.name, "reason": found.reason}
    return 0, out, f"{plain(found.value)}  {found.status.name}  {found.reason}".rstrip()


def _export(options: argparse.Namespace) -> tuple[int, Out, str]:
    with _open(options) as rt:
        found = rt.export(options.subject)
    text = json.dumps(found, indent=1, ensure_ascii=False, default=plain)
    handle = os.open(options.out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # never over another one
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")
    shown = [name for name, purpose in found["purposes"].items() if purpose["shown"]]
    return 0, {"written": str(options.out), "purposes": shown}, f"wrote {options.out}: {' '.join(shown)}"


def _rotate(options: argparse.Namespace) -> tuple[int, Out, str]:
    with _open(options) as rt:
        before = rt.status()["counter"]
        rt.rotate_keys()
        after = rt.status()["counter"]
    out: Out = {"key_epoch_before": before, "key_epoch_after": after}
    text = f"key epoch {before} -> {after}; older copies of slot, keystore and database do not open"
    return 0, out, text
