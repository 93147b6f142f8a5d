"""Is a planted uplift found, and is none where there is none, as often as is stated? And at what price?

For each design the planner says how many subjects show the uplift with power 80 % at alpha 5 %. Then 2,000
experiments with that uplift and 2,000 without any are drawn from the exact law of the production mechanism
and judged by the production code. Beside it the peer that needs no privacy: the textbook test of two
proportions, on as many subjects as *it* needs, simulated the same way.

`stated_rates_hold` is False, and the bench fails, when a measured rate lies outside 3.3 deviations of the
stated one. The last rows are what `rt.assign` costs an app: the first time, and again.
"""

from __future__ import annotations

import math

import numpy as np

import edge_runtime as er
from bench.experiment_rounds import Population, looks
from bench.measure import seconds, table
from edge_runtime.catalog import Catalog
from sync_server.aggregates.experiments.plan import Design, ExperimentPlan, needed, power_of
from sync_server.aggregates.experiments.uplift import critical

EXPERIMENTS = 2_000
SUBJECTS = 2_000
DESIGNS = (
    (Design(baseline=0.1, epsilon="4"), 0.02),
    (Design(baseline=0.1, epsilon="2"), 0.02),
    (Design(baseline=0.1, epsilon="1"), 0.02),
    (Design(baseline=0.1, epsilon="1/2"), 0.02),
    (Design(baseline=0.02, epsilon="2"), 0.01),
    (Design(baseline=0.5, epsilon="1"), 0.05),
    (Design(baseline=0.5, epsilon="1"), -0.05),
    (Design(baseline=0.2, exposed=0.5, epsilon="1"), 0.05),
    (Design(baseline=0.2, exposed=0.1, epsilon="4"), 0.05),
    (Design(baseline=0.2, epsilon="2", weights=(9, 1)), 0.05),
    (Design(baseline=0.2, epsilon="2", weights=(1, 1, 1, 1)), 0.05),
    (Design(baseline=0.2, epsilon="1", looks=5), 0.05),
)
HEADING = (
    *("baseline", "uplift", "exposed", "weights", "looks", "epsilon", "subjects", "without privacy", "price"),
    *("power stated", "measured", "peer", "false stated", "measured"),
)


def run() -> dict[str, object]:
    """Every design; raises AssertionError when a rate is not the stated one."""
    rows: list[tuple[str, ...]] = [HEADING]
    found: dict[str, object] = {}
    wrong: list[str] = []
    for number, (design, uplift) in enumerate(DESIGNS):
        plan = needed(design, uplift)
        power = _share_found(design, uplift, plan, 2 * number)
        alarms = _share_found(design, 0.0, plan, 2 * number + 1)
        stated = power_of(design, uplift, plan.subjects)
        peer = _peer(design, uplift, plan.in_the_clear, number)
        false = design.alpha / design.looks
        rows.append(_row(design, uplift, plan, stated, power, peer, false, alarms))
        name = f"{design.baseline:g}{uplift:+g} eps {design.epsilon} exposed {design.exposed:g}"
        name += f" arms {':'.join(map(str, design.weights))} looks {design.looks}"
        found[name] = {
            "subjects": plan.subjects,
            "without_privacy": plan.in_the_clear,
            "price": round(plan.price, 2),
            "power": {"stated": round(stated, 4), "measured": power, "peer": peer},
            "false_positives": {"stated": false, "measured": alarms},
        }
        at_most = len(design.weights) > 2  # Bonferroni over arms that share a control keeps under alpha
        if not (_near(power, stated) and (_near(alarms, false) or (at_most and alarms < false))):
            wrong.append(name)
    print(f"{EXPERIMENTS} experiments a rate")
    print(table(rows))
    first_us, again_us = _assign_us()
    print(f"rt.assign: {first_us:.1f} us the first time of a subject, {again_us:.2f} us again")
    assert not wrong, f"rates that are not the stated ones: {wrong}"
    return {
        "experiments": EXPERIMENTS,
        "designs": found,
        "stated_rates_hold": not wrong,
        "assign_us": {"first": round(first_us, 1), "again": round(again_us, 2)},
    }


def _share_found(design: Design, uplift: float, plan: ExperimentPlan, seed: int) -> float:
    """Share of experiments with a verdict: for the planted arm with an uplift, for any arm without."""
    rates = [design.baseline] * len(design.weights)
    rates[design.arm] += uplift
    population = Population(design.exposed, tuple(rates), design.weights)
    rng = np.random.default_rng(seed)
    told = looks(
        population, design.epsilon, plan.subjects, EXPERIMENTS, rng, alpha=design.alpha / design.looks
    )
    judged = [one.comparisons[design.arm - 1 : design.arm] if uplift else one.comparisons for one in told]
    hits = sum(any(c.verdict != "no_difference_shown" for c in one) for one in judged)
    return hits / EXPERIMENTS


def _peer(design: Design, uplift: float, subjects: int, seed: int) -> float:
    """Power of the test of two proportions, unpooled, over answers in the clear."""
    rng, weights = np.random.default_rng(1_000 + seed), np.asarray(design.weights)
    shares = design.exposed * weights / weights.sum()
    pair = shares[[0, design.arm]]
    cells = rng.multinomial(subjects, [*pair, max(0.0, 1 - pair.sum())], EXPERIMENTS)[:, :2]
    wins = rng.binomial(cells, [design.baseline, design.baseline + uplift])
    rates = wins / cells
    deviation = np.sqrt((rates * (1 - rates) / cells).sum(axis=1))
    z = critical(1 - design.alpha / ((len(weights) - 1) * design.looks))
    return float((np.abs(rates[:, 1] - rates[:, 0]) > z * deviation).mean())


def _near(measured: float, stated: float) -> bool:
    return abs(measured - stated) <= 3.3 * math.sqrt(stated * (1 - stated) / EXPERIMENTS)


def _row(
    design: Design,
    uplift: float,
    plan: ExperimentPlan,
    stated: float,
    power: float,
    peer: float,
    false: float,
    alarms: float,
) -> tuple[str, ...]:
    weights = ":".join(map(str, design.weights))
    return (
        *(f"{design.baseline:g}", f"{uplift:+g}", f"{design.exposed:g}", weights, str(design.looks)),
        *(design.epsilon, f"{plan.subjects:,}", f"{plan.in_the_clear:,}", f"{plan.price:.1f}"),
        *(f"{stated:.3f}", f"{power:.3f}", f"{peer:.3f}", f"{false:.3f}", f"{alarms:.3f}"),
    )


def _assign_us() -> tuple[float, float]:
    """Microseconds of one `assign`: of a subject's first, and of any after it."""
    catalog = Catalog.from_dict(
        {
            "catalog": {"name": "bench", "version": 1},
            "purposes": {"m": {"title": "m", "legal_basis": "consent", "retention": "30d"}},
            "entities": {"user": {"personal": True}},
            "events": {"buy": {"entities": ["user"]}},
            "experiments": {
                "ranker": {
                    "purpose": "m",
                    "arms": {"control": 1, "treatment": 1},
                    "outcome": {"event": "buy"},
                    "epsilon": 1.0,
                    "min_subjects": 100,
                }
            },
        }
    )
    with er.Runtime.open(":memory:", catalog=catalog, key=er.KeyMemory()) as rt:
        names = [f"visitor-{n}" for n in range(SUBJECTS)]
        for name in names:
            rt.consent.give(name, ["m"], notice="1")

        def all_of_them() -> None:
            for name in names:
                rt.assign("ranker", user=name)

        first, again = seconds(all_of_them), min(seconds(all_of_them) for _ in range(5))
    return first / SUBJECTS * 1e6, again / SUBJECTS * 1e6
