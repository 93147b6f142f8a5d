"""Figures of a run: percentiles, and a histogram whose bars a person can read. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

BAR = "▏▎▍▌▋▊▉█"


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all are not above (nearest rank); NaN of nothing.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5)
    2.0
    """
    if not sorted_values:
        return math.nan
    return sorted_values[max(0, math.ceil(share * len(sorted_values)) - 1)]


def summary(values: Sequence[float]) -> dict[str, float | int | None]:
    """Count, median, p90, p99 and maximum; None where there is nothing."""
    ordered = sorted(values)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    found = {name: round(percentile(ordered, s), 3) if ordered else None for name, s in shares.items()}
    return {"count": len(ordered), **found}


def buckets(values: Sequence[float], most: int = 14) -> list[tuple[float, float, int]]:
    """(from, to, count) in steps of 1, 2, 5 · 10^n, from the smallest value to the largest.

    >>> buckets([1.5, 3.0, 3.5])
    [(1.0, 2.0, 1), (2.0, 5.0, 2)]
    """
    positive = [max(v, 1e-3) for v in values]
    if not positive:
        return []
    edges = [10.0**e * f for e in range(-3, 9) for f in (1, 2, 5)]
    low = max(i for i, edge in enumerate(edges) if edge <= min(positive))
    high = next(i for i, edge in enumerate(edges) if edge > max(positive))
    low = max(low, high - most)
    counted = [(a, b, 0) for a, b in zip(edges[low:high], edges[low + 1 : high + 1], strict=True)]
    for value in positive:
        place = max(0, sum(value >= a for a, _, _ in counted) - 1)
        a, b, count = counted[place]
        counted[place] = (a, b, count + 1)
    return counted


def bar(count: int, most: int, width: int) -> str:
    """A bar of `count` where `most` is `width` columns wide; something is never drawn as nothing.

    >>> bar(4, 8, 10), bar(0, 8, 10)
    ('█████', '')
    """
    eighths = 0 if not count else max(1, round(count / most * width * 8))
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (BAR[rest - 1] if rest else "")


def histogram(values: Sequence[float], unit: str, width: int = 40) -> list[str]:
    """The lines of a histogram, one a bucket, with counts and the share so far."""
    counted = buckets(values)
    most = max((count for _, _, count in counted), default=0)
    lines, so_far = [], 0
    for low, high, count in counted:
        so_far += count
        share = 100 * so_far / len(values)
        label = f"{_short(low)}–{_short(high)} {unit}"
        lines.append(f"{label:>18}  {bar(count, most, width):<{width}} {count:>7}  {share:5.1f} %")
    return lines


def _short(value: float) -> str:
    return f"{value:g}" if value < 10_000 else f"{value / 1000:g}k"
