"""`edge-runtime doctor`: how a cache stands, also one that does not open, and what to do about it.

Exit codes: 0 all is well, or warnings only; 1 a fault was found; 2 the call is wrong (no cache there).
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime.commands import key_options
from edge_runtime.commands.command import Declare, Out
from edge_runtime.commands.table import table

if TYPE_CHECKING:
    from edge_runtime.cache.database import Database
    from edge_runtime.keys.keyring import Keyring
    from edge_runtime.keys.providers import KeyProvider
    from edge_runtime.recovery.checks import Check
    from edge_runtime.recovery.examination import Examination

_ABOUT: Final = "how a cache stands, also one that does not open, and what to do about it"
_COLOURS: Final = {"ok": "green", "warn": "yellow", "fault": "bold red"}


def add(command: Declare) -> None:
    """Declare the command."""
    doctor = command("doctor", _doctor, _ABOUT)
    doctor.add_argument("database", type=Path)
    doctor.add_argument("--catalog", type=Path, help="also check that this catalog loads, and who signed it")
    doctor.add_argument("--deep", action="store_true", help="open every sealed row, compare every index")
    doctor.add_argument(
        "--repair", action="store_true", help="rebuild a damaged database, finish what was cut"
    )
    key_options.add(doctor)
    doctor.epilog = (
        "Nothing is changed without --repair. Exit code 0: all is well, or warnings only. 1: a fault was "
        "found. 2: the call is wrong."
    )
    head = command("head", _head, "the signed head of the server's consent ledger that this device keeps")
    head.add_argument("database", type=Path)
    key_options.add(head)
    head.epilog = (
        "Give its output to `edge-sync consent audit --head`, or compare it with another device's: two heads "
        "that do not go on from each other show that the server told two stories."
    )


def _doctor(options: argparse.Namespace) -> tuple[int, Out, str]:
    from edge_runtime.catalog import Catalog
    from edge_runtime.errors import KeyMissing
    from edge_runtime.recovery import checks

    if not _anything(options.database):
        raise KeyMissing("expected an existing cache; nothing was created")
    catalog = None if options.catalog is None else Catalog.load(options.catalog)
    provider = key_options.provider(options)
    seen, found = _examined(options, provider)
    repaired: list[str] = []
    if options.repair and _repairable(found):
        repaired = _repair(options.database, provider)
        seen, found = _examined(options, provider)
    if catalog is not None:
        found = [*found, checks.registry(catalog, seen.registry_key)]
    state = checks.worst(found)
    out: Out = {
        "state": state,
        "authority": seen.authority,
        "registry_key": None if seen.registry_key is None else seen.registry_key.hex(),
        "ledger": seen.ledger,
        "assurance": provider.assurance,
        "checks": [check.to_dict() for check in found],
        "repaired": repaired,
    }
    return int(state == "fault"), out, _text(found, repaired, seen.authority)


def _head(options: argparse.Namespace) -> tuple[int, Out, str]:
    """The kept head, in the form that `edge-sync consent audit --head` takes."""
    from edge_runtime.errors import KeyMissing

    if not _anything(options.database):
        raise KeyMissing("expected an existing cache; nothing was created")
    options.deep = False
    examination, _ = _examined(options, key_options.provider(options))
    ledger = examination.ledger or {}
    head, conflict = ledger.get("head"), ledger.get("conflict")
    if not isinstance(head, dict):
        out: Out = {"error": "NoHead", "message": "no head of a ledger is kept here"}
        return 1, out, "no head of a ledger is kept here: it comes with the first lease"
    text = json.dumps(head, indent=2)
    if conflict is not None:
        print(
            "edge-runtime: the server has contradicted this head: see `edge-runtime doctor`", file=sys.stderr
        )
    return 0, head, text


def _anything(database: Path) -> bool:
    """Whether there is a cache at all, or something that is left of one."""
    return database.exists() or any(database.parent.glob(f"{database.name}[-.]*"))


def _examined(options: argparse.Namespace, provider: KeyProvider) -> tuple[Examination, list[Check]]:
    from edge_runtime.clock import SystemClock
    from edge_runtime.recovery.examination import Examination

    examination = Examination(options.database, provider, deep=options.deep, now_us=SystemClock().now_us())
    return examination, examination.run()


# ---- repairing -------------------------------------------------------------------------------------------


def _repairable(found: Sequence[Check]) -> bool:
    from edge_runtime.recovery.checks import REPAIR

    if any(check.name in ("key", "keystore") and check.state == "fault" for check in found):
        return False  # without these nothing can be taken over
    cut_short = any(check.name in ("database", "leftovers") and "cut short" in check.found for check in found)
    return cut_short or any(check.advice == REPAIR for check in found)


def _repair(database: Path, provider: KeyProvider) -> list[str]:
    """Finish a swap, or rebuild what is damaged; returns what was done."""
    from edge_runtime.clock import SystemClock
    from edge_runtime.errors import EdgeError
    from edge_runtime.recovery import set_aside
    from edge_runtime.recovery.opening import open_recovered
    from edge_runtime.recovery.rebuild import Rebuilt

    done: list[str] = []

    def told(rebuilt: Rebuilt) -> None:
        done.append(f"rebuilt the database; the damaged one is now {rebuilt.aside}")
        done.extend(rebuilt.lines())

    def close(keyring: Keyring, opened: Database) -> None:
        opened.close()
        keyring.close()

    try:
        if set_aside.finish(database):
            done.append("finished a rebuild that was cut short")
        now_us = SystemClock().now_us()
        open_recovered(str(database), provider, close, now_us=now_us, recover="rebuild", rebuilt=told)
    except EdgeError as error:
        done.append(f"not repaired: {error}")
    return done or ["opened and closed the cache: nothing was damaged"]


# ---- showing ---------------------------------------------------------------------------------------------


def _text(found: Sequence[Check], repaired: Sequence[str], authority: str | None) -> str:

    parts = []
    if repaired:
        parts.append("\n".join(["Repaired:", *map(_wrapped, repaired)]))
    parts.append(_table(found))
    by_advice: dict[str, list[str]] = {}
    for check in found:
        if check.advice:
            by_advice.setdefault(check.advice, []).append(check.name)
    if by_advice:
        lines = [_wrapped(f"{', '.join(names)}: {text}.") for text, names in by_advice.items()]
        parts.append("\n".join(["What to do:", *lines]))
    parts.append(_verdict(found, authority))
    return "\n\n".join(parts)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _verdict(found: Sequence[Check], authority: str | None) -> str:
    faults, warnings = (sum(check.state == state for check in found) for state in ("fault", "warn"))
    counted = [f"{n} {word}{'s' * (n != 1)}" for n, word in ((faults, "fault"), (warnings, "warning")) if n]
    who = {
        "standalone": "standalone: its own authority, no lease",
        "server": "enrolled at a server",
        None: "without a keystore nobody knows whose it is",
    }
    return f"{', '.join(counted) or 'All is well'} ({who[authority]})."


def _table(found: Sequence[Check]) -> str:
    """In colours and fitted to the window on a terminal with `rich`; else plain columns."""
    if sys.stdout.isatty():
        try:
            return _coloured(found)
        except ImportError:
            pass
    return table(("state", "check", "found"), [(check.state, check.name, check.found) for check in found])


def _coloured(found: Sequence[Check]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for check in found:
        made.add_row(Text(check.state, _COLOURS[check.state]), Text(check.name, "bold"), Text(check.found))
    shown = io.StringIO()
    Console(file=shown, force_terminal=True, width=Console().width).print(made)
    return shown.getvalue().rstrip()
