"""Each of the twelve laws is named by at least one test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
LAWS = {
    1: "No permission, no use",
    2: "A withdrawal wins",
    3: "Offline is bounded",
    4: "Erased means unreadable everywhere",
    5: "Nothing personal rests in plain text",
    6: "What was acknowledged survives",
    7: "A value always says what it is",
    8: "Same definition, same number",
    9: "Only aggregates leave",
    10: "The log is the truth; every signal is a hint",
    11: "Bounded everywhere",
    12: "Bad input gets a clear error and changes nothing",
}


@pytest.mark.parametrize("law", LAWS, ids=lambda n: f"{n}-{LAWS[n]}")
def test_every_law_is_named_by_a_test(law: int) -> None:
    pattern = re.compile(rf"def test_law_{law}_\w+\(")
    named = [p for p in TESTS.rglob("test_*.py") if pattern.search(p.read_text())]
    assert named, f"no test is named test_law_{law}_…"
