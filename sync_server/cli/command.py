"""What the commands of `edge-sync` share: their common options, the client they speak through, durations."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge_runtime.catalog.duration import parse_duration
from sync_server.client import Client, Patience

PATIENCE: Final = Patience(total_s=3)
"""Somebody waits at the terminal."""


def command(
    commands: Any, name: str, act: Callable[[argparse.Namespace], object], text: str
) -> argparse.ArgumentParser:
    """Hang the command `name` under `commands`; `act` carries it out and returns what it has to say."""
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    default = Path(os.environ.get("EDGE_SYNC_DATA", "edge-sync-data"))
    made.add_argument("--data", type=Path, default=default, help=f"data directory (default {default})")
    made.add_argument("--url", help="the server's url (default: from server.json)")
    made.add_argument("--token-file", type=Path, help="an API token (default EDGE_SYNC_TOKEN, or api.token)")
    made.add_argument("--json", action="store_true", help="one JSON document on standard output")
    made.set_defaults(act=act)
    return made


def client(args: argparse.Namespace) -> Client:
    """The client of the server that the options name."""
    return Client.of(args.data, args.url, _token(args), patience=PATIENCE)


def _token(args: argparse.Namespace) -> str | None:
    """The API token of `--token-file` or `EDGE_SYNC_TOKEN`; None: the one beside the server's data.

    Raises ValueError when the file holds none.
    """
    if args.token_file is None:
        return os.environ.get("EDGE_SYNC_TOKEN") or None
    found: str = args.token_file.read_text().strip()
    if not found:
        raise ValueError(f"expected an API token in {args.token_file}")
    return found


def duration_us(text: str) -> int:
    """Microseconds of `15m` or `24h`; raises ValueError."""
    made = parse_duration(text)
    if made is None:
        raise ValueError(f"expected a duration like 15m or 24h, got {text!r}")
    return made


def duration_s(text: str | None) -> int | None:
    """Whole seconds of `15m` or `24h`; None: none was given. Raises ValueError."""
    return None if text is None else duration_us(text) // 1_000_000
