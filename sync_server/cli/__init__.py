"""`edge-sync`: serve, and speak to a running server. Exit codes: 0 done, 1 refused, 2 usage, 3 not there,
4 not yet.

Every command prints for people, or with `--json` one JSON document on standard output. A file here is a
family of commands; `command.py` is what they share.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from edge_runtime.catalog import CatalogError
from sync_server.cli.access import access_commands
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
from sync_server.cli.told import DONE, NOT_THERE, REFUSED, USAGE, Told
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
    args = _parser().parse_args(arguments)
    act: Callable[[argparse.Namespace], object] = args.act
    try:
        result = act(args)
    except (Refused, ServerError, CatalogError, LoadFailed) as error:
        return _fail(args, error, REFUSED)
    except (Unreachable, OSError) as error:
        return _fail(args, error, NOT_THERE)
    except ValueError as error:
        return _fail(args, error, USAGE)
    return _say(args, result)


def _fail(args: argparse.Namespace, error: Exception, code: int) -> int:
    document = error.document if isinstance(error, Refused) else {"error": str(error)}
    print(json.dumps(document) if args.json else f"edge-sync: {error}", file=sys.stderr)
    return code


def _say(args: argparse.Namespace, result: object) -> int:
    match result:
        case None:
            return DONE
        case Told():
            print(json.dumps(result.document) if args.json else result.text)
            return result.code
        case _:
            print(json.dumps(result) if args.json else json.dumps(result, indent=2, ensure_ascii=False))
            return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("edge-sync", description="Serve and watch feature caches on devices.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for family in FAMILIES:
        family(commands)
    return parser
