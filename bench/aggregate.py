"""How large is the error of a private histogram beside the smallest error there can be?

The limit is the minimax risk of local privacy (Ye and Barg 2018; `mechanisms.risk` at the best m). Each round
draws n subjects' values uniformly anew, answers for them with the production mechanism's exact inclusion
probabilities (vectorised here; the sampler itself is checked against the same law in the tests), and measures
the squared error of the *unbiased* estimator. The ratio's 95 % interval must not lie under 1: an error below
the limit would mean that the mechanism keeps less privacy than it claims, and the bench fails.
"""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from bench.measure import seconds, table
from edge_runtime.aggregates.chance import system_bits
from edge_runtime.aggregates.mechanisms import (
    Frequencies,
    RandomizedResponse,
    SubsetSelection,
    UnaryEncoding,
    best_size,
    exp_below,
    risk,
)

SEED, SUBJECTS = 20261, 200
ROUNDS = {4: 40_000, 16: 8_000, 64: 2_000}
"""K -> rounds, enough for a standard error of about 0.4 %."""
EPSILON = Fraction(1)
Floats = NDArray[np.float64]


def run() -> dict[str, object]:
    """Measure K = 4, 16, 64 at epsilon 1; raises AssertionError when an interval lies wholly under 1."""
    rng = np.random.default_rng(SEED)
    heading = (
        "histogram",
        "m",
        "error / limit",
        "95 % interval",
        "post-processed",
        "GRR",
        "OUE",
        "us/answer",
    )
    rows: list[tuple[str, ...]] = [heading]
    ratios: dict[str, float] = {}
    ci95: dict[str, tuple[float, float]] = {}
    for categories, rounds in ROUNDS.items():
        mechanism = SubsetSelection.of(categories, EPSILON)
        limit = float(limit_of(categories))
        raw, post = errors(mechanism, rounds, rng)
        ratio, half = raw.mean() / limit, 1.96 * raw.std(ddof=1) / limit / rounds**0.5
        key = f"histogram K={categories} eps={EPSILON}"
        ratios[key] = round(float(ratio), 4)
        ci95[key] = (round(float(ratio - half), 4), round(float(ratio + half), 4))
        assert ratio + half >= 1, f"{key}: error below the limit, so epsilon is not kept"
        peers: list[Frequencies] = [
            RandomizedResponse.of(categories, EPSILON),
            UnaryEncoding.of(categories, EPSILON),
        ]
        rows.append(
            (
                key,
                str(mechanism.size),
                f"{ratio:.3f}",
                f"{ratio - half:.3f} to {ratio + half:.3f}",
                f"{post.mean() / limit:.3f}",
                *(f"{float(exact_risk(peer)) / limit:.2f}" for peer in peers),
                f"{microseconds(mechanism):.1f}",
            )
        )
    print(table(rows))
    worst = max(low for low, _ in ci95.values())
    return {"bench": "aggregate", "ratios": ratios, "ci95": ci95, "worst_histogram_ratio": worst}


def limit_of(categories: int) -> Fraction:
    """The smallest squared error there can be for SUBJECTS subjects."""
    odds = exp_below(EPSILON)
    return risk(categories, best_size(categories, odds), odds, SUBJECTS)


def exact_risk(mechanism: Frequencies) -> Fraction:
    """Expected squared error on uniform data, from the mechanism's rates: K c(1-c) / (n (p-q)^2)."""
    k, p, q = mechanism.categories, mechanism.true_rate, mechanism.false_rate
    named = (p + (k - 1) * q) / k
    return k * named * (1 - named) / (SUBJECTS * (p - q) ** 2)


def errors(mechanism: SubsetSelection, rounds: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Squared error of each round: of the unbiased estimate, and of the shares after post-processing."""
    truth = 1 / mechanism.categories
    p, q = float(mechanism.true_rate), float(mechanism.false_rate)
    found: list[tuple[Floats, Floats]] = []
    for size in [100] * (rounds // 100):
        estimates = (named(mechanism, size, rng) / SUBJECTS - q) / (p - q)
        shares = projected(estimates)
        found.append((((estimates - truth) ** 2).sum(axis=1), ((shares - truth) ** 2).sum(axis=1)))
    return np.concatenate([raw for raw, _ in found]), np.concatenate([post for _, post in found])


def named(mechanism: SubsetSelection, rounds: int, rng: np.random.Generator) -> Floats:
    """How many answers name each category, shape [rounds, K]: each subject a fresh uniform value."""
    k, m = mechanism.categories, mechanism.size
    own = rng.integers(k, size=rounds * SUBJECTS)
    order = rng.random((rounds * SUBJECTS, k))
    include = rng.random(rounds * SUBJECTS) < float(mechanism.true_rate)
    order[np.arange(own.size), own] = np.where(include, -1.0, 2.0)  # surely among the m smallest, or not
    chosen = np.argpartition(order, m - 1, axis=1)[:, :m]
    cell = chosen + (np.arange(own.size) // SUBJECTS * k)[:, None]
    return np.bincount(cell.ravel(), minlength=rounds * k).reshape(rounds, k).astype(np.float64)


def projected(estimates: Floats) -> Floats:
    """Each row's nearest non-negative point with sum one, as `sync_server.aggregates.estimate.project`."""
    ranked = -np.sort(-estimates, axis=1)
    shifts = (ranked.cumsum(axis=1) - 1) / np.arange(1, estimates.shape[1] + 1)
    kept = (ranked - shifts > 0).sum(axis=1)
    shift = shifts[np.arange(len(estimates)), kept - 1]
    shares: Floats = np.maximum(estimates - shift[:, None], 0.0)
    return shares


def microseconds(mechanism: SubsetSelection) -> float:
    """Time of one answer on a device, with the operating system's chance."""

    def work() -> None:
        for i in range(500):
            mechanism.randomize(i % mechanism.categories, system_bits)

    work()
    return seconds(work) / 500 * 1e6


if __name__ == "__main__":
    print(json.dumps(run()))
