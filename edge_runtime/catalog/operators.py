"""The table of session operators: what each needs, takes and gives. Building them is `session/operators/`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ResultRule = Literal["int64", "float64", "of value", "list of value", "counts", "vector"]


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
            "counts": "`map<string,int64>`",
            "vector": "`float64[n]`, size of the embedding",
        }
        return words.get(self.result, f"`{self.result}`")


_ALL: Final = (
    OperatorSpec("count", (), ("window",), "int64", "0", False, "number of events"),
    OperatorSpec("sum", ("value",), ("window",), "float64", "0.0", False, "exact sum of a property"),
    OperatorSpec("last", ("value",), (), "of value", "NULL", True, "value of the newest event"),
    OperatorSpec(
        "last_n", ("value", "n"), (), "list of value", "[]", False, "values of the newest n, oldest first"
    ),
    OperatorSpec(
        "count_by", ("by",), ("window", "max_keys"), "counts", "{}", False, "number of events for each key"
    ),
    OperatorSpec(
        "decayed_count",
        ("half_life",),
        (),
        "float64",
        "0.0",
        False,
        "events, each worth half after a half-life",
    ),
    OperatorSpec("session_count", ("gap",), (), "int64", "0", False, "events of the current session"),
    OperatorSpec("since_last", (), (), "float64", "NULL", True, "seconds since the newest event"),
    OperatorSpec(
        "decayed_mean_vector",
        ("value", "embedding", "half_life"),
        ("n",),
        "vector",
        "NULL",
        True,
        "mean of the embeddings of the newest n ids, weighted by decay",
    ),
)

OPERATORS: Final[dict[str, OperatorSpec]] = {spec.name: spec for spec in _ALL}
"""Every operator a catalog may name, by name."""

ARGUMENTS: Final = ("value", "by", "window", "gap", "half_life", "n", "max_keys", "embedding")
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
