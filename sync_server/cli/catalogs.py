"""Which catalogs there are: `edge-sync catalog put|check|list`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edge_runtime.catalog import Catalog
from sync_server.cli.command import client, command
from sync_server.client import path_of


def catalog_commands(commands: Any) -> None:
    """Hang the commands under `commands`."""
    catalog = commands.add_parser("catalog", help="catalogs").add_subparsers(required=True)
    made = command(catalog, "put", _put, "register a catalog file")
    made.add_argument("file", type=Path)
    made.add_argument("--activate", action="store_true")
    command(catalog, "check", _check, "name every fault of a file").add_argument("file", type=Path)
    command(catalog, "list", _list, "registered catalogs")


def _put(args: argparse.Namespace) -> object:
    catalog = Catalog.load(args.file)
    active = "true" if args.activate else None
    path = path_of("v1", "catalogs", catalog.name, str(catalog.version), activate=active)
    return client(args).call("PUT", path, catalog.to_dict())


def _list(args: argparse.Namespace) -> object:
    return client(args).call("GET", "/v1/catalogs")


def _check(args: argparse.Namespace) -> object:
    catalog = Catalog.load(args.file)
    return {"name": catalog.name, "version": catalog.version, "fingerprint": catalog.fingerprint}
