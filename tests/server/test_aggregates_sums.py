"""Curator mode: noise over the sums of kiosks, with intervals that hold for one kiosk and for many."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from edge_runtime.aggregates.mechanisms import STEPS, Question, curator_for
from edge_runtime.aggregates.mechanisms.laplace import laplace_variance
from sync_server.aggregates.estimate import estimates
from sync_server.aggregates.estimators.sums import half_width
from tests.support.answered import drawn
from tests.support.questions import count, curated, histogram, number, quantile


def covers(scale: float, reports: int) -> float:
    """The exact probability that the noise of so many reports is within the half width, by convolution."""
    half = half_width(laplace_variance(Fraction(scale)), reports)
    reach = int(scale * (60 + 4 * reports)) + 50
    steps = np.arange(-reach, reach + 1)
    r = np.exp(-1 / scale)
    one = (1 - r) / (1 + r) * r ** np.abs(steps)
    size = 1 << (2 * len(steps)).bit_length()
    law = np.fft.irfft(np.fft.rfft(np.roll(np.pad(one, (0, size - len(one))), -reach)) ** reports, size)
    whole = int(half)
    return float(law[0] + 2 * law[1 : whole + 1].sum())


@pytest.mark.parametrize("scale", [0.25, 0.5, 1, 2, 4, 8, 30])
@pytest.mark.parametrize("reports", [1, 2, 5, 30])
def test_the_interval_of_a_noised_sum_covers_worked_out_exactly(scale: float, reports: int) -> None:
    """At least 94.9 %. From above only where the noise is not mostly 0: sums are whole numbers."""
    found = covers(scale, reports)
    assert found >= 0.949
    if 2 * scale**2 * reports >= 25:
        assert found <= 0.965


def test_every_kind_is_estimated_from_kiosks_of_production_code() -> None:
    """30 kiosks of 20 subjects at epsilon 4: each interval holds the truth, and the unit is the metric's."""
    rng = random.Random(6)
    people = [[min(7, int(rng.expovariate(0.5))) for _ in range(20)] for _ in range(30)]
    everyone = sorted(value for kiosk in people for value in kiosk)
    grid = STEPS // 8
    cases: list[tuple[Question, int, dict[str, float]]] = [
        (histogram(8, "4"), 1, {f"c{v}": everyone.count(v) / 600 for v in range(8)}),
        (number("mean", "4", low="0", high="8"), grid, {"mean": sum(everyone) / 600}),
        (number("sum", "4", low="0", high="8"), grid, {"sum": sum(everyone)}),
        (
            quantile("4", 8),
            1,
            {"0.1": everyone[59] + 0.5, "0.5": everyone[299] + 0.5, "0.9": everyone[539] + 0.5},
        ),
    ]
    for local, unit, truths in cases:
        question = curated(local)
        curator = curator_for(question)
        tally = [0] * curator.cells
        for kiosk in people:
            for cell, moved in curator.moves(curator.noised([v * unit for v in kiosk], rng.randrange)) or ():
                tally[cell] += moved
        found = estimates(question, tally, 600, 30)
        assert list(found) == list(truths)
        for name, truth in truths.items():
            assert found[name].low <= truth <= found[name].high, (question.kind, name)
        if question.kind == "histogram":
            assert sum(e.share or 0 for e in found.values()) == 1


def test_a_count_of_kiosks() -> None:
    """One cell; the estimate may leave 0 … n, the share does not."""
    found = estimates(curated(count("1")), [-4], 50, 3)["count"]
    assert [found.estimate, found.share] == [-4, 0]
    assert found.variance == 3 * curator_for(curated(count("1"))).variance
    assert found.low < -4 < found.high


@pytest.mark.parametrize(("epsilon", "n", "reports"), [("1/2", 50, 2), ("1", 200, 10), ("4", 2000, 100)])
def test_the_interval_of_a_curated_quantile_covers(epsilon: str, n: int, reports: int) -> None:
    """400 rounds, skewed: every quantile is held in at least 92 %, 2.8 standard errors under 95."""
    question, rng = curated(quantile(epsilon, 16)), np.random.default_rng(12)
    curator = curator_for(question)
    values = np.minimum(rng.exponential(2.0, n).astype(np.int64), 15)
    exact = np.array(_sums(values.tolist(), question.leaves, curator.cells))
    wanted = [int(np.sort(values)[-(-n * tenth // 10) - 1]) for tenth in (1, 5, 9)]
    held = np.zeros(3)
    for noise in drawn(curator, curator.cells, reports, 400, rng):
        found = estimates(question, (exact + noise).tolist(), n, reports).values()
        held += [e.low <= leaf and leaf + 1 <= e.high for e, leaf in zip(found, wanted, strict=True)]
    assert (held / 400 >= 0.92).all(), held


def _sums(values: list[int], leaves: int, cells: int) -> list[int]:
    """The tree's exact sums, by the curator itself in parts it takes."""
    curator = curator_for(curated(quantile("1", leaves)))
    assert curator.cells == cells
    return curator.exact(values)
