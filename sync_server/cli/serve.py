"""`edge-sync serve`, and `edge-sync rotate-key`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sync_server.cli.command import command, duration_us
from sync_server.cli.events import reached, serving_options
from sync_server.cli.overrides import overridden
from sync_server.cli.registry import public_key
from sync_server.devices.authority import rotate_key
from sync_server.devices.enrolment import encode
from sync_server.devices.entropy import system_entropy
from sync_server.server import serve
from sync_server.settings import Settings

MOST_PORT: Final = 65_535


def serve_command(commands: Any) -> None:
    """Hang `serve` under `commands`."""
    made = command(commands, "serve", _serve, "run the server until SIGTERM")
    made.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1)")
    made.add_argument(
        "--port", type=int, default=8080, help="default 8080; 0: any free one (see server.json)"
    )
    made.add_argument("--catalog", type=Path, help="register this catalog and make it active")
    made.add_argument("--registry-key", metavar="HEX", help="public key that must sign privacy parts")
    made.add_argument("--oidc", type=Path, help="an OpenID Connect issuer; see docs/access.md")
    made.add_argument("--lease", help="duration of leases, e.g. 24h")
    made.add_argument(
        "--journal", type=Path, action="append", default=[], help="folder; see docs/restore.md; repeatable"
    )
    made.add_argument("--keys", type=Path, help="where keys.db lies: best on another volume")
    strength = "what receipts say of this server's own erasure (default file); see docs/restore.md"
    made.add_argument("--key-assurance", default="file", choices=("file", "volume"), help=strength)
    serving_options(made)
    made.add_argument("--set", action="append", metavar="NAME=VALUE", help="a limit; see docs/settings.md")


def key_command(commands: Any) -> None:
    """Hang `rotate-key` under `commands`."""
    command(commands, "rotate-key", _rotate_key, "give the server a new signing key, named by the old one")


def _serve(args: argparse.Namespace) -> None:
    if not 0 <= args.port <= MOST_PORT:
        raise ValueError(f"expected a port of 0 to {MOST_PORT}")
    if args.data.exists() and not args.data.is_dir():
        raise ValueError(f"expected a directory, {args.data} is none; nothing was changed")
    settings = Settings(data_dir=args.data, host=args.host, port=args.port, catalog=args.catalog)
    if args.lease is not None:
        settings = replace(settings, lease_us=duration_us(args.lease))
    if args.registry_key is not None:
        settings = replace(settings, registry_key=public_key(args.registry_key))
    settings = replace(settings, oidc=args.oidc, journals=tuple(args.journal), keys=args.keys)
    settings = replace(settings, key_assurance=args.key_assurance)
    settings = overridden(reached(settings, args), args.set or ())

    def announce(url: str) -> None:
        if args.json:
            print(json.dumps({"url": url, "token_file": str(settings.token_file), "pid": os.getpid()}))
        else:
            print(f"edge-sync listens at {url}  (docs: {url}/docs)")
            print(f"API token: {settings.token_file}")
        sys.stdout.flush()

    asyncio.run(serve(settings, announce))


def _rotate_key(args: argparse.Namespace) -> object:
    key = rotate_key(Settings(data_dir=args.data).key_file, system_entropy)
    return {"public_key": encode(key), "from": "the server signs with it from its next start"}
