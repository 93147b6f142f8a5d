"""`edge-runtime`: start, explain and compare catalogs, replay events, read features, check models and caches.

Exit codes: 0 all is well; 1 the answer is no (a fault found, a receipt that does not verify); 2 the call or
its input is wrong. With `--json` each command prints one JSON object and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from edge_runtime.commands import caches, catalogs, doctor, histories, models, receipts
from edge_runtime.commands.command import Out, Run
from edge_runtime.errors import EdgeError
from edge_runtime.wire.plain_text import plain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    run: Run = options.run
    out: Out
    try:
        code, out, text = run(options)
    except (EdgeError, OSError, ValueError) as error:
        code, out, text = 2, {"error": type(error).__name__, "message": str(error)}, f"{error}"
    _show(json.dumps(out, default=str) if options.json else text)
    return code


def _show(text: str) -> None:
    """Print, also into a pipe whose reader has seen enough (`| head`)."""
    try:
        print(plain(text, sys.stdout.encoding), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-runtime", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Run, about: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about, description=about)
        made.add_argument("--json", action="store_true", help="print one JSON object")
        made.set_defaults(run=run)
        return made

    for family in (catalogs, models, histories, caches, doctor, receipts):
        family.add(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
