"""What stands where: `edge-sync segments put|add|remove|show` and `edge-sync hot-set show|importance`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from sync_server.cli.command import client, command
from sync_server.client import path_of


def segment_commands(commands: Any) -> None:
    """Hang the commands under `commands`."""

    def put(args: argparse.Namespace) -> object:
        text = sys.stdin.read() if args.file == "-" else Path(args.file).read_text()
        members = [line.strip() for line in text.splitlines() if line.strip()]
        return client(args).call("PUT", path_of("v1", "segments", args.name), {"members": members})

    def add(args: argparse.Namespace) -> object:
        return client(args).call("POST", path_of("v1", "segments", args.name), {"add": args.entity})

    def remove(args: argparse.Namespace) -> object:
        return client(args).call("POST", path_of("v1", "segments", args.name), {"remove": args.entity})

    def show(args: argparse.Namespace) -> object:
        parts = ["v1", "segments", *([args.name] if args.name else [])]
        return client(args).call("GET", path_of(*parts, after=args.after))

    segments = commands.add_parser("segments", help="who belongs to a segment").add_subparsers(required=True)
    made = command(segments, "put", put, "replace the members by those in a file")
    made.add_argument("name")
    made.add_argument("file", help="one id a line, as rows are keyed (item:85123A); - for standard input")
    for name, act, text in (("add", add, "let ids belong to it"), ("remove", remove, "and no more")):
        made = command(segments, name, act, text)
        made.add_argument("name")
        made.add_argument("entity", nargs="+")
    made = command(segments, "show", show, "its members, or all segments")
    made.add_argument("name", nargs="?")
    made.add_argument("--after", help="the last id of the page before")


def hot_set_commands(commands: Any) -> None:
    """Hang the commands under `commands`."""

    def show(args: argparse.Namespace) -> object:
        path = path_of("v1", "hot-set", channel=args.channel, after=args.after)
        return client(args).call("GET", path)

    def importance(args: argparse.Namespace) -> object:
        value = None if args.value == "none" else float(args.value)
        body = {"view": args.view, "entity": args.entity, "importance": value}
        return client(args).call("PUT", path_of("v1", "hot-set", "importance"), body)

    parser = commands.add_parser(
        "hot-set", help="which rows a channel pushes within its byte budget, and why"
    )
    hot_set = parser.add_subparsers(required=True)
    made = command(hot_set, "show", show, "the ranking of a channel")
    made.add_argument("channel", help="all, or segment:<name>")
    made.add_argument("--after", help="the rank of the last row of the page before")
    made = command(hot_set, "importance", importance, "say how important a view or an entity in it is")
    made.add_argument("view", help="view, or view@version")
    made.add_argument("value", help="0 to 1; none: as if nobody had said anything")
    made.add_argument("--entity", help="one entity only (item:85123A)")
