"""`edge-sync`: serve, and speak to a running server. Exit codes: 0 done, 1 refused, 2 usage, 3 not there,
4 not yet, 130 stopped by Ctrl-C.

Every command prints for people, or with `--json` one JSON document on standard output. A file here is a
family of commands; `command.py` is what they share.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence

from edge_runtime.catalog import CatalogError
from edge_runtime.wire.plain_text import plain
from sync_server.api.remedies import REMEDIES
from sync_server.cli.access import access_commands
from sync_server.cli.aggregates import aggregate_commands
from sync_server.cli.catalogs import catalog_commands
from sync_server.cli.consent import consent_commands
from sync_server.cli.devices import device_commands, enrol_command
from sync_server.cli.doctor import doctor_command
from sync_server.cli.events import event_commands
from sync_server.cli.load import load_command
from sync_server.cli.placing import hot_set_commands, segment_commands
from sync_server.cli.push import push_command
from sync_server.cli.registry import registry_commands
from sync_server.cli.restore import restore_commands
from sync_server.cli.serve import key_command, serve_command
from sync_server.cli.told import DONE, NOT_THERE, REFUSED, STOPPED, USAGE, Told
from sync_server.client import Refused, Unreachable
from sync_server.errors import ServerError
from sync_server.load.command import LoadFailed

FAMILIES = (
    serve_command,
    enrol_command,
    push_command,
    catalog_commands,
    consent_commands,
    registry_commands,
    access_commands,
    segment_commands,
    hot_set_commands,
    aggregate_commands,
    event_commands,
    device_commands,
    restore_commands,
    key_command,
    load_command,
    doctor_command,
)
"""In the order of `edge-sync --help`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, which the script hands on."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    args = parser.parse_args(words)
    if any(word.startswith("--") and word.endswith("=--") for word in words):
        parser.error("expected a value behind `=`, got --")  # argparse makes an empty list of it
    act: Callable[[argparse.Namespace], object] = args.act
    try:
        result = act(args)
    except (Refused, ServerError, CatalogError, LoadFailed) as error:
        return _fail(args, error, REFUSED)
    except FileExistsError as error:
        return _fail(args, error, USAGE)
    except (Unreachable, OSError) as error:
        return _fail(args, error, NOT_THERE)
    except ValueError as error:
        return _fail(args, error, USAGE)
    except KeyboardInterrupt:
        return _fail(args, InterruptedError("stopped: what was asked for may have been done"), STOPPED)
    try:
        return _say(args, result)
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _fail(args: argparse.Namespace, error: Exception, code: int) -> int:
    document = error.document if isinstance(error, Refused) else {"error": _reason(error)}
    print(json.dumps(document) if args.json else f"edge-sync: {_reason(error)}", file=sys.stderr)
    return code


def _reason(error: Exception) -> str:
    """What is wrong, and what to do about it where the interface has a word for that."""
    match error:
        case FileExistsError():
            return f"expected a new file, {error.filename} is there already; nothing was changed"
        case OSError(filename=name, strerror=str() as said) if name is not None:
            return f"{name}: {said}"
        case Refused(code="not_found"):  # nobody typed a path here
            return str(error)
        case Refused() if (remedy := REMEDIES.get(error.code, "")) not in str(error):
            return f"{error}\n  {remedy}"
        case _:
            return str(error)


def _say(args: argparse.Namespace, result: object) -> int:
    match result:
        case None:
            return DONE
        case Told():
            _print(json.dumps(result.document) if args.json else result.text)
            return result.code
        case _:
            indent = None if args.json else 2
            _print(json.dumps(result, indent=indent, ensure_ascii=args.json))
            return DONE


def _print(text: str) -> None:
    print(plain(text, sys.stdout.encoding), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("edge-sync", description="Serve and watch feature caches on devices.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for family in FAMILIES:
        family(commands)
    return parser
