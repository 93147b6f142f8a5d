"""`edge-sync consent audit | verify`: the whole ledger walked, and one receipt checked by a fingerprint."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from edge_runtime.wire.fingerprint import digest_of
from sync_server.cli.command import client, command
from sync_server.cli.told import DONE, REFUSED, Told
from sync_server.client import Client, path_of
from sync_server.consent.audit_heads import NamedHead, heads_in
from sync_server.consent.auditing import Audit, Keys, audit_leaves, audit_store
from sync_server.consent.verifying import VerifyFailure, verify_with_root
from sync_server.devices.authority import load_authority
from sync_server.devices.enrolment import decode
from sync_server.devices.entropy import system_entropy
from sync_server.store.looking import look

FILE_LIMIT_BYTES: Final = 64 << 20
"""Largest file of heads or receipts."""
PAGE: Final = 1_000
_EPILOG: Final = (
    "Exit code 0: it holds. 1: it does not; the first fault is named. 2: the call, or a file of it, is "
    "wrong. 3: nothing there. With --offline everything is walked in the data directory or a copy of it, "
    "without a server; without it the leaves of a running server are hashed and compared with its head."
)


_VERIFY_EPILOG: Final = (
    "Exit code 0: it holds. 1: it does not, and the first reason is named. 2: no receipt, or no fingerprint. "
    "3: no such file. The fingerprint comes from whoever runs the server, once, by a way that you trust: "
    "`edge-sync doctor` and `GET /v1/consent-ledger/head` show it. It stays the same when the server changes "
    "its key."
)


def ledger_commands(consent: Any) -> None:
    """Hang the commands under `consent`."""

    def audit(args: argparse.Namespace) -> Told:
        heads = [head for file in args.head or () for head in read_heads(file)]
        found = _offline(args.data, heads) if args.offline else _online(client(args), heads)
        return Told(found.document(), audit_text(found), DONE if found.fault is None else REFUSED)

    def verify(args: argparse.Namespace) -> Told:
        return verified(args.file, digest_of(args.root))

    def forget(args: argparse.Namespace) -> object:
        return client(args).call("DELETE", path_of("v1", "consent-evidence", subject=args.subject))

    made = command(consent, "forget", forget, "make the evidence about a subject anonymous, for good")
    made.add_argument("subject")
    made = command(consent, "verify", verify, "verify a receipt with a fingerprint and nothing else")
    made.add_argument("file", type=Path, help="the receipt as it was given out; - for standard input")
    made.add_argument("--root", required=True, metavar="FINGERPRINT", help="sha256:... of the server's key")
    made.epilog = _VERIFY_EPILOG
    made = command(consent, "audit", audit, "walk the whole ledger and name the first fault")
    made.add_argument("--offline", action="store_true", help="walk the files in --data; ask no server")
    made.add_argument(
        "--head",
        action="append",
        type=Path,
        metavar="FILE",
        help="a head that a device keeps (`edge-runtime head`), or any receipt; repeatable",
    )
    made.epilog = _EPILOG


def verified(file: Path, root: bytes) -> Told:
    """Whether a receipt holds; asks no server, no clock and no other file."""
    with sys.stdin.buffer if str(file) == "-" else file.open("rb") as opened:
        text = opened.read(FILE_LIMIT_BYTES)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{file}: expected a receipt as JSON") from None
    try:
        proof = verify_with_root(document, root)
    except VerifyFailure as failure:
        return Told({"holds": False, "reason": str(failure)}, f"It does NOT hold: {failure}", REFUSED)
    return Told(proof.document(), proof.text())


def read_heads(file: Path) -> list[NamedHead]:
    """Every signed head in a JSON file; raises ValueError where there is none."""
    with file.open("rb") as opened:
        text = opened.read(FILE_LIMIT_BYTES)
    try:
        found = list(heads_in(str(file), json.loads(text)))
    except (ValueError, RecursionError) as error:
        why = type(error).__name__
        raise ValueError(f"{file}: expected JSON with a signed ledger head ({why})") from None
    if not found:
        raise ValueError(f"{file}: expected a signed ledger head, found none")
    return found


def _offline(data: Path, heads: Sequence[NamedHead]) -> Audit:
    with look(data / "server.db") as rows:
        return audit_store(rows, _keys(data / "server.key"), heads)


def _keys(path: Path) -> Keys | None:
    """None where a copy was made without the key file, as it should be."""
    if not path.exists():
        return None
    made = load_authority(path, system_entropy, store_exists=True)
    earlier = [(one.public_key, one.signature) for one in made.earlier]
    return Keys(earlier, made.public_key, made.incarnation, made.restores)


def _online(client: Client, heads: Sequence[NamedHead]) -> Audit:
    reply = client.call("GET", path_of("v1", "consent-ledger", "head"))
    signed = next(heads_in("the server's head", reply))
    keys = [decode(one["public_key"]) for one in (*reply["succession"], reply)]
    return audit_leaves(_leaves(client), signed, keys, heads)


def _leaves(client: Client) -> Iterator[tuple[int, bytes]]:
    after = 0
    while True:
        path = path_of("v1", "consent-ledger", "leaves", after=str(after), limit=str(PAGE))
        page = client.call("GET", path)["leaves"]
        for one in page:
            yield one["seq"], decode(one["leaf"])
        if not page:
            return
        after = page[-1]["seq"]


def audit_text(found: Audit) -> str:
    """An audit as a person reads it."""
    lines = [f"{found.leaves} steps hold, root {found.root.hex()}"]
    if found.erased:
        lines.append(f"  of {found.erased} the salt was destroyed: they name nobody any more")
    lines.append(f"  {found.heads} signed heads compared")
    lines += [f"  {name}: a restore lost leaves of it; it cannot be compared" for name in found.beyond]
    fault = found.fault
    if fault is None:
        return "\n".join(["The ledger holds.", *lines])
    place = "" if fault.seq is None else f"step {fault.seq}, "
    return "\n".join(
        [
            f"The ledger does NOT hold: {fault.name}",
            f"  {place}{fault.where}",
            f"  expected  {fault.expected}",
            f"  found     {fault.found}",
            *lines,
        ]
    )
