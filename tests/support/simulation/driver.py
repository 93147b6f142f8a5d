"""A random walk through what can happen, from a seed; the same seed walks the same way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.simulation import proofs, rights
from tests.support.simulation.chance import seeded
from tests.support.simulation.invariants import Broken
from tests.support.simulation.world import World

Chooser = Callable[[World, random.Random], None]

REST_EVERY: Final = 250
"""Steps between two times of rest."""


def _wait(world: World, rng: random.Random) -> None:
    world.do_wait(rng.choice((1, 1, 2, 5, 31, 100, 1_000, 4_000, 40_000, 200_000)))


ACTIONS: Final[dict[str, tuple[int, Chooser]]] = {
    "connect": (8, lambda w, r: w.do_connect(r.randrange(9))),
    "pump": (26, lambda w, r: w.do_pump(r.randrange(9), r.choice((1, 2, 4, 9, 40)))),
    "keep back": (2, lambda w, r: w.do_keep_back(r.randrange(9), r.randrange(3), r.randrange(2))),
    "bring back": (3, lambda w, r: w.do_bring_back(r.randrange(9), r.randrange(400))),
    "lose a row": (1, lambda w, r: w.do_lose_a_row(r.randrange(9), r.randrange(40))),
    "talk": (10, lambda w, r: w.do_talk(r.randrange(9))),
    "pull": (3, lambda w, r: w.do_pull(r.randrange(9))),
    "deliver": (8, lambda w, r: w.do_deliver(r.randrange(9), r.random() < 0.5)),
    "tick": (2, lambda w, r: w.do_tick(r.randrange(9))),
    "cut": (2, lambda w, r: w.do_cut(r.randrange(9), r.choice((0, 0, 1, 9, 40)))),
    "block": (1, lambda w, r: w.do_block(r.randrange(9), r.random() < 0.5)),
    "meddle": (
        8,
        lambda w, r: w.do_meddle(r.randrange(9), r.randrange(4), r.randrange(9_999), r.random() < 0.8),
    ),
    "publish": (
        24,
        lambda w, r: w.do_publish(
            r.randrange(6),
            r.randrange(3),
            r.randrange(6),
            r.choice((0, 0, 0, 1, 5_000)),
            r.choice((0, 0, 0, 0, 1, 4)),
            r.random() < 0.2,
            r.randrange(7),
        ),
    ),
    "decide": (
        5,
        lambda w, r: w.do_decide(r.randrange(3), r.randrange(2), r.randrange(7), r.choice((0, 0, 0, 2))),
    ),
    "revoke": (1, lambda w, r: w.do_revoke(r.randrange(3), r.random() < 0.5)),
    "admit": (3, lambda w, r: w.do_admit(r.randrange(9), r.randrange(3), r.randrange(2))),
    "give": (7, lambda w, r: w.do_give(r.randrange(9), r.randrange(3), r.randrange(2))),
    "deny": (3, lambda w, r: w.do_deny(r.randrange(9), r.randrange(3), r.randrange(2), r.random() < 0.4)),
    "toggle": (
        2,
        lambda w, r: w.do_toggle(r.randrange(9), r.randrange(3), r.randrange(2), r.randrange(1, 3)),
    ),
    "track": (4, lambda w, r: w.do_track(r.randrange(9), r.randrange(3), r.random() < 0.5)),
    "sweep": (1, lambda w, r: w.do_sweep(r.randrange(9))),
    "restart": (1, lambda w, r: w.do_restart(r.randrange(9), r.randrange(60))),
    "poll": (1, lambda w, r: w.do_poll()),
    "deaf": (1, lambda w, r: w.do_deaf(r.random() < 0.5)),
    "sweep server": (1, lambda w, r: w.do_sweep_server()),
    "wait": (8, _wait),
}
RIGHTS: Final[dict[str, tuple[int, Chooser]]] = {
    "restrict": (4, lambda w, r: rights.do_restrict(w, r.randrange(9), r.randrange(3), r.randrange(3))),
    "object": (3, lambda w, r: rights.do_object(w, r.randrange(9), r.randrange(3))),
    "visit": (9, lambda w, r: rights.do_visit(w, r.randrange(9), r.randrange(3))),
    "decide care": (
        4,
        lambda w, r: rights.do_decide_care(
            w, r.randrange(3), r.choice(("given", "objected", "objected", "restricted"))
        ),
    ),
    "acknowledge": (3, lambda w, r: rights.do_acknowledge(w, r.choice((1, 9, 1_000)))),
    "forget": (2, lambda w, r: rights.do_forget(w, r.randrange(3))),
    "lose": (1, lambda w, r: rights.do_lose(w, r.randrange(9))),
}
"""What is done besides, by a chance of its own."""
RIGHTS_SHARE: Final = 0.08
RARE: Final[dict[str, tuple[int, Chooser]]] = {
    "shut out": (2, lambda w, r: w.do_shut_out(r.randrange(9))),
    "crash server": (2, lambda w, r: w.do_crash_server()),
    "jump": (3, lambda w, r: w.do_jump(r.randrange(3), r.randrange(101))),
    "jump of the server": (1, lambda w, r: w.do_jump(3, r.randrange(101))),
    "boot back": (2, lambda w, r: w.do_boot_back(r.randrange(9))),
}
NIGHTLY: Final[dict[str, tuple[int, Chooser]]] = {
    **RARE,
    "back up": (6, lambda w, r: w.do_back_up()),
    "restore": (4, lambda w, r: w.do_restore()),
}
"""What is rare where a server keeps a journal, and is lost now and then."""
RARE_SHARE: Final = 0.008
SERVER_JUMPS_IN: Final = 4
"""In every so many seeds the server's own clock is set, too; then its leases prove nothing by their end."""


@dataclass
class Run:
    """What one run did."""

    seed: int
    steps: int
    digest: str
    counts: Counter[str] = field(default_factory=Counter)


def run(
    seed: int,
    steps: int,
    folder: Path,
    *,
    rest_every: int = REST_EVERY,
    devices: int = 3,
    restores: bool = False,
) -> Run:
    """Walk `steps` steps from `seed` in an empty `folder`; raises `Broken` where a promise does not hold."""
    rng, rights_rng = random.Random(f"walk {seed}"), random.Random(f"rights {seed}")
    with seeded(seed):
        world = World(seed, folder, devices, hostile=seed % 2 == 0, journalled=restores)
        try:
            for n in range(steps):
                _step(world, rng, *((NIGHTLY, 0.04) if restores else (RARE, RARE_SHARE)))
                if rights_rng.random() < RIGHTS_SHARE:
                    _step(world, rights_rng, RIGHTS, 1)
                if n % rest_every == rest_every - 1:
                    world.rest()
                    rights.do_part(world, rights_rng.randrange(9))
            world.rest()
            fault = proofs.fault_in_ledger(world)
            if fault is not None:
                raise Broken(world.story(fault))
            for cable in world.cables.values():
                world.counts.update({f"refused {code}": n for code, n in cable.refusals.items()})
                world.counts["sessions"] += cable.sessions
            world.counts["ledger"] = world.oracle.ledger
            world.counts["stood by own denial"] = world.oracle.by_own_denial
            world.counts["not provable"] = world.oracle.unproven
            return Run(seed, steps, world.digest, world.counts)
        finally:
            world.close()


def _step(world: World, rng: random.Random, rare: Mapping[str, tuple[int, Chooser]], share: float) -> None:
    actions = rare if rng.random() < share else ACTIONS
    name = rng.choices(list(actions), [weight for weight, _ in actions.values()])[0]
    if name == "jump of the server" and world.seed % SERVER_JUMPS_IN:
        name = "crash server"
    world.counts[name] += 1
    actions[name][1](world, rng)
    world.check()
