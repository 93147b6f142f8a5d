"""The table of session operators: what each needs, takes and gives. Building them is `session/operators/`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ResultRule = Literal["int64", "float64", "time", "of value", "list of value", "keys", "counts", "vector"]


@dataclass(frozen=True, slots=True)
class OperatorSpec:
    """One operator as catalogs use it. `op` and `event` are always required, `where` and `default` legal."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    result: ResultRule
    """The result's dtype: fixed, or following the dtype of `value`."""
    empty: str
    """What it is when nothing is there, as written in the docs."""
    nullable: bool
    """Whether its value may be NULL although the subject is known."""
    meaning: str

    @property
    def result_text(self) -> str:
        """The result's dtype as written in the docs."""
        words = {
            "of value": "dtype of `value`",
            "list of value": "`list<dtype of value>`",
            "keys": "`list<string>`",
            "counts": "`map<string,int64>`",
            "vector": "`float64[n]`, size of the embedding",
        }
        return words.get(self.result, f"`{self.result}`")


_WINDOW: Final = ("window",)
_ALL: Final = (
    OperatorSpec("count", (), _WINDOW, "int64", "0", False, "number of events"),
    OperatorSpec("sum", ("value",), _WINDOW, "float64", "0.0", False, "exact sum of a number"),
    OperatorSpec("mean", ("value",), _WINDOW, "float64", "NULL", True, "exact mean, rounded once"),
    OperatorSpec("std", ("value",), _WINDOW, "float64", "NULL", True, "standard deviation, dividing by n"),
    OperatorSpec("min", ("value",), _WINDOW, "of value", "NULL", True, "smallest number"),
    OperatorSpec("max", ("value",), _WINDOW, "of value", "NULL", True, "largest number"),
    OperatorSpec("first", ("value",), _WINDOW, "of value", "NULL", True, "value of the oldest event"),
    OperatorSpec("last", ("value",), _WINDOW, "of value", "NULL", True, "value of the newest event"),
    OperatorSpec(
        "last_n",
        ("value", "n"),
        _WINDOW,
        "list of value",
        "[]",
        False,
        "values of the newest n events, oldest first",
    ),
    OperatorSpec(
        "distinct",
        ("value",),
        ("window", "cap"),
        "int64",
        "0",
        False,
        "number of different values: exact up to `cap`, then HyperLogLog",
    ),
    OperatorSpec(
        "count_by", ("by",), ("window", "max_keys"), "counts", "{}", False, "number of events for each key"
    ),
    OperatorSpec(
        "top_n",
        ("by", "n"),
        ("window", "max_keys"),
        "keys",
        "[]",
        False,
        "the n most frequent keys: by count, then key",
    ),
    OperatorSpec("since_last", (), _WINDOW, "float64", "NULL", True, "seconds since the newest event"),
    OperatorSpec("since_first", (), _WINDOW, "float64", "NULL", True, "seconds since the oldest event"),
    OperatorSpec(
        "decayed_count",
        ("half_life",),
        (),
        "float64",
        "0.0",
        False,
        "events, each worth half after a half-life",
    ),
    OperatorSpec(
        "decayed_sum",
        ("value", "half_life"),
        (),
        "float64",
        "0.0",
        False,
        "sum of a number, each part worth half after a half-life",
    ),
    OperatorSpec(
        "decayed_mean_vector",
        ("value", "embedding", "half_life"),
        ("n",),
        "vector",
        "NULL",
        True,
        "mean of the embeddings of the newest n ids, weighted by decay",
    ),
    OperatorSpec("session_count", ("gap",), (), "int64", "0", False, "events of the current session"),
    OperatorSpec(
        "session_sum", ("value", "gap"), (), "float64", "0.0", False, "exact sum over the current session"
    ),
    OperatorSpec(
        "session_distinct",
        ("value", "gap"),
        ("cap",),
        "int64",
        "0",
        False,
        "number of different values in the current session",
    ),
    OperatorSpec(
        "session_duration",
        ("gap",),
        (),
        "float64",
        "0.0",
        False,
        "seconds from the oldest to the newest event of the current session",
    ),
    OperatorSpec(
        "session_start", ("gap",), (), "time", "NULL", True, "time of the current session's oldest event"
    ),
)

OPERATORS: Final[dict[str, OperatorSpec]] = {spec.name: spec for spec in _ALL}
"""Every operator a catalog may name, by name."""

NUMERIC: Final = frozenset({"sum", "mean", "std", "min", "max", "decayed_sum", "session_sum"})
"""Operators whose `value` must be a number."""

ARGUMENTS: Final = ("value", "by", "window", "gap", "half_life", "n", "cap", "max_keys", "embedding")
"""Every key that some operator takes, besides `op event where default`."""


def operators_markdown() -> str:
    """The docs' table of operators: required keys, optional keys, result dtype, empty value, meaning."""
    lines = [
        "| operator | required | optional | result | when nothing is there | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for spec in _ALL:
        required = " ".join(f"`{k}`" for k in ("event", *spec.required))
        optional = " ".join(f"`{k}`" for k in (*spec.optional, "where", "default"))
        cells = (f"`{spec.name}`", required, optional, spec.result_text, f"`{spec.empty}`", spec.meaning)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
