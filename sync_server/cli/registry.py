"""The privacy team's key: `edge-sync registry keygen|sign|show|record`. The first two ask no server.

The key never needs to be where a server is: sign on a machine of its own and bring the signed catalog.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.privacy import canonical_part, privacy_fingerprint
from edge_runtime.catalog.signed import sign
from edge_runtime.wire import seal
from sync_server.cli.command import client, command
from sync_server.client import path_of
from sync_server.clock import SystemClock
from sync_server.devices.entropy import system_entropy
from sync_server.store.lasting import write_private

_SIGNATURE: Final = re.compile(r"^\[signature\]\n(?:(?!\[).*\n?)*", re.MULTILINE)
_KEY: Final = re.compile(r"[0-9a-f]{64}")


def registry_commands(commands: Any) -> None:
    """Hang the commands under `commands`."""

    def keygen(args: argparse.Namespace) -> object:
        seed = system_entropy(32)
        write_private(args.key, seed.hex().encode() + b"\n")
        public = seal.public_bytes(Ed25519PrivateKey.from_private_bytes(seed)).hex()
        return {"key": str(args.key), "public_key": public}

    def sign_file(args: argparse.Namespace) -> object:
        catalog = sign_catalog(args.catalog, read_key(args.key), SystemClock().now_us())
        signature = catalog.signature
        assert signature is not None
        fingerprint = privacy_fingerprint(canonical_part(catalog)).hex()
        return {"catalog": str(args.catalog), "fingerprint": fingerprint, "public_key": signature.key.hex()}

    def show(args: argparse.Namespace) -> object:
        parts = ["v1", "purposes", *([args.purpose] if args.purpose else [])]
        return client(args).call("GET", path_of(*parts))["statement"]

    def record(args: argparse.Namespace) -> object:
        return client(args).call("GET", path_of("v1", "processing-record"))

    registry = commands.add_parser("registry", help="purposes, notices and the key that signs them")
    registry = registry.add_subparsers(required=True)
    made = command(registry, "keygen", keygen, "make a key that signs privacy parts, mode 0600")
    made.add_argument("--key", type=Path, required=True, metavar="FILE")
    made = command(registry, "sign", sign_file, "sign the privacy part of a catalog file, in place")
    made.add_argument("catalog", type=Path)
    made.add_argument("--key", type=Path, required=True, metavar="FILE")
    command(registry, "record", record, "the record of processing activities (GDPR Art. 30)")
    made = command(registry, "show", show, "the purposes in force, or one through all versions")
    made.add_argument("purpose", nargs="?")


def sign_catalog(path: Path, key: Ed25519PrivateKey, now_us: int) -> Catalog:
    """Write the signature into a catalog file, in the place of one that is there. Raises `CatalogError`."""
    catalog = sign(Catalog.load(path), key, now_us)
    table: dict[str, Any] = catalog.to_dict()["signature"]
    text = path.read_text()
    if path.suffix == ".json":
        made = msgspec.json.format(msgspec.json.encode({**msgspec.json.decode(text), "signature": table}))
        _replace(path, made)
    else:
        lines = [f"{name} = {msgspec.json.encode(value).decode()}\n" for name, value in table.items()]
        bare = _SIGNATURE.sub("", text).rstrip("\n")
        _replace(path, f"{bare}\n\n[signature]\n{''.join(lines)}".encode())
    return catalog


def read_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file that only its owner may read; raises `ValueError`."""
    if path.stat().st_mode & 0o077:
        raise ValueError("the registry key may be read by others: chmod 600 it")
    text = path.read_text(errors="replace").strip()
    if _KEY.fullmatch(text) is None:
        raise ValueError("expected a file of `edge-sync registry keygen`: 64 hex digits")
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text))


def public_key(text: str) -> bytes:
    """A public key as `keygen` prints it; raises `ValueError`."""
    if _KEY.fullmatch(text) is None:
        raise ValueError("expected a registry key of 64 hex digits, as `edge-sync registry keygen` prints it")
    return bytes.fromhex(text)


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".new")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
