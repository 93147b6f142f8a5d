"""The docs' table of operators is made from the table that the catalog is checked with."""

from __future__ import annotations

from edge_runtime.catalog.duration import parse_duration, write_duration
from edge_runtime.catalog.operators import ARGUMENTS, OPERATORS, operators_markdown


def test_every_operator_has_a_line_in_the_docs_table() -> None:
    """One line an operator, each with six cells: required, optional, result, empty value, meaning."""
    heading, rule, *lines = operators_markdown().splitlines()
    assert len(lines) == len(OPERATORS)
    assert {line.count("|") for line in (heading, rule, *lines)} == {7}
    for spec, line in zip(OPERATORS.values(), lines, strict=True):
        assert line.startswith(f"| `{spec.name}` | `event`")
        assert f"| `{spec.empty}` |" in line


def test_operators_take_only_known_arguments() -> None:
    """Every required and optional key of an operator is one that the catalog reads."""
    for spec in OPERATORS.values():
        assert set(spec.required) | set(spec.optional) <= set(ARGUMENTS)
        assert not set(spec.required) & set(spec.optional)


def test_durations_are_whole_numbers_with_a_unit() -> None:
    """What is written reads back; what is no duration is None, never a guess."""
    for text, us in (("250ms", 250_000), ("5m", 300_000_000), ("30d", 2_592_000_000_000), ("0s", 0), (0, 0)):
        assert parse_duration(text) == us
        assert parse_duration(write_duration(us)) == us
    for bad in ("5 m", "5", "m", "-5m", "1.5h", "5M", "٥m", "", 5, 0.0, True, None, ["5m"], "9" * 30 + "s"):
        assert parse_duration(bad) is None
