"""Experiments at the terminal: `edge-sync aggregates experiment|experiment-plan`."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from sync_server.aggregates.experiments.plan import POWER, Design, detectable, needed, power_of
from sync_server.aggregates.experiments.uplift import ALPHA
from sync_server.cli.command import client, command
from sync_server.cli.experiment_text import plan_text, report_text
from sync_server.cli.named_round import named_round
from sync_server.cli.told import REFUSED, Told


def experiment_commands(family: Any) -> None:
    """Hang the commands under `edge-sync aggregates`."""
    text = "what an experiment's newest release says: uplift of each arm, and whether it is shown"
    made = command(family, "experiment", _experiment, text)
    made.add_argument("experiment")
    made.add_argument(
        "--round", metavar="ROUND", help="its id, or the beginning of it; the newest release without"
    )
    made.add_argument("--looks", type=int, default=1, help="how often you will look in all (default 1)")
    made.add_argument("--alpha", choices=("0.1", "0.05", "0.01", "0.001"), default="0.05")
    made = command(
        family, "experiment-plan", _plan, "how many subjects an experiment needs, or what a fleet can show"
    )
    made.add_argument("--baseline", type=float, required=True, help="success rate of the control, e.g. 0.1")
    wanted = made.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--uplift", type=float, help="absolute difference that is to be shown, e.g. 0.02")
    wanted.add_argument("--subjects", type=int, help="who will answer: the least uplift that they show")
    made.add_argument("--exposed", type=float, default=1.0, help="share of them who see an arm (default 1)")
    made.add_argument("--epsilon", default="1", help="as in the catalog (default 1)")
    made.add_argument("--weights", default="1:1", help="of the arms, control first (default 1:1)")
    made.add_argument("--power", type=float, default=POWER, help=f"chance to show it (default {POWER})")
    made.add_argument("--alpha", type=float, default=ALPHA, help=f"chance of a false alarm (default {ALPHA})")
    made.add_argument("--looks", type=int, default=1, help="how often you will look in all (default 1)")


def _experiment(args: argparse.Namespace) -> Told:
    server, round_id = client(args), None
    if args.round is not None:
        round_id = named_round(server, args.experiment, args.round).round
    found = server.aggregates.uplift(args.experiment, round_id=round_id, looks=args.looks, alpha=args.alpha)
    broken = found.result is None or found.result.sample_ratio.alarm
    return Told(msgspec.to_builtins(found), report_text(found), REFUSED if broken else 0)


def _plan(args: argparse.Namespace) -> Told:
    """Asks no server: numbers in, numbers out."""
    design = Design(
        baseline=args.baseline,
        exposed=args.exposed,
        weights=tuple(int(weight) for weight in args.weights.split(":")),
        epsilon=args.epsilon,
        alpha=args.alpha,
        looks=args.looks,
    )
    if args.uplift is not None:
        plan = needed(design, args.uplift, args.power)
    else:
        found = detectable(design, args.subjects, args.power)
        if found is None:
            document = {"plan": None, "subjects": args.subjects}
            return Told(document, f"{args.subjects:,} subjects show no uplift at all: too few.", REFUSED)
        plan = found
    clear = power_of(design, plan.uplift, plan.subjects, clear=True)
    return Told({"plan": msgspec.to_builtins(plan), "power_in_the_clear": clear}, plan_text(plan))
