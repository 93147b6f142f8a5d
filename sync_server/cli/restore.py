"""`edge-sync backup` and `edge-sync restore`: see docs/restore.md."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sync_server.cli.command import client, command, duration_us
from sync_server.clock import SystemClock
from sync_server.devices.entropy import system_entropy
from sync_server.restore.backup import back_up, back_up_keys
from sync_server.restore.rebuild import Sources, restore
from sync_server.settings import Settings


def restore_commands(commands: Any) -> None:
    """Hang the commands under `commands`."""

    def backup(args: argparse.Namespace) -> object:
        settings = Settings(data_dir=args.data, keys=args.key_database)
        if args.keys:
            back_up_keys(settings, args.folder, args.beside, force=args.force)
            return {"keys": str(args.folder), "keep": "apart from every backup of server.db"}
        made = back_up(settings, args.folder, SystemClock().now_us())
        told = {"backup": str(args.folder), "at": made.time_us, "ledger_size": made.size}
        return {**told, "catalog": made.catalog, "bytes": made.file_bytes}

    def from_backup(args: argparse.Namespace) -> object:
        if args.open:
            return client(args).call("POST", "/v1/restore/open")
        if args.folder is None:
            return client(args).call("GET", "/v1/restore")
        for journal in args.journal:
            if not journal.is_dir():
                raise ValueError(
                    f"expected a journal's folder at {journal}, found none; leave it out if it is lost"
                )
        settings = Settings(data_dir=args.data)
        if args.lease is not None:
            settings = Settings(data_dir=args.data, lease_us=duration_us(args.lease))
        sources = Sources(
            backup=args.folder,
            authority=args.authority,
            keys=args.keys,
            journals=tuple(args.journal),
            incomplete=args.journal_incomplete,
            lane=args.lane,
        )
        done = restore(sources, settings, SystemClock().now_us(), system_entropy)
        return {**asdict(done), "next": _next(done.whole)}

    made = command(commands, "backup", backup, "copy the store, or its keys, while the server runs")
    made.add_argument("folder", type=Path, metavar="DIR", help="an empty folder")
    made.add_argument("--keys", action="store_true", help="copy keys.db and server.key, and nothing else")
    made.add_argument("--beside", type=Path, help="with --keys: a backup that they must be apart from")
    made.add_argument("--force", action="store_true", help="with --keys: even on the same file system")
    made.add_argument("--key-database", type=Path, help="where keys.db lies, if not in the data directory")
    made = command(commands, "restore", from_backup, "make a new data directory from a backup, and watch it")
    made.add_argument("folder", type=Path, nargs="?", metavar="BACKUP", help="none: how far it has caught up")
    made.add_argument("--keys", type=Path, help="folder of a backup of the keys, or a keys.db that survived")
    made.add_argument("--authority", type=Path, help="server.key, if not in the folder of --keys")
    made.add_argument("--journal", type=Path, action="append", default=[], help="a journal; repeatable")
    made.add_argument("--journal-incomplete", action="store_true", help="you know that it lacks something")
    made.add_argument("--lane", type=int, default=0, help="a lane position known to have been reached")
    made.add_argument("--lease", help="longest lease that the lost server granted, if longer than 24h")
    made.add_argument("--open", action="store_true", help="open the running server before its time")


def _next(whole: bool) -> str:
    if whole:
        return "start it with `edge-sync serve`: nothing is missing, it is open at once"
    return "start it with `edge-sync serve`: closed until its devices were heard: `edge-sync restore`"
