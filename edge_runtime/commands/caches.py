"""`read`, on a cache that no other process has open, and `verify-receipt`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands import key_options
from edge_runtime.commands.command import Declare, Out
from edge_runtime.commands.shown import plain

if TYPE_CHECKING:
    from edge_runtime.runtime import Runtime


def add(command: Declare) -> None:
    """Declare these commands."""
    read = command("read", _read, "one feature from a cache that no other process has open")
    _cache_arguments(read)
    read.add_argument("ref", metavar="VIEW:FEATURE")
    read.add_argument("entities", nargs="+", metavar="TYPE=ID")

    verify = command("verify-receipt", _verify, "check the signature of an erasure receipt")
    verify.add_argument("receipt", type=Path)
    verify.add_argument("--key", help="the device's public key, hex; by default the one in the receipt")


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


def _verify(options: argparse.Namespace) -> tuple[int, Out, str]:
    from edge_runtime.wire.failure import WireFailure
    from edge_runtime.wire.receipt import open_receipt

    shown = json.loads(options.receipt.read_text())
    proof = shown["proof"]
    key = bytes.fromhex(options.key or proof["public_key"])
    try:
        receipt = open_receipt(bytes.fromhex(proof["body"]), bytes.fromhex(proof["signature"]), key)
    except WireFailure as failure:
        return 1, {"verified": False, "reason": failure.reason}, f"does NOT verify: {failure.reason}"
    out: Out = {"verified": True, "kind": receipt.kind, "device": receipt.device_id}
    return (
        0,
        out,
        f"verifies: device {receipt.device_id} says {receipt.kind} (assurance: {receipt.assurance})",
    )
