"""Many simulated devices: `edge-sync load`."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from sync_server.cli.command import client, command, duration_us
from sync_server.load.command import LoadFailed, declare, plan_of, run


def load_command(commands: Any) -> None:
    """Hang the command under `commands`."""
    declare(command(commands, "load", _load, "simulate many devices and measure"))


def _load(args: argparse.Namespace) -> object:
    server = client(args)
    plan = plan_of(args, server.url, server.token, lambda text: duration_us(text) / 1_000_000)
    result, text = asyncio.run(run(plan))
    if not args.json:
        print(text)
    if result["faults"] or result["mismatched"] or result["fresh"]["last_s"] is None:
        if args.json:
            print(json.dumps(result))
        raise LoadFailed("not every device became fresh, or something was wrong: see above")
    return result if args.json else None
