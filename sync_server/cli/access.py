"""Who may ask what, and who did: `edge-sync tokens create|list|rotate|revoke` and `edge-sync audit`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from sync_server.access.chain import AuditEntry, AuditRow, walk
from sync_server.api.route import Scope
from sync_server.cli.access_text import audit_text, tokens_text
from sync_server.cli.command import client, command, duration_s
from sync_server.cli.told import Told
from sync_server.client import Client, path_of
from sync_server.errors import ChainBroken
from sync_server.store.lasting import new_private

_TOKENS = ("v1", "tokens")


def access_commands(commands: Any) -> None:
    """Hang the commands under `commands`."""

    def create(args: argparse.Namespace) -> object:
        body = {"name": args.name, "scopes": args.scope, "teams": args.team or None}
        body |= {"destinations": args.destination or None}
        body |= {"ttl_s": duration_s(args.ttl), "per_s": args.per_s, "burst": args.burst}
        return _told(args.out, lambda: client(args).call("POST", path_of(*_TOKENS), body))

    def listing(args: argparse.Namespace) -> Told:
        page = client(args).call("GET", path_of(*_TOKENS, after=args.after))
        return Told(page, tokens_text(page))

    def rotate(args: argparse.Namespace) -> object:
        body = {"grace_s": duration_s(args.grace)}
        return _told(args.out, lambda: client(args).call("POST", path_of(*_TOKENS, args.id, "rotate"), body))

    def revoke(args: argparse.Namespace) -> object:
        return client(args).call("DELETE", path_of(*_TOKENS, args.id))

    tokens = commands.add_parser("tokens", help="API tokens").add_subparsers(required=True)
    made = command(tokens, "create", create, "make an API token; it is told once")
    made.add_argument("name", help="which job, machine or person bears it")
    made.add_argument("--scope", action="append", required=True, choices=get_args(Scope), help="repeatable")
    made.add_argument("--team", action="append", help="owner of the views it is for; repeatable; none: any")
    made.add_argument(
        "--destination", action="append", help="recipient, stream or webhook for whose receiver alone it is"
    )
    made.add_argument("--ttl", help="how long it lives, e.g. 90d; left out: until it is revoked")
    made.add_argument("--per-s", type=int, help="requests a second")
    made.add_argument("--burst", type=int, help="requests at once")
    _to_file(made)
    made = command(tokens, "list", listing, "all API tokens, without their secrets")
    made.add_argument("--after", help="the last id of the page before")
    made = command(
        tokens, "rotate", rotate, "give a token another secret; the old one stays good for a while"
    )
    made.add_argument("id")
    made.add_argument("--grace", help="how long, e.g. 1h; 0s: not at all")
    _to_file(made)
    command(tokens, "revoke", revoke, "end an API token at once").add_argument("id")
    _audit_command(commands)


def _audit_command(commands: Any) -> None:
    def audit(args: argparse.Namespace) -> object:
        if args.verify:
            return _verified(client(args), args.since)
        after = None if args.after is None else str(args.after)
        before = None if args.before is None else str(args.before)
        page = client(args).call("GET", path_of("v1", "audit", after=after, before=before))
        return Told(page, audit_text(page))

    made = command(commands, "audit", audit, "who did what, when, and what came of it")
    made.add_argument("--after", type=int, metavar="SEQ", help="rows after this one, the oldest first")
    made.add_argument("--before", type=int, metavar="SEQ", help="rows before this one, the newest first")
    made.add_argument("--verify", action="store_true", help="recompute the chain, and tell its end")
    made.add_argument(
        "--since", metavar="SEQ:HASH", help="where it must go on from: what --verify told before"
    )


def _to_file(made: argparse.ArgumentParser) -> None:
    made.add_argument("--out", type=Path, help="write the token into this new file, for you only to read")


def _told(out: Path | None, ask: Callable[[], dict[str, Any]]) -> object:
    """The reply; with `--out` the token goes into that file alone. It is made before the server is asked."""
    if out is None:
        return ask()
    with new_private(out) as file:
        made = ask()
        file.write(f"{made['token']}\n".encode())
    return {**made, "token": None, "file": str(out)}


def _verified(client: Client, since: str | None) -> object:
    """Where the chain ends, once it was found to be as it was written; raises `ChainBroken`."""
    seq, before = (0, None) if since is None else _mark(since)
    if before is not None:
        kept = client.call("GET", path_of("v1", "audit", before=str(seq + 1)))["entries"]
        if not kept or (kept[0]["seq"], kept[0]["hash"]) != (seq, before.hex()):
            raise ChainBroken(f"row {seq} is gone, or not as it was")
    seq, digest = walk(_rows(client, seq), seq, before)
    return {"end": None if digest is None else f"{seq}:{digest.hex()}"}


def _rows(client: Client, after: int) -> Iterator[AuditRow]:
    """Every row after that one, page by page."""
    at: int | None = after
    while at is not None:
        page = client.call("GET", path_of("v1", "audit", after=str(at)))
        for line in page["entries"]:
            yield _row(line)
        at = page["next"]


def _row(line: dict[str, Any]) -> AuditRow:
    words = [
        line[name] for name in ("actor", "name", "method", "route", "outcome", "status", "code", "resource")
    ]
    entry = AuditEntry(line["at"], line["last_at"], line["count"], *words)
    return AuditRow(line["seq"], entry, bytes.fromhex(line["hash"]))


def _mark(text: str) -> tuple[int, bytes]:
    seq, _, digest = text.partition(":")
    if not (seq.isdecimal() and len(digest) == 64 and set(digest) <= set("0123456789abcdef")):
        raise ValueError("expected SEQ:HASH as --verify told it")
    return int(seq), bytes.fromhex(digest)
