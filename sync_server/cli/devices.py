"""Which devices there are: `edge-sync enrol` and `edge-sync devices list|revoke|lost|allow`."""

from __future__ import annotations

import argparse
from typing import Any

from sync_server.cli.command import client, command, duration_s
from sync_server.client import path_of


def enrol_command(commands: Any) -> None:
    """Hang `enrol` under `commands`."""
    made = command(commands, "enrol", _enrol, "make a one-time enrolment token")
    made.add_argument("--new-token", action="store_true", required=True)
    made.add_argument("--channel", action="append", help="channel pattern the device may follow; repeatable")
    made.add_argument("--ttl", help="life of the token, e.g. 15m")


def device_commands(commands: Any) -> None:
    """Hang `devices` under `commands`."""
    devices = commands.add_parser("devices", help="enrolled devices").add_subparsers(required=True)
    command(devices, "list", _list, "all devices")
    command(devices, "revoke", _revoke, "shut a device out").add_argument("id")
    lost = command(devices, "lost", _lost, "shut out a device that nobody has any more, and say so")
    lost.add_argument("id")
    made = command(devices, "allow", _allow, "say anew which shared channels a device may follow")
    made.add_argument("id")
    made.add_argument("--channel", action="append", default=[], help="channel pattern; none: no channel")


def _enrol(args: argparse.Namespace) -> object:
    body: dict[str, object] = {} if not args.channel else {"channels": args.channel}
    if args.ttl is not None:
        body["ttl_s"] = duration_s(args.ttl)
    return client(args).call("POST", "/v1/device-tokens", body)


def _list(args: argparse.Namespace) -> object:
    return client(args).call("GET", "/v1/devices")


def _revoke(args: argparse.Namespace) -> object:
    return client(args).call("DELETE", path_of("v1", "devices", args.id))


def _lost(args: argparse.Namespace) -> object:
    return client(args).call("DELETE", path_of("v1", "devices", args.id, reason="lost"))


def _allow(args: argparse.Namespace) -> object:
    return client(args).call("PATCH", path_of("v1", "devices", args.id), {"channels": args.channel})
