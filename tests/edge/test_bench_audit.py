"""The auditor finds planted faults and no others; its intervals are those of Clopper and Pearson."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from fractions import Fraction

import pytest

from bench import __main__, audit
from bench.audited import Audited, every_mechanism, of_cells, of_number, of_sums
from bench.clopper_pearson import lower_end, upper_end
from edge_runtime.aggregates.mechanisms import (
    STEPS,
    Bits,
    DiscreteLaplace,
    Duchi,
    UnaryEncoding,
)
from edge_runtime.aggregates.mechanisms.answer import encode_answer

ONE = Fraction(1)
SCIPY = [
    (0, 10, 0.0, 0.30849710781876294),
    (1, 10, 0.0025285785444625728, 0.44501611702819543),
    (5, 10, 0.1870860284474045, 0.8129139715525955),
    (10, 10, 0.6915028921812371, 1.0),
    (50, 1_000, 0.03733539760466063, 0.06539048791549365),
    (731, 1_000, 0.7023620968226494, 0.7582707605480967),
    (9_999, 10_000, 0.999442963002013, 0.9999974682224367),
    (7_311, 10_000, 0.7222932838620281, 0.7397719423344907),
    (3, 20_000, 3.093467444516009e-05, 0.00043830045341813786),
    (19_000, 20_000, 0.9468884320582844, 0.9529799095357588),
]
"""(seen, runs, ends): `scipy.stats.binomtest(seen, runs).proportion_ci(0.95, "exact")` of SciPy 1.17.1."""


@pytest.mark.parametrize(("seen", "runs", "low", "high"), SCIPY)
def test_the_interval_is_scipys(seen: int, runs: int, low: float, high: float) -> None:
    assert lower_end(seen, runs, 0.025) == pytest.approx(low, rel=1e-8)
    assert upper_end(seen, runs, 0.025) == pytest.approx(high, rel=1e-8)


class FullEpsilonPerBit(UnaryEncoding):
    """A mistake that was published more than once: every bit is flipped as if it were the only one."""

    def randomize(self, value: int, bits: Bits) -> bytes:
        a, b = self.odds.numerator, self.odds.denominator
        named = [c for c in range(self.categories) if bits(a + b) < (a if c == value else b)]
        return encode_answer(named, self.categories)


class HalfTheRange(DiscreteLaplace):
    """Sensitivity taken from the middle of the range: right for adding a subject there, not for replacing."""

    @property
    def sensitivity(self) -> int:
        return DiscreteLaplace.sensitivity.fget(self) // 2  # type: ignore[attr-defined,no-any-return]


class RoundedUp(Duchi):
    """An input at the upper end is never denied: one impossible answer tells it for certain."""

    def randomize(self, value: int, bits: Bits) -> bytes:
        return b"\x01" if value == self.steps else Duchi.randomize(self, value, bits)


def planted() -> Iterator[Audited]:
    unary = FullEpsilonPerBit(8, UnaryEncoding.of(8, ONE).odds)
    yield of_cells("every bit with the whole epsilon", unary, ONE)
    yield of_sums("half the range", HalfTheRange.total(STEPS, ONE), ONE)
    yield of_sums("half a histogram", HalfTheRange.histogram(4, ONE), ONE)
    yield of_number("never denied", RoundedUp.of(STEPS, ONE), ONE)


@pytest.mark.parametrize("broken", list(planted()), ids=lambda audited: audited.name)
def test_a_planted_fault_is_found(broken: Audited) -> None:
    """The lower bound of epsilon lies well above the claim."""
    bound, runs = audit.measured(broken, 4_000, random.Random(1).randrange)
    assert bound > 1.4 * broken.claim
    assert runs == 16_000


@pytest.mark.parametrize("audited", list(every_mechanism()), ids=lambda audited: audited.name)
def test_a_sound_mechanism_passes_and_the_bound_is_not_empty(audited: Audited) -> None:
    """Under the claim, and over half of it: the auditor looks at what tells the inputs apart."""
    bound, _ = audit.measured(audited, 3_000, random.Random(2).randrange)
    assert audited.claim / 2 < bound <= audited.claim


def test_inputs_that_nothing_tells_apart_give_no_bound() -> None:
    blind = Audited("constant", 1.0, lambda side, bits: bytes([bits(2)]), lambda answer: answer)
    assert audit.lower_bound(blind, 2_000, random.Random(3).randrange) < 0.1


def test_the_bench_ends_with_an_error_when_a_bound_is_above_the_claim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, the name in the table and in the last line; 0 when only sound ones are audited."""
    monkeypatch.setattr(audit, "RUNS", 2_000)
    monkeypatch.setattr(audit, "every_mechanism", lambda: list(planted())[:1])
    assert __main__.main(["audit"]) == 1
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert found["failed"] == ["every bit with the whole epsilon"]
    assert found["worst_ratio"] > 1
    assert "every bit with the whole epsilon" in lines[1]
    sound = of_cells("sound", UnaryEncoding.of(8, ONE), ONE)
    monkeypatch.setattr(audit, "every_mechanism", lambda: [sound])
    assert __main__.main(["audit"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["failed"] == []
