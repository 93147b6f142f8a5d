"""The interval of Clopper and Pearson (Biometrika 1934) for a probability that was seen k times in n."""

from __future__ import annotations

from math import exp, lgamma, log


def lower_end(seen: int, runs: int, alpha: float) -> float:
    """The smallest p under which `seen` or more of `runs` is as probable as `alpha`; 0 for none seen."""
    if seen == 0:
        return 0.0
    low, high = 0.0, seen / runs
    for _ in range(60):
        middle = (low + high) / 2
        if at_least(seen, runs, middle) < alpha:
            low = middle
        else:
            high = middle
    return low


def upper_end(seen: int, runs: int, alpha: float) -> float:
    """The largest p under which `seen` or fewer of `runs` is as probable as `alpha`."""
    return 1 - lower_end(runs - seen, runs, alpha)


def at_least(seen: int, runs: int, p: float) -> float:
    """P(Binomial(runs, p) >= seen) for p <= seen / runs, where the terms only fall."""
    if p <= 0:
        return 0.0
    choices = lgamma(runs + 1) - lgamma(seen + 1) - lgamma(runs - seen + 1)
    rest = (runs - seen) * log(1 - p) if seen < runs else 0.0
    term = total = exp(choices + seen * log(p) + rest)
    for k in range(seen, runs):
        term *= (runs - k) / (k + 1) * p / (1 - p)
        total += term
        if term < total * 1e-17:
            break
    return total
