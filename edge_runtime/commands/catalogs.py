"""Commands on a catalog alone: `init`."""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

from edge_runtime.commands.command import Declare, Out


def add(command: Declare) -> None:
    """Declare these commands."""
    init = command("init", _init, "write a first catalog to start from")
    init.add_argument("path", nargs="?", default="catalog.toml", type=Path)


def _init(options: argparse.Namespace) -> tuple[int, Out, str]:
    path: Path = options.path
    starter = resources.files("edge_runtime.catalog").joinpath("starter.toml").read_text()
    with path.open("x") as file:  # never over somebody's catalog
        file.write(starter)
    return 0, {"written": str(path)}, f"wrote {path}: edit it, then try `edge-runtime replay {path} EVENTS`"
