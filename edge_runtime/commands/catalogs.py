"""Commands on catalogs alone: `init`, `explain`, `plan`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands.command import Declare, Out
from edge_runtime.commands.contract_text import contract_text
from edge_runtime.commands.table import table

if TYPE_CHECKING:
    from edge_runtime.catalog import Catalog
    from edge_runtime.commands.explained import ExplainedView


def add(command: Declare) -> None:
    """Declare these commands."""
    init = command("init", _init, "write a first catalog to start from")
    init.add_argument("path", nargs="?", default="catalog.toml", type=Path)

    explain = command(
        "explain", _explain, "the code a catalog compiles to, and the contracts of its services"
    )
    explain.add_argument("catalog", type=Path)
    explain.add_argument("--view", metavar="VIEW", help="only this session view: a name or name@version")
    explain.add_argument("--service", metavar="SERVICE", help="only this service: a name or name@version")

    plan = command("plan", _plan, "what a device would do if NEW took the place of OLD")
    plan.add_argument("old", type=Path)
    plan.add_argument("new", type=Path)
    plan.epilog = (
        "Exit code 0: nothing is lost and no contract changes. 1: state is lost, or an app or a model that "
        "relied on a contract must change with it. 2: a catalog cannot be read."
    )


def _init(options: argparse.Namespace) -> tuple[int, Out, str]:
    path: Path = options.path
    starter = resources.files("edge_runtime.catalog").joinpath("starter.toml").read_text()
    with path.open("x") as file:  # never over somebody's catalog
        file.write(starter)
    return 0, {"written": str(path)}, f"wrote {path}: edit it, then try `edge-runtime replay {path} EVENTS`"


def _explain(options: argparse.Namespace) -> tuple[int, Out, str]:
    from edge_runtime.catalog import Catalog
    from edge_runtime.catalog.contract import Contract
    from edge_runtime.commands.explained import explained

    catalog = Catalog.load(options.catalog)
    views = [explained(catalog, key) for key in _view_keys(catalog, options)]
    contracts = [Contract.of(catalog, key) for key in _service_keys(catalog, options)]
    out: Out = {
        "views": {one.key: one.to_dict() for one in views},
        "services": {one.service: one.to_dict() for one in contracts},
    }
    return 0, out, "\n\n".join([*map(_view_text, views), *map(contract_text, contracts)])


def _view_keys(catalog: Catalog, options: argparse.Namespace) -> Iterable[str]:
    from edge_runtime.errors import MalformedRequest

    sessions = [view.key for view in catalog.views.values() if view.source == "session"]
    if options.view is None:
        return sessions if options.service is None else ()
    found = catalog.view(options.view)
    if found.source != "session":
        legal = " ".join(sessions)
        raise MalformedRequest("view", f"one of {legal}", f"a view of source {found.source}")
    return (found.key,)


def _service_keys(catalog: Catalog, options: argparse.Namespace) -> Iterable[str]:
    if options.service is None:
        return catalog.services if options.view is None else ()
    return (options.service,)


def _view_text(view: ExplainedView) -> str:
    statistics = [
        (f"#{n}", one.text, f"slots {one.first}-{one.last}") for n, one in enumerate(view.statistics)
    ]
    reads = [(name, " ".join(f"#{n}" for n in needs)) for name, needs in view.features.items()]
    counts = f"{len(view.features)} features, {len(view.statistics)} statistics, {view.slots} slots"
    heading = f"View {view.key}: {counts}\n"
    parts = [
        table(("statistic", "of", "at"), statistics),
        table(("feature", "read from"), reads),
        view.source,
    ]
    return heading + "\n" + "\n\n".join(parts).rstrip()


def _plan(options: argparse.Namespace) -> tuple[int, Out, str]:
    from edge_runtime.catalog import Catalog
    from edge_runtime.catalog.evolution import evolve
    from edge_runtime.catalog.privacy import privacy_part
    from edge_runtime.catalog.weakening import weakenings

    old, new = Catalog.load(options.old), Catalog.load(options.new)
    changes, before, after = evolve(old, new), privacy_part(old), privacy_part(new)
    weaker = weakenings(before, after)
    loses = any(change.loses for change in changes)
    out: Out = {
        "loses": loses,
        "changes": [change._asdict() for change in changes],
        "privacy": {"changed": before != after, "weaker": weaker},
    }
    rows = [("!" if c.loses else "", c.outcome, c.place, c.detail) for c in changes]
    verdict = "state is lost or a contract changes (!)" if loses else "nothing is lost, no contract changes"
    privacy = _privacy_text(before != after, weaker)
    return int(loses), out, f"{table(('', 'outcome', 'what', 'how'), rows)}\n\n{privacy}\n{verdict}"


def _privacy_text(changed: bool, weaker: list[str]) -> str:
    if not changed:
        return "the privacy part is the same: its signature holds"
    where = f", and protects less at {' '.join(weaker)}" if weaker else ", and protects no less"
    return f"the privacy part is another{where}: where a registry key is pinned, it must be signed anew"
