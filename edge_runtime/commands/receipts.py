"""`verify-receipt`: whether an erasure receipt is what a device signed, and what it says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands.command import Declare, Out

if TYPE_CHECKING:
    from edge_runtime.wire.receipt import Receipt

FILE_LIMIT_BYTES = 1 << 20


def add(command: Declare) -> None:
    """Declare this command."""
    verify = command("verify-receipt", _verify, "check the signature of an erasure receipt")
    verify.add_argument("receipt", type=Path)
    verify.add_argument("--key", help="the device's public key, hex; by default the one in the receipt")


def _verify(options: argparse.Namespace) -> tuple[int, Out, str]:
    from edge_runtime.consent.receipt import ErasureReceipt
    from edge_runtime.wire.failure import WireFailure

    with options.receipt.open("rb") as file:
        text = file.read(FILE_LIMIT_BYTES)
    try:
        receipt = ErasureReceipt.from_json(text, None if options.key is None else _key(options.key)).receipt
    except WireFailure as failure:
        return 1, {"verified": False, "reason": failure.reason}, f"does NOT verify: {failure.reason}"
    whose = "the key that it names itself (compare it with --key)" if options.key is None else "the key given"
    told = _told(receipt)
    out: Out = {"verified": True, "kind": receipt.kind, "device": receipt.device_id, **told}
    lines = "\n".join(f"{name:>16}  {value}" for name, value in told.items())
    return 0, out, f"verifies under {whose}\n{lines}"


def _key(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError("--key: expected the public key in hex, got something else") from None


def _told(receipt: Receipt) -> Out:
    rows = ", ".join(f"{count} {table}" for table, count in sorted(receipt.rows_deleted.items()) if count)
    canary = {
        True: "a sample sealed before no longer opens",
        False: "a sample sealed before STILL OPENS",
        None: "nothing was sealed, so nothing was tried",
    }[receipt.canary_unreadable]
    return {
        "device": receipt.device_id,
        "says": f"{receipt.kind} for {', '.join(receipt.purposes)}",
        "subject": receipt.subject.hex() if any(receipt.subject) else "everybody",
        "keys destroyed": receipt.keys_destroyed,
        "rows deleted": rows or "none",
        "key epoch": f"{receipt.counter_before} -> {receipt.counter_after}",
        "canary": canary,
        "assurance": receipt.assurance,
        "cold start": receipt.cold_start,
    }
