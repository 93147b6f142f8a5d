"""Derived features: a small closed set of expressions over other features of the same session view.

`ratio` divides the first by the second (NULL when the second is 0); `log1p`, `zscore`, `clip` and `bucketize`
are the encodings of that name. Anything made of NULL is NULL. They may be made of one another, a few deep,
never in a circle.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal, cast

from edge_runtime.catalog.defaults import read_default
from edge_runtime.catalog.encodings import read_arguments
from edge_runtime.catalog.model import DerivedFeature, DType, Feature
from edge_runtime.catalog.section import Section, shown

_MEANINGS: Final = {
    "ratio": ("`of` (two)", "`float64`", "the first over the second; NULL where that is 0"),
    "log1p": ("`of`", "`float64`", "ln(1 + x); NULL at and under -1"),
    "zscore": ("`of` `mean` `std`", "`float64`", "(x - mean) / std"),
    "clip": ("`of`, `low` or `high` or both", "`float64`", "the nearest number from low to high"),
    "bucketize": ("`of` `edges`", "`int64`", "how many of the rising edges lie at or under x"),
}
DERIVED: Final = tuple(_MEANINGS)
_Op = Literal["ratio", "log1p", "zscore", "clip", "bucketize"]
_Derived = Mapping[str, DerivedFeature]


def derived_markdown() -> str:
    """The docs' table of derived features: required keys, result dtype, meaning."""
    lines = ["| operator | required | optional | result | meaning |", "|---|---|---|---|---|"]
    for op, (required, result, meaning) in _MEANINGS.items():
        lines.append(f"| `{op}` | {required} | `default` | {result} | {meaning} |")
    return "\n".join(lines) + "\n"


def read_derived(name: str, op: str | None, body: Section) -> DerivedFeature | None:
    """One derived feature; whether what it is made of fits is asked by `check_derived`."""
    of = body.strings("of", required=True, or_one=True)
    wanted = 2 if op == "ratio" else 1
    if of is not None and len(of) != wanted:
        body.fault("of", f"expected {wanted} feature{'s' * (wanted > 1)} of this view, got {len(of)}")
        of = None
    kind = cast(_Op, op)
    encoding = None if kind == "ratio" else read_arguments(body, kind)
    dtype = DType("int64" if kind == "bucketize" else "float64")
    default = read_default(body, dtype)
    body.close()
    return None if of is None else DerivedFeature(name, kind, of, encoding, dtype, default)


def check_derived(table: Section, declared: Collection[str], features: Mapping[str, Feature]) -> None:
    """Note a fault for every derived feature made of nothing there, of no number, or of itself.

    Args:
        declared: names of all features of the view, those with faults too.
        features: the features that were read.
    """
    derived = {name: f for name, f in features.items() if isinstance(f, DerivedFeature)}
    circular = False
    for name, feature in derived.items():
        for source in feature.of:
            reason = _unfit(source, declared, features)
            if reason is not None:
                table.fault(f"{name}.of", reason)
        circle = _circle(name, derived)
        if circle is not None:
            circular = True
            table.fault(f"{name}.of", f"expected no circle, got {' -> '.join(circle)}")
    if not circular:
        _check_depth(table, derived)


def _check_depth(table: Section, derived: _Derived) -> None:
    """Each is spelled out in the generated code down to what events give: a long chain is a long line."""
    limit, known = table.findings.limits.derived_depth, dict[str, int]()
    for name in derived:
        if _depth(name, derived, known, limit) > limit:
            table.fault(f"{name}.of", f"expected at most {limit} derived features in one chain, got more")


def _unfit(source: str, declared: Collection[str], features: Mapping[str, Feature]) -> str | None:
    """Why `source` is nothing to derive from; None when it is, or has a fault of its own."""
    made_of = features.get(source)
    if made_of is not None:
        return None if made_of.dtype.numeric else f"expected numbers, {source} is {made_of.dtype}"
    if source in declared:
        return None
    return f"expected features of this view ({' '.join(declared)}), got {shown(source)}"


def _circle(name: str, derived: _Derived) -> list[str] | None:
    """The way from a derived feature back to itself, or None."""
    ways, seen = [[name]], {name}
    while ways:
        way = ways.pop()
        feature = derived.get(way[-1])
        for source in () if feature is None else feature.of:
            if source == name:
                return [*way, name]
            if source not in seen:
                seen.add(source)
                ways.append([*way, source])
    return None


def _depth(name: str, derived: _Derived, known: dict[str, int], limit: int) -> int:
    """How many derived features lie in the longest chain down from this one; counted to `limit` + 1."""
    if name not in derived or limit < 0:
        return 0
    if name not in known:
        known[name] = 1 + max(_depth(source, derived, known, limit - 1) for source in derived[name].of)
    return known[name]
