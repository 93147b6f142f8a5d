"""Feature rows from a file: `edge-sync push`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sync_server.cli.command import client, command


def push_command(commands: Any) -> None:
    """Hang the command under `commands`."""
    made = command(commands, "push", _push, "publish feature rows from a file")
    made.add_argument("view", help="view, or view@version")
    made.add_argument("file", help="JSON array or one object a line; - for standard input")
    made.add_argument("--as-of", type=int, help="lane position that the job had read; personal views need it")
    made.add_argument("--batch", type=int, default=5_000)
    made.add_argument("--job", help="name of the job that made the rows; kept with each of them")
    made.add_argument("--who", default="edge-sync push", help="who ran the job")
    made.add_argument("--run", default="", help="which run of the job")
    made.add_argument("--code-version", default="", help="which version of its code")


def _push(args: argparse.Namespace) -> object:
    """Rows are a JSON array, or one JSON object a line."""
    text = sys.stdin.read() if args.file == "-" else Path(args.file).read_text()
    lines = [line for line in text.splitlines() if line.strip()]
    rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in lines]
    server, size, refused = client(args), args.batch, []
    accepted = unchanged = 0
    job = None
    if args.job is not None:
        job = {"who": args.who, "name": args.job, "run": args.run, "code_version": args.code_version}
    for start in range(0, len(rows), size):
        body = {"view": args.view, "as_of": args.as_of, "rows": rows[start : start + size], "job": job}
        reply = server.call("POST", "/v1/features", body)
        accepted += reply["accepted"]
        unchanged += reply.get("unchanged", 0)
        refused += [{**r, "index": r["index"] + start} for r in reply["refused"]]
    return {"view": args.view, "accepted": accepted, "unchanged": unchanged, "refused": refused}
