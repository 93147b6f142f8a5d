"""`edge-runtime`: start a catalog, replay events, read one feature, check a cache, verify a receipt.

Exit codes: 0 all is well; 1 the answer is no (a fault found, a receipt that does not verify); 2 the call or
its input is wrong. With `--json` each command prints one JSON object and nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import EdgeError

if TYPE_CHECKING:
    from edge_runtime.runtime import Runtime

Out = dict[str, object]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], tuple[int, Out, str]] = options.run
    try:
        code, out, text = command(options)
    except (EdgeError, OSError, ValueError) as error:
        code, out, text = 2, {"error": type(error).__name__, "message": str(error)}, f"{error}"
    print(json.dumps(out, default=str) if options.json else text)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-runtime", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], tuple[int, Out, str]], about: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about, description=about)
        made.add_argument("--json", action="store_true", help="print one JSON object")
        made.set_defaults(run=run)
        return made

    init = command("init", _init, "write a first catalog to start from")
    init.add_argument("path", nargs="?", default="catalog.toml", type=Path)

    replay = command("replay", _replay, "session features of recorded events, as they were at given times")
    replay.add_argument("catalog", type=Path)
    replay.add_argument("events", type=Path, help="JSON Lines: one flat event a line, with `type` and `at`")
    replay.add_argument("--points", type=Path, required=True, help="JSON Lines: entities and `at`")
    replay.add_argument("--refs", nargs="+", required=True, metavar="VIEW:FEATURE")

    read = command("read", _read, "one feature from a cache that no other process has open")
    _cache_arguments(read)
    read.add_argument("ref", metavar="VIEW:FEATURE")
    read.add_argument("entities", nargs="+", metavar="TYPE=ID")

    doctor = command("doctor", _doctor, "open a cache and say how it stands")
    _cache_arguments(doctor)

    verify = command("verify-receipt", _verify, "check the signature of an erasure receipt")
    verify.add_argument("receipt", type=Path)
    verify.add_argument("--key", help="the device's public key, hex; by default the one in the receipt")
    return parser


def _cache_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("database", type=Path)
    parser.add_argument("--catalog", type=Path, required=True)
    parser.add_argument("--key-file", type=Path, required=True)


def _init(options: argparse.Namespace) -> tuple[int, Out, str]:
    path: Path = options.path
    starter = resources.files("edge_runtime.catalog").joinpath("starter.toml").read_text()
    with path.open("x") as file:  # never over somebody's catalog
        file.write(starter)
    return 0, {"written": str(path)}, f"wrote {path}: edit it, then try `edge-runtime replay {path} EVENTS`"


def _replay(options: argparse.Namespace) -> tuple[int, Out, str]:
    from edge_runtime.catalog import Catalog
    from edge_runtime.serving.training import replay

    points = list(_lines(options.points))
    table = replay(Catalog.load(options.catalog), _lines(options.events), points=points, refs=options.refs)
    rows = [
        {**point, **{ref: _plain(table.column(ref)[n]) for ref in options.refs}}
        for n, point in enumerate(points)
    ]
    return 0, {"rows": rows}, "\n".join(json.dumps(row) for row in rows)


def _plain(value: object) -> object:
    counts = getattr(value, "counts", None)
    return dict(counts) if counts is not None else value


def _lines(path: Path) -> Iterator[dict[str, object]]:
    with path.open() as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            found = json.loads(line)
            if not isinstance(found, dict):
                raise ValueError(f"{path}:{number}: expected an object, got {type(found).__name__}")
            yield found


def _open(options: argparse.Namespace) -> Runtime:
    from edge_runtime.catalog import Catalog
    from edge_runtime.errors import KeyMissing
    from edge_runtime.keys.providers import KeyFile
    from edge_runtime.runtime import Runtime

    if not options.database.exists():
        raise KeyMissing("expected an existing database; nothing was created")
    return Runtime.open(
        options.database, catalog=Catalog.load(options.catalog), key=KeyFile(options.key_file)
    )


def _read(options: argparse.Namespace) -> tuple[int, Out, str]:
    entities = dict(text.partition("=")[::2] for text in options.entities)
    with _open(options) as rt:
        found = rt.read(options.ref, **entities)
    out: Out = {"value": _plain(found.value), "status": found.status.name, "reason": found.reason}
    return 0, out, f"{_plain(found.value)}  {found.status.name}  {found.reason}".rstrip()


def _doctor(options: argparse.Namespace) -> tuple[int, Out, str]:
    with _open(options) as rt:
        status = rt.status()
    advice = "nothing to do"
    if status["lease"] == "locked":
        advice = "consented features are locked until the server has answered: start the app's sync"
    out: Out = {**status, "advice": advice}
    return 0, out, "\n".join(f"{name:>18}  {value}" for name, value in out.items())


def _verify(options: argparse.Namespace) -> tuple[int, Out, str]:
    from edge_runtime.wire.failure import WireFailure
    from edge_runtime.wire.receipt import open_receipt

    shown = json.loads(options.receipt.read_text())
    proof = shown["proof"]
    key = bytes.fromhex(options.key or proof["public_key"])
    try:
        receipt = open_receipt(bytes.fromhex(proof["body"]), bytes.fromhex(proof["signature"]), key)
    except WireFailure as failure:
        return 1, {"verified": False, "reason": failure.reason}, f"does NOT verify: {failure.reason}"
    out: Out = {"verified": True, "kind": receipt.kind, "device": receipt.device_id}
    return (
        0,
        out,
        f"verifies: device {receipt.device_id} says {receipt.kind} (assurance: {receipt.assurance})",
    )


if __name__ == "__main__":
    sys.exit(main())
