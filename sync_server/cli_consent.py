"""What people said about their data: `edge-sync consent give|state|revoke|export|status`."""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sync_server.cli_ledger import ledger_commands
from sync_server.client import Client, path_of
from sync_server.devices.authority import write_private

ClientOf = Callable[[argparse.Namespace], Client]


def consent_commands(
    commands: Any, command: Callable[..., argparse.ArgumentParser], client: ClientOf
) -> None:
    """Hang the commands under `commands`."""

    def give(args: argparse.Namespace) -> object:
        body = {"subject": args.subject, "purpose": args.purpose, "notice": args.notice, "state": args.state}
        return client(args).call("POST", "/v1/consents", body)

    def state(args: argparse.Namespace) -> object:
        path = path_of("v1", "consents", subject=args.subject, purpose=args.purpose)
        return client(args).call("GET", path)

    def revoke(args: argparse.Namespace) -> object:
        purposes: object = args.purpose or "*"
        body = {"subject": args.subject, "purposes": purposes, "initiator": args.initiator}
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return client(args).call("POST", "/v1/consent-revocations", body, headers=headers)

    def status(args: argparse.Namespace) -> object:
        parts = ["v1", "consent-revocations", args.id, *([args.part] if args.part else [])]
        return client(args).call("GET", path_of(*parts))

    def export(args: argparse.Namespace) -> object:
        found = subject_data(client(args), args.subject)
        write_private(args.out, json.dumps(found, indent=1, ensure_ascii=False).encode() + b"\n")
        counts = {part: len(found[part]) for part in ("decisions", "rows", "denials")}
        return {"written": str(args.out), **counts}

    consent = commands.add_parser("consent", help="decisions and revocations").add_subparsers(required=True)
    made = command(consent, "give", give, "record a decision")
    made.add_argument("subject")
    made.add_argument("purpose")
    made.add_argument("--notice", required=True)
    made.add_argument("--state", default="given", choices=("given", "refused", "objected", "restricted"))
    made = command(consent, "state", state, "what holds for a subject")
    made.add_argument("subject")
    made.add_argument("purpose", nargs="?")
    made = command(consent, "revoke", revoke, "withdraw or revoke, for some purposes or all")
    made.add_argument("subject")
    made.add_argument("purpose", nargs="*")
    made.add_argument("--initiator", default="subject", choices=("subject", "controller"))
    made = command(consent, "export", export, "everything held on a subject, into a new file for you alone")
    made.add_argument("subject")
    made.add_argument("--out", type=Path, required=True, metavar="FILE")
    made = command(consent, "status", status, "how far a revocation has come")
    made.add_argument("id")
    made.add_argument("part", nargs="?", choices=("targets", "receipt"))
    ledger_commands(consent, command, client)


def subject_data(client: Client, subject: str) -> dict[str, Any]:
    """Everything that the server holds on a subject, its pages put together."""
    whole: dict[str, Any] = client.call("GET", path_of("v1", "subject-data", subject=subject))
    while whole["next"] is not None:
        page = client.call("GET", path_of("v1", "subject-data", subject=subject, after=whole["next"]))
        for part in ("decisions", "rows", "denials"):
            whole[part] += page[part]
        whole["next"] = page["next"]
    return whole
