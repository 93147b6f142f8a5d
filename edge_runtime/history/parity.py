"""Whether two sets of feature values say the same: for each feature how many rows differ, and by how much.

The measures are those of Chronon's online-offline consistency job (docs, "Online Offline Consistency"): the
rows of A (served, online) and B (computed, offline) are joined by key; for each feature it counts *mismatch*
(both have a value, not the same), *missing* (B has one, A has none), *extra* (A has one, B has none), and
SMAPE, the symmetric mean absolute percentage error, here from 0 (equal) to 2.

Numbers are equal within the tolerance asked for; texts, lists and maps when they are the same. None and NaN
are no value. A CSV holds only texts: `parsed` says what they mean, and a number beside a text is compared
with the number that the text writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from edge_runtime.errors import MalformedRequest

Row = Mapping[str, object]
Key = tuple[object, ...]
_LARGE = 2.0**1000


@dataclass(slots=True)
class FeatureParity:
    """What was found of one feature."""

    compared: int = 0
    """Rows in both sets."""
    both: int = 0
    """Rows where both have a value."""
    mismatch: int = 0
    missing: int = 0
    extra: int = 0
    numbers: int = 0
    """Rows where both have a number: those that `smape` is the mean of."""
    _error: list[float] = field(default_factory=list)

    @property
    def smape(self) -> float | None:
        """The mean of |a - b| / ((|a| + |b|) / 2) over rows of two numbers, 0 where both are 0; else None.

        Makridakis, "Accuracy measures: theoretical and practical concerns", International Journal of
        Forecasting 9 (1993), as Chronon computes it.

        >>> a, b = [{"k": 1, "f": 1.0}, {"k": 2, "f": 3.0}], [{"k": 1, "f": 1.0}, {"k": 2, "f": 1.0}]
        >>> compare(a, b, ["k"]).features["f"].smape  # (0 + 2 / 2) / 2
        0.5
        """
        return math.fsum(self._error) / self.numbers if self.numbers else None

    @property
    def differing(self) -> int:
        """Rows that do not say the same."""
        return self.mismatch + self.missing + self.extra

    def add(self, mine: object, other: object, tolerance: float) -> None:
        """Take in one row that is in both sets."""
        self.compared += 1
        a, b = _value(mine), _value(other)
        if a is None or b is None:
            self.missing += a is None and b is not None
            self.extra += b is None and a is not None
            return
        self.both += 1
        if isinstance(a, str) != isinstance(b, str):
            a, b = number_of(a), number_of(b)
        if isinstance(a, int | float) and isinstance(b, int | float):
            self.numbers += 1
            if a != b:
                self._error.append(_relative(a, b))
                self.mismatch += not _close(a, b, tolerance)
        else:
            self.mismatch += a != b

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        counts: dict[str, object] = {
            name: getattr(self, name) for name in ("compared", "both", "mismatch", "missing", "extra")
        }
        return {**counts, "smape": self.smape}


@dataclass(frozen=True, slots=True)
class Parity:
    """Two sets compared."""

    features: Mapping[str, FeatureParity]
    rows: int
    """Rows of the same key in both."""
    only_a: int
    only_b: int

    @property
    def worst(self) -> float:
        """The largest share of differing rows, of any feature, counting rows of one set alone for all."""
        alone = self.only_a + self.only_b
        total = self.rows + alone
        return (
            max(((f.differing + alone) / total for f in self.features.values()), default=0.0)
            if total
            else 0.0
        )

    @property
    def smape(self) -> float:
        """The largest SMAPE of any feature; 0 where no numbers were compared."""
        return max((f.smape or 0.0 for f in self.features.values()), default=0.0)


def compare(
    a: Iterable[Row],
    b: Iterable[Row],
    keys: Sequence[str],
    *,
    tolerance: float = 0.0,
    features: Sequence[str] | None = None,
    place: Callable[[str, int], str] = lambda which, number: f"{which}[{number}]",
) -> Parity:
    """Join two sets by `keys` and compare every other column that both know.

    Args:
        tolerance: by how much, relative to the larger magnitude, two numbers may differ; 0: not at all.
        features: only these; None: every column of either set that is no key. One that a row does not
            have is no value there.
        place: how an error names row `number` of set `a` or `b`.

    Raises:
        MalformedRequest: a row without a key, or a key twice in one set.
    """
    mine, theirs = _by_key(a, "a", keys, place), _by_key(b, "b", keys, place)
    names = features
    if names is None:
        names = list(dict.fromkeys(n for rows in (mine, theirs) for r in rows.values() for n in r))
    found = {name: FeatureParity() for name in names if name not in keys}
    shared = [key for key in mine if key in theirs]
    for key in shared:
        for name, parity in found.items():
            parity.add(mine[key].get(name), theirs[key].get(name), tolerance)
    return Parity(found, len(shared), len(mine) - len(shared), len(theirs) - len(shared))


def number_of(value: object) -> object:
    """The number that a text writes exactly as Python would; anything else as it is.

    >>> number_of("1001"), number_of("0.5"), number_of("007")
    (1001, 0.5, '007')
    """
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            if str(kind(value)) == value:
                return kind(value)
        except ValueError:
            continue
    return value


def parsed(text: object) -> object:
    """What a CSV's cell means: a number, a list or map in JSON, true or false, else the text."""
    if isinstance(text, str) and (text[:1] in ("[", "{") or text in ("true", "false")):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    return number_of(text)


def _by_key(
    rows: Iterable[Row], which: str, keys: Sequence[str], place: Callable[[str, int], str]
) -> dict[Key, Row]:
    found: dict[Key, Row] = {}
    for number, row in enumerate(rows):
        missing = [name for name in keys if row.get(name) is None]
        if missing:
            raise MalformedRequest(place(which, number), f"a value of key {missing[0]}", "none")
        key = tuple(_key_of(row[name]) for name in keys)
        if key in found:
            raise MalformedRequest(place(which, number), "every key once", "a key that was there before")
        found[key] = row
    return found


def _key_of(value: object) -> object:
    """A key as both sets write it: the ids 7 and "7" are one, "007" is another."""
    found = number_of(value)
    return found if isinstance(found, str | int | float) else str(found)


def _relative(a: float, b: float) -> float:
    """|a - b| / ((|a| + |b|) / 2); 2 beside an infinity."""
    if math.isinf(a) or math.isinf(b):
        return 2.0
    if max(abs(a), abs(b)) > _LARGE:
        a, b = a / 4, b / 4  # the share is the same and the sum stays finite
    return 2 * abs(a - b) / (abs(a) + abs(b))


def _close(a: float, b: float, tolerance: float) -> bool:
    larger = max(abs(a), abs(b))
    return tolerance > 0 and not math.isinf(larger) and abs(a / 4 - b / 4) <= tolerance * (larger / 4)


def _value(value: object) -> object:
    """None for no value, else the value; tuples as lists."""
    if isinstance(value, float) and value != value:
        return None
    return list(value) if isinstance(value, tuple) else value
