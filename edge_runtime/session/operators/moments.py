"""`mean` and `std`: from three integers, each exact, with one division.

With n values of u units (2^-60 each), S1 the sum of u and S2 the sum of u * u:

    mean = S1 / (n * 2^60)            variance = (n * S2 - S1^2) / (n^2 * 2^120)

(the variance that divides by n: the mean of squares less the square of the mean). In floats that difference
cancels to nonsense when the values lie far from 0, which is what Welford's method is for. In integers it does
not: the division rounds once, to the nearest float, and the square root once more. So equal values deviate by
exactly 0.0, whatever their size, and no order of arrival, split or merge changes a bit. The integers may be
shared with `sum`; only events that carry the value are counted.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_runtime.catalog.model import SessionFeature, View
from edge_runtime.session.exact import UNIT_BITS, sqrt
from edge_runtime.session.operators.statistic import Built, Family, Placed, frame_of, stream_of
from edge_runtime.session.operators.tally import Tally, read_tally


def mean_of(n: int, total: int) -> float | None:
    """The mean of `n` values that sum to `total` units of 2^-60; None where there are none.

    Two values with a sum of 3: `mean_of(2, 3 << 60)` is 1.5.
    """
    return total / (n << UNIT_BITS) if n else None


def std_of(n: int, total: int, squares: int) -> float | None:
    """The standard deviation of `n` values from their sum in units and that of their squares; None of none.

    The values 1 and 4: `std_of(2, (1 + 4) << 60, (1 + 16) << 120)` is 1.5.
    """
    if not n:
        return None
    # Never under 0 for the same values. While a later catalog's squares are WARMING, they lack older ones.
    spread = max(0, n * squares - total * total)
    return sqrt(spread / (n * n << 2 * UNIT_BITS))


FUNCTIONS = {"mean_of": mean_of, "std_of": std_of}


def _mean(view: View, f: SessionFeature) -> Built:
    stream, frame = stream_of(view, f, valued=True), frame_of(f)
    return Built((Tally(stream, frame, "one"), Tally(stream, frame, "units")), _call("mean_of"))


def _std(view: View, f: SessionFeature) -> Built:
    stream, frame = stream_of(view, f, valued=True), frame_of(f)
    tallies = Tally(stream, frame, "one"), Tally(stream, frame, "units"), Tally(stream, frame, "squares")
    return Built(tallies, _call("std_of"))


def _call(function: str) -> Callable[..., str]:
    def read(*placed: Placed) -> str:
        return f"{function}({', '.join(map(read_tally, placed))})"

    return read


FAMILY: Family = {"mean": _mean, "std": _std}
