"""Does each mechanism keep the epsilon that it claims? A lower bound from outside, by running it.

The auditor takes the production sampler with the operating system's chance, and two inputs (for a curator two
kiosks that differ in one subject) that should be hard to tell apart. It knows how answers are laid out but
not the law: from one half of the runs it learns which answers tell the inputs apart best, on the other half
it measures how often they come. If such an answer comes with probability p under one input and q under the
other then epsilon >= ln(p / q), and Clopper and Pearson's interval gives p from below and q from above, each
at 97.5 %: the bound holds with 95 % (after Jagielski, Ullman and Oprea, "Auditing differentially private
machine learning", NeurIPS 2020, arXiv 2006.07709).

A sound mechanism meets its claim exactly, so about one bound in hundreds lies above it by chance: one that
does is measured again from nothing, and the bench fails when the second lies above it too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Sequence
from math import log, sqrt
from typing import Final

from bench.audited import Audited, every_mechanism
from bench.clopper_pearson import lower_end, upper_end
from bench.measure import table
from edge_runtime.aggregates.chance import system_bits
from edge_runtime.aggregates.mechanisms import Bits

RUNS: Final = 20_000
"""Runs of each of the two inputs; half to choose the answers, half to count them."""
ALPHA: Final = 0.025
"""Of each of the two ends; together 5 %."""


def run() -> dict[str, object]:
    """Audit every mechanism; `failed` names those whose lower bound is above the claim, twice."""
    rows: list[tuple[str, ...]] = [("mechanism", "claim", "lower bound", "ratio", "runs")]
    bounds: dict[str, float] = {}
    claims: dict[str, float] = {}
    failed: list[str] = []
    for audited in every_mechanism():
        bound, runs = measured(audited, RUNS, system_bits)
        bounds[audited.name], claims[audited.name] = round(bound, 4), audited.claim
        if bound > audited.claim:
            failed.append(audited.name)
        ratio = f"{bound / audited.claim:.3f}"
        rows.append((audited.name, f"{audited.claim:g}", f"{bound:.4f}", ratio, f"{runs:,}"))
    print(table(rows))
    worst = max(bounds[name] / claims[name] for name in bounds)
    return {
        "bench": "audit",
        "lower_bounds": bounds,
        "claims": claims,
        "worst_ratio": round(worst, 4),
        "failed": failed,
    }


def measured(audited: Audited, runs: int, bits: Bits) -> tuple[float, int]:
    """(lower bound of epsilon, runs in all); above the claim only when two measurements are."""
    bound = lower_bound(audited, runs, bits)
    if bound <= audited.claim:
        return bound, 2 * runs
    return min(bound, lower_bound(audited, runs, bits)), 4 * runs


def lower_bound(audited: Audited, runs: int, bits: Bits) -> float:
    """A number that epsilon is at least, with 95 %; 0 when the inputs cannot be told apart."""
    half = runs // 2
    first, second = seen(audited, half, bits), seen(audited, half, bits)
    likely, event = max(
        ((side, telling(first[side], first[1 - side], half)) for side in (0, 1)),
        key=lambda choice: promise(choice[1], first[choice[0]], first[1 - choice[0]], half),
    )
    p = lower_end(sum(second[likely][kind] for kind in event), half, ALPHA)
    q = upper_end(sum(second[1 - likely][kind] for kind in event), half, ALPHA)
    return max(0.0, log(p / q)) if p > 0 else 0.0


def seen(audited: Audited, runs: int, bits: Bits) -> tuple[Counter[Hashable], Counter[Hashable]]:
    """How often each kind of answer came, under either input."""
    counts: tuple[Counter[Hashable], Counter[Hashable]] = (Counter(), Counter())
    for side, counter in enumerate(counts):
        for _ in range(runs):
            counter[audited.kind(audited.draw(side, bits))] += 1
    return counts


def telling(likely: Counter[Hashable], other: Counter[Hashable], runs: int) -> list[Hashable]:
    """The kinds of answers whose union promises the highest bound.

    They are those with the largest ratio, up to where one more would tell less.
    """
    ranked = sorted(likely, key=lambda kind: (likely[kind] + 1) / (other[kind] + 1), reverse=True)
    unions = [ranked[: n + 1] for n in range(len(ranked))]
    return max(unions, key=lambda union: promise(union, likely, other, runs))


def promise(
    union: Sequence[Hashable], likely: Counter[Hashable], other: Counter[Hashable], runs: int
) -> float:
    """About the bound that these answers would give; by the normal approximation, which chooses only."""
    ones, others = sum(likely[kind] for kind in union), sum(other[kind] for kind in union)
    p = max(ones - 2 * sqrt(ones * (1 - ones / runs)), 0.01)
    return log(p / (others + 2 * sqrt(others * (1 - others / runs)) + 4))


if __name__ == "__main__":
    print(json.dumps(run()))
