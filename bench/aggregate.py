"""How large is the error of a private aggregate beside the smallest error there can be?

**Histograms.** The limit is the minimax risk of local privacy (Ye and Barg 2018; `mechanisms.risk` at the
best m). Each round draws n subjects' values uniformly anew, answers for them with the production mechanism's
exact inclusion probabilities, vectorised, and measures the squared error of the *unbiased* estimator. At
epsilon 1 the same is done with the production sampler itself, answer by answer (`sampler`). Columns of their
own: the error on a *fixed* fleet (beside the shares that were drawn: without the sampling of subjects it is
under 1 by right), and the error after post-processing, which is biased and may go under the limit.

**Numbers.** See `aggregate_numbers.py`: the mean of a bounded number, and a kiosk's count.

An error below the limit would mean that the mechanism keeps less privacy than claimed: then the bench fails.
Of forty sound intervals one lies under 1 by chance; so such a row is measured once more, from new chance and
with four times the rounds, and stands or falls by that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from bench.aggregate_numbers import numbers
from bench.measure import seconds, table
from bench.ratio import Floats, Ratio, measured
from edge_runtime.aggregates.chance import system_bits
from edge_runtime.aggregates.mechanisms import (
    Frequencies,
    SubsetSelection,
    best_frequencies,
    best_size,
    exp_below,
    expected_error,
    frequencies,
    risk,
)

SUBJECTS = 200
ROUNDS = {4: 30_000, 16: 6_000, 64: 1_600, 256: 500}
"""K -> rounds: one's squared error spreads by about sqrt(2 / (K-1)), so the standard error is near 0.5 %."""
SAMPLED = {4: 7_000, 16: 1_500, 64: 360, 256: 100}
"""K -> rounds by the production sampler: a standard error of about 1 %."""
EPSILONS = (Fraction(1), Fraction(1, 2), Fraction(2), Fraction(4))
BATCH = 100


@dataclass(frozen=True, slots=True)
class Errors:
    """Squared l2 errors, one a round: of the unbiased estimate, on the fixed fleet, after post-processing."""

    unbiased: Floats
    fixed: Floats
    post: Floats


def run() -> dict[str, object]:
    """Every K at every epsilon; raises AssertionError when an interval lies wholly under 1."""
    rows: list[tuple[str, ...]] = [
        (
            *("histogram", "mechanism", "error / limit", "95 % interval"),
            *("sampler", "fixed fleet", "post-processed", "GRR", "OUE", "us/answer"),
        )
    ]
    found: dict[str, Ratio] = {}
    for epsilon in EPSILONS:
        for categories in ROUNDS:
            key = f"histogram K={categories} eps={float(epsilon):g}"
            found[key], row = histogram(key, categories, epsilon)
            rows.append((key, *row))
    print(table(rows))
    worst = max(ratio.ci95[0] for ratio in found.values())
    beside, heading_and_rows = numbers()
    print(f"\n{table(heading_and_rows)}")
    found.update(beside)
    return {
        "bench": "aggregate",
        "ratios": {key: round(ratio.value, 4) for key, ratio in found.items()},
        "ci95": {key: ratio.ci95 for key, ratio in found.items()},
        "worst_histogram_ratio": worst,
    }


# ---- histograms --------------------------------------------------------------------------------------------


def histogram(key: str, categories: int, epsilon: Fraction) -> tuple[Ratio, tuple[str, ...]]:
    """The ratio of the unbiased estimator, and the cells of its row."""
    mechanism = frequencies(best_frequencies(categories, epsilon), categories, epsilon)
    limit = float(limit_of(categories, epsilon))
    beside: list[Errors] = []

    def unbiased(rounds: int, rng: np.random.Generator) -> Floats:
        beside.append(errors(mechanism, rounds, rng))
        return beside[-1].unbiased

    ratio = measured(key, ROUNDS[categories], limit, unbiased)
    sampler = ""
    if epsilon == 1:
        by_hand = measured(
            f"{key} sampler", SAMPLED[categories], limit, lambda n, rng: sampled(mechanism, n, rng)
        )
        sampler = f"{by_hand.value:.3f} ± {1.96 * by_hand.standard_error:.3f}"
    peers = (frequencies(name, categories, epsilon) for name in ("randomized_response", "unary_encoding"))
    low, high = ratio.ci95
    return ratio, (
        f"{mechanism.name} {named_by(mechanism)}",
        f"{ratio.value:.3f}",
        f"{low:.3f} to {high:.3f}",
        sampler,
        f"{beside[-1].fixed.mean() / limit:.3f}",
        f"{beside[-1].post.mean() / limit:.3f}",
        *(f"{float(expected_error(peer, SUBJECTS)) / limit:.2f}" for peer in peers),
        f"{microseconds(mechanism):.1f}",
    )


def limit_of(categories: int, epsilon: Fraction) -> Fraction:
    """The smallest squared error there can be for SUBJECTS subjects."""
    odds = exp_below(epsilon)
    return risk(categories, best_size(categories, odds), odds, SUBJECTS)


def named_by(mechanism: Frequencies) -> int:
    """How many categories one answer names."""
    return mechanism.size if isinstance(mechanism, SubsetSelection) else 1


def errors(mechanism: Frequencies, rounds: int, rng: np.random.Generator) -> Errors:
    """The three squared errors of each round, in batches that fit in memory."""
    k = mechanism.categories
    p, q = float(mechanism.true_rate), float(mechanism.false_rate)
    found: list[tuple[Floats, Floats, Floats]] = []
    for size in [BATCH] * (rounds // BATCH):
        own = rng.integers(k, size=size * SUBJECTS)
        drawn = per_round(own[:, None], size, k) / SUBJECTS
        estimates = (named(mechanism, own, size, rng) / SUBJECTS - q) / (p - q)
        wrong = (estimates - 1 / k, estimates - drawn, projected(estimates) - 1 / k)
        found.append(((wrong[0] ** 2).sum(1), (wrong[1] ** 2).sum(1), (wrong[2] ** 2).sum(1)))
    unbiased, fixed, post = (np.concatenate(part) for part in zip(*found, strict=True))
    return Errors(unbiased, fixed, post)


def sampled(mechanism: Frequencies, rounds: int, rng: np.random.Generator) -> Floats:
    """Squared errors of the unbiased estimate when each answer is made and read as in production."""
    k = mechanism.categories
    p, q = float(mechanism.true_rate), float(mechanism.false_rate)
    found = np.empty(rounds)
    for number in range(rounds):
        tally = np.zeros(k)
        for value in rng.integers(k, size=SUBJECTS).tolist():
            moves = mechanism.moves(mechanism.randomize(value, system_bits))
            assert moves is not None
            for cell, amount in moves:
                tally[cell] += amount
        found[number] = (((tally / SUBJECTS - q) / (p - q) - 1 / k) ** 2).sum()
    return found


def named(mechanism: Frequencies, own: NDArray[np.int64], rounds: int, rng: np.random.Generator) -> Floats:
    """How many answers name each category, shape [rounds, K]; `own` is each subject's category."""
    k, m = mechanism.categories, named_by(mechanism)
    order = rng.random((own.size, k))
    include = rng.random(own.size) < float(mechanism.true_rate)
    order[np.arange(own.size), own] = np.where(include, -1.0, 2.0)  # surely among the m smallest, or not
    return per_round(np.argpartition(order, m - 1, axis=1)[:, :m], rounds, k)


def per_round(chosen: NDArray[np.int64], rounds: int, categories: int) -> Floats:
    """Counts of each category in each round, shape [rounds, K], from rows of categories, one a subject."""
    cell = chosen + (np.arange(len(chosen)) // SUBJECTS * categories)[:, None]
    counts = np.bincount(cell.ravel(), minlength=rounds * categories)
    return counts.reshape(rounds, categories).astype(np.float64)


def projected(estimates: Floats) -> Floats:
    """Each row's nearest non-negative point with sum one, as `sync_server.aggregates.estimate.project`."""
    ranked = -np.sort(-estimates, axis=1)
    shifts = (ranked.cumsum(axis=1) - 1) / np.arange(1, estimates.shape[1] + 1)
    kept = (ranked - shifts > 0).sum(axis=1)
    shift = shifts[np.arange(len(estimates)), kept - 1]
    shares: Floats = np.maximum(estimates - shift[:, None], 0.0)
    return shares


def microseconds(mechanism: Frequencies) -> float:
    """Time of one answer on a device, with the operating system's chance."""

    def work() -> None:
        for i in range(200):
            mechanism.randomize(i % mechanism.categories, system_bits)

    work()
    return seconds(work) / 200 * 1e6


if __name__ == "__main__":
    print(json.dumps(run()))
