"""`edge-sync`: serve, and speak to a running server. Exit codes: 0 done, 1 refused, 2 usage, 3 not there,
4 not yet.

Every command prints for people, or with `--json` one JSON document on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_runtime.catalog import Catalog, CatalogError
from edge_runtime.catalog.duration import parse_duration
from sync_server.cli_access import access_commands, given_token
from sync_server.cli_consent import consent_commands
from sync_server.cli_events import event_commands, reached, serving_options
from sync_server.cli_placing import hot_set_commands, segment_commands
from sync_server.cli_registry import public_key, registry_commands
from sync_server.cli_restore import restore_commands
from sync_server.cli_told import NOT_THERE, REFUSED, USAGE, Told
from sync_server.client import Client, Patience, Refused, Unreachable, path_of
from sync_server.devices.authority import rotate_key
from sync_server.devices.enrolment import encode
from sync_server.devices.entropy import system_entropy
from sync_server.doctor import device_text, standing_text
from sync_server.errors import ServerError
from sync_server.load import command as load
from sync_server.overrides import overridden
from sync_server.server import serve
from sync_server.settings import Settings

PATIENCE = Patience(total_s=3)
"""Somebody waits at the terminal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, which the script hands on."""
    parser = _parser()
    args = parser.parse_args(arguments)
    act: Callable[[argparse.Namespace], object] = args.act
    try:
        result = act(args)
    except (Refused, ServerError, CatalogError, load.LoadFailed) as error:
        return _fail(args, error, REFUSED)
    except (Unreachable, OSError) as error:
        return _fail(args, error, NOT_THERE)
    except ValueError as error:
        return _fail(args, error, USAGE)
    if isinstance(result, Told):
        print(json.dumps(result.document) if args.json else result.text)
        return result.code
    _say(args, result)
    return 0


def _fail(args: argparse.Namespace, error: Exception, code: int) -> int:
    document = error.document if isinstance(error, Refused) else {"error": str(error)}
    print(json.dumps(document) if args.json else f"edge-sync: {error}", file=sys.stderr)
    return code


def _say(args: argparse.Namespace, result: object) -> None:
    if result is None:
        return
    if args.json:
        print(json.dumps(result))
    else:
        print(json.dumps(result, indent=2, ensure_ascii=False))


# ---- commands ------------------------------------------------------------------------------------------


def _serve(args: argparse.Namespace) -> None:
    settings = Settings(data_dir=args.data, host=args.host, port=args.port, catalog=args.catalog)
    if args.lease is not None:
        settings = replace(settings, lease_us=_duration_us(args.lease))
    if args.registry_key is not None:
        settings = replace(settings, registry_key=public_key(args.registry_key))
    settings = replace(settings, oidc=args.oidc, journals=tuple(args.journal), keys=args.keys)
    settings = overridden(reached(settings, args), args.set or ())

    def announce(url: str) -> None:
        if args.json:
            print(json.dumps({"url": url, "token_file": str(settings.token_file), "pid": os.getpid()}))
        else:
            print(f"edge-sync listens at {url}  (docs: {url}/docs)")
            print(f"API token: {settings.token_file}")
        sys.stdout.flush()

    asyncio.run(serve(settings, announce))


def _enrol(args: argparse.Namespace) -> object:
    body: dict[str, object] = {} if not args.channel else {"channels": args.channel}
    if args.ttl is not None:
        body["ttl_s"] = _duration_us(args.ttl) // 1_000_000
    return _client(args).call("POST", "/v1/device-tokens", body)


def _push(args: argparse.Namespace) -> object:
    """Rows are a JSON array, or one JSON object a line."""
    text = sys.stdin.read() if args.file == "-" else Path(args.file).read_text()
    lines = [line for line in text.splitlines() if line.strip()]
    rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in lines]
    client, size, refused = _client(args), args.batch, []
    accepted = unchanged = 0
    job = None
    if args.job is not None:
        job = {"who": args.who, "name": args.job, "run": args.run, "code_version": args.code_version}
    for start in range(0, len(rows), size):
        body = {"view": args.view, "as_of": args.as_of, "rows": rows[start : start + size], "job": job}
        reply = client.call("POST", "/v1/features", body)
        accepted += reply["accepted"]
        unchanged += reply.get("unchanged", 0)
        refused += [{**r, "index": r["index"] + start} for r in reply["refused"]]
    return {"view": args.view, "accepted": accepted, "unchanged": unchanged, "refused": refused}


def _catalog_put(args: argparse.Namespace) -> object:
    catalog = Catalog.load(args.file)
    active = "true" if args.activate else None
    path = path_of("v1", "catalogs", catalog.name, str(catalog.version), activate=active)
    return _client(args).call("PUT", path, catalog.to_dict())


def _catalog_list(args: argparse.Namespace) -> object:
    return _client(args).call("GET", "/v1/catalogs")


def _catalog_check(args: argparse.Namespace) -> object:
    catalog = Catalog.load(args.file)
    return {"name": catalog.name, "version": catalog.version, "fingerprint": catalog.fingerprint}


def _devices_list(args: argparse.Namespace) -> object:
    return _client(args).call("GET", "/v1/devices")


def _devices_revoke(args: argparse.Namespace) -> object:
    return _client(args).call("DELETE", path_of("v1", "devices", args.id))


def _devices_lost(args: argparse.Namespace) -> object:
    return _client(args).call("DELETE", path_of("v1", "devices", args.id, reason="lost"))


def _devices_allow(args: argparse.Namespace) -> object:
    return _client(args).call("PATCH", path_of("v1", "devices", args.id), {"channels": args.channel})


def _rotate_key(args: argparse.Namespace) -> object:
    key = rotate_key(Settings(data_dir=args.data).key_file, system_entropy)
    return {"public_key": encode(key), "from": "the server signs with it from its next start"}


def _doctor(args: argparse.Namespace) -> object:
    client = _client(args)
    if args.device is not None:
        found = client.call("GET", path_of("v1", "devices", args.device))
        if args.json:
            return found
        print(device_text(found))
        return None
    ready = client.call("GET", "/readyz")
    return {
        "url": client.url,
        "ready": ready,
        "ledger": client.call("GET", "/v1/consent-ledger/head"),
        "devices": client.call("GET", "/v1/devices")["counts"],
        "catalogs": client.call("GET", "/v1/catalogs"),
        "key_database": "keep keys.db out of the backup that holds server.db",
        "journals": client.call("GET", "/v1/journals")["journals"],
        "events": client.call("GET", "/v1/events"),
        "to_do": standing_text(ready),
    }


def _load(args: argparse.Namespace) -> object:
    client = _client(args)
    plan = load.plan_of(args, client.url, client.token, lambda text: _duration_us(text) / 1_000_000)
    result, text = asyncio.run(load.run(plan))
    if not args.json:
        print(text)
    if result["faults"] or result["mismatched"] or result["fresh"]["last_s"] is None:
        if args.json:
            print(json.dumps(result))
        raise load.LoadFailed("not every device became fresh, or something was wrong: see above")
    return result if args.json else None


def _client(args: argparse.Namespace) -> Client:
    return Client.of(args.data, args.url, given_token(args), patience=PATIENCE)


def _duration_us(text: str) -> int:
    made = parse_duration(text)
    if made is None:
        raise ValueError(f"expected a duration like 15m or 24h, got {text!r}")
    return made


# ---- the parser ----------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("edge-sync", description="Serve and watch feature caches on devices.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    made = _command(commands, "serve", _serve, "run the server until SIGTERM")
    made.add_argument("--host", default="127.0.0.1")
    made.add_argument("--port", type=int, default=8080, help="0: any free port (see server.json)")
    made.add_argument("--catalog", type=Path, help="register this catalog and make it active")
    made.add_argument("--registry-key", metavar="HEX", help="public key that must sign privacy parts")
    made.add_argument("--oidc", type=Path, help="an OpenID Connect issuer; see docs/access.md")
    made.add_argument("--lease", help="duration of leases, e.g. 24h")
    made.add_argument("--journal", type=Path, action="append", default=[], help="see docs/restore.md")
    made.add_argument("--keys", type=Path, help="where keys.db lies: best on another volume")
    serving_options(made)
    made.add_argument("--set", action="append", metavar="NAME=VALUE", help="a limit; see docs/overload.md")
    made = _command(commands, "enrol", _enrol, "make a one-time enrolment token")
    made.add_argument("--new-token", action="store_true", required=True)
    made.add_argument("--channel", action="append", help="channel pattern the device may follow; repeatable")
    made.add_argument("--ttl", help="life of the token, e.g. 15m")
    made = _command(commands, "push", _push, "publish feature rows from a file")
    made.add_argument("view", help="view, or view@version")
    made.add_argument("file", help="JSON array or one object a line; - for standard input")
    made.add_argument("--as-of", type=int, help="lane position that the job had read; personal views need it")
    made.add_argument("--batch", type=int, default=5_000)
    made.add_argument("--job", help="name of the job that made the rows; kept with each of them")
    made.add_argument("--who", default="edge-sync push", help="who ran the job")
    made.add_argument("--run", default="", help="which run of the job")
    made.add_argument("--code-version", default="", help="which version of its code")
    _catalog_commands(commands)
    consent_commands(commands, _command, _client)
    registry_commands(commands, _command, _client)
    access_commands(commands, _command, _client)
    segment_commands(commands, _command, _client)
    hot_set_commands(commands, _command, _client)
    event_commands(commands, _command, _client)
    devices = commands.add_parser("devices", help="enrolled devices").add_subparsers(required=True)
    _command(devices, "list", _devices_list, "all devices")
    _command(devices, "revoke", _devices_revoke, "shut a device out").add_argument("id")
    lost = _command(devices, "lost", _devices_lost, "shut out a device that nobody has any more, and say so")
    lost.add_argument("id")
    made = _command(devices, "allow", _devices_allow, "say anew which shared channels a device may follow")
    made.add_argument("id")
    made.add_argument("--channel", action="append", default=[], help="channel pattern; none: no channel")
    restore_commands(commands, _command, _client)
    _command(commands, "rotate-key", _rotate_key, "give the server a new signing key, named by the old one")
    load.declare(_command(commands, "load", _load, "simulate many devices and measure"))
    made = _command(commands, "doctor", _doctor, "is everything as it should be, here or on one device")
    made.add_argument("device", nargs="?", help="a device's id: where it stands and what is wrong with it")
    return parser


def _catalog_commands(commands: Any) -> None:
    catalog = commands.add_parser("catalog", help="catalogs").add_subparsers(required=True)
    made = _command(catalog, "put", _catalog_put, "register a catalog file")
    made.add_argument("file", type=Path)
    made.add_argument("--activate", action="store_true")
    _command(catalog, "check", _catalog_check, "name every fault of a file").add_argument("file", type=Path)
    _command(catalog, "list", _catalog_list, "registered catalogs")


def _command(
    commands: Any, name: str, act: Callable[[argparse.Namespace], object], text: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    default = Path(os.environ.get("EDGE_SYNC_DATA", "edge-sync-data"))
    made.add_argument("--data", type=Path, default=default, help=f"data directory (default {default})")
    made.add_argument("--url", help="the server's url (default: from server.json)")
    made.add_argument("--token-file", type=Path, help="an API token (default EDGE_SYNC_TOKEN, or api.token)")
    made.add_argument("--json", action="store_true", help="one JSON document on standard output")
    made.set_defaults(act=act)
    return made


if __name__ == "__main__":
    sys.exit(main())
