"""What people said about their data: `edge-sync consent give|state|revoke|export|status`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import msgspec

from sync_server.cli.command import client, command, duration_us
from sync_server.cli.consent_text import accepted_text, history_text, recorded_text, status_text, targets_text
from sync_server.cli.ledger import ledger_commands
from sync_server.cli.told import DONE, NOT_YET, Told
from sync_server.client import Client, ConsentClient, NotYet, path_of
from sync_server.client.consent import Reached
from sync_server.consent.documents import RevocationStatus
from sync_server.store.lasting import new_private


def consent_commands(commands: Any) -> None:
    """Hang the commands under `commands`."""

    def give(args: argparse.Namespace) -> Told:
        consent = client(args).consent
        made = consent.decide(args.subject, args.purpose, args.state, notice=args.notice)
        return Told(msgspec.to_builtins(made), recorded_text(made))

    def state(args: argparse.Namespace) -> Told:
        consent = client(args).consent
        found = consent.look(args.subject, args.purpose, limit=1)
        steps = list(consent.history(args.subject, args.purpose))
        whole = msgspec.structs.replace(found, history=steps, next=None)
        return Told(msgspec.to_builtins(whole), history_text(whole))

    def revoke(args: argparse.Namespace) -> Told:
        consent = client(args).consent
        made = consent.revoke(args.subject, args.purpose or "*", initiator=args.initiator, key=args.key)
        document = msgspec.to_builtins(made)
        if args.wait is None:
            return Told(document, accepted_text(made))
        status, code = _waited(consent, made.id, args.wait, duration_us(args.timeout) / 1e6)
        return Told({**document, "status": msgspec.to_builtins(status)}, status_text(status), code)

    def status(args: argparse.Namespace) -> Told:
        consent = client(args).consent
        match args.part:
            case "targets":
                targets = list(consent.targets(args.id))
                listed = {"id": args.id, "targets": msgspec.to_builtins(targets), "next": None}
                return Told(listed, targets_text(args.id, targets))
            case "receipt":
                signed = msgspec.to_builtins(consent.receipt(args.id))
                return Told(signed, json.dumps(signed, indent=1))
            case _:
                found = consent.status(args.id)
                return Told(msgspec.to_builtins(found), status_text(found))

    def export(args: argparse.Namespace) -> object:
        with new_private(args.out) as file:
            found = subject_data(client(args), args.subject)
            file.write(json.dumps(found, indent=1, ensure_ascii=False).encode() + b"\n")
        counts = {part: len(found[part]) for part in ("decisions", "rows", "denials")}
        return {"written": str(args.out), **counts}

    def opt_out(args: argparse.Namespace) -> object:
        return client(args).call("POST", "/v1/opt-outs", {"subject": args.subject})

    consent = commands.add_parser("consent", help="decisions and revocations").add_subparsers(required=True)
    made = command(consent, "give", give, "record a decision")
    made.add_argument("subject")
    made.add_argument("purpose")
    made.add_argument("--notice", required=True, help="version of the text that the subject was shown")
    states = ("given", "refused", "objected", "restricted")
    made.add_argument(
        "--state", default="given", choices=states, help="what the subject said (default given)"
    )
    made = command(consent, "state", state, "what holds for a subject")
    made.add_argument("subject")
    made.add_argument("purpose", nargs="?")
    made = command(consent, "revoke", revoke, "withdraw or revoke, for some purposes or all")
    made.add_argument("subject")
    made.add_argument("purpose", nargs="*", help="none: all")
    whose = "who ends it: the subject withdraws (default), the controller revokes"
    made.add_argument("--initiator", default="subject", choices=("subject", "controller"), help=whose)
    made.add_argument("--key", help="an idempotency key: the same command again is the same revocation")
    made.add_argument("--wait", choices=("enforced", "erased", "completed"), help="until it has come so far")
    made.add_argument("--timeout", default="1m", help="longest wait, e.g. 30s; after it the exit code is 4")
    made = command(consent, "opt-out", opt_out, "heed Global Privacy Control: deny what it speaks of")
    made.add_argument("subject")
    made = command(consent, "export", export, "everything held on a subject, into a new file for you alone")
    made.add_argument("subject")
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file")
    made = command(consent, "status", status, "how far a revocation has come")
    made.add_argument("id", help="id of the revocation, rev-...")
    parts = "every device it waits for, or the signed receipt of its completion"
    made.add_argument("part", nargs="?", choices=("targets", "receipt"), help=parts)
    ledger_commands(consent)


def _waited(
    consent: ConsentClient, revocation_id: str, reached: Reached, timeout_s: float
) -> tuple[RevocationStatus, int]:
    """Where the revocation stands once it has come so far, or time is over, and the exit code for that."""
    try:
        status = consent.wait_for(revocation_id, reached, timeout_s=timeout_s, every_s=0.5)
    except NotYet as late:
        return late.status, NOT_YET
    return status, NOT_YET if status.state == "partially_completed" else DONE


def subject_data(client: Client, subject: str) -> dict[str, Any]:
    """Everything that the server holds on a subject, its pages put together."""
    whole: dict[str, Any] = client.call("GET", path_of("v1", "subject-data", subject=subject))
    while whole["next"] is not None:
        page = client.call("GET", path_of("v1", "subject-data", subject=subject, after=whole["next"]))
        for part in ("decisions", "rows", "denials"):
            whole[part] += page[part]
        whole["next"] = page["next"]
    return whole
