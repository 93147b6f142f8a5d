"""Two sets are the same feature by feature, or every difference is counted under its name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.cli import main
from edge_runtime.errors import MalformedRequest
from edge_runtime.history.parity import compare, parsed

Rows = list[dict[str, Any]]


def one(a: object, b: object, tolerance: float = 0.0) -> dict[str, object]:
    return compare([{"k": 1, "f": a}], [{"k": 1, "f": b}], ["k"], tolerance=tolerance).features["f"].to_dict()


@pytest.mark.parametrize(
    ("a", "b", "counts", "smape"),
    [
        (1.0, 1, "", 0.0),
        (None, 1.0, "missing", None),
        (1.0, math.nan, "extra", None),
        (math.nan, None, "", None),
        (3.0, 1.0, "mismatch", 1.0),
        (0.0, 5.0, "mismatch", 2.0),
        (-1.0, 1.0, "mismatch", 2.0),
        (1e308, -1e308, "mismatch", 2.0),
        (5e-324, 1.5e-323, "mismatch", 1.0),
        (math.inf, 1.0, "mismatch", 2.0),
        (math.inf, math.inf, "", 0.0),
        (2**62 + 1, 2**62, "mismatch", 0.0),
        ("x", "x", "", None),
        ("x", "y", "mismatch", None),
        ("22662", 22662, "", 0.0),
        ("007", 7, "mismatch", None),
        (["a", "b"], ("a", "b"), "", None),
        (["a", "b"], ["b", "a"], "mismatch", None),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "", None),
        ({"a": 1}, {"a": 1, "b": 0}, "mismatch", None),
    ],
)
def test_a_pair_of_values_is_the_same_or_counted_once(
    a: object, b: object, counts: str, smape: float | None
) -> None:
    """None and NaN are no value; numbers by their value, texts, lists and maps whole."""
    found = one(a, b)
    assert {name: found[name] for name in ("mismatch", "missing", "extra")} == {
        name: int(name == counts) for name in ("mismatch", "missing", "extra")
    }
    assert found["smape"] == (pytest.approx(smape) if smape is not None else None)


def test_a_tolerance_is_relative_to_the_larger_and_changes_no_smape() -> None:
    """1 % of 100 is 1: 99 is the same, 98.9 is not."""
    assert one(100.0, 99.0, 0.01)["mismatch"] == 0
    assert one(100.0, 98.9, 0.01)["mismatch"] == 1
    assert one(100.0, 99.0, 0.01)["smape"] == one(100.0, 99.0)["smape"] == pytest.approx(1 / 99.5)


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=30))
def test_smape_is_the_mean_of_its_formula_within_0_and_2(pairs: list[tuple[float, float]]) -> None:
    """As the formula is written, where that does not overflow; the same with the sets in changed places."""
    a, b = ([{"k": n, "f": pair[i]} for n, pair in enumerate(pairs)] for i in (0, 1))
    found, turned = compare(a, b, ["k"], features=["f"]), compare(b, a, ["k"], features=["f"])
    smape = found.features["f"].smape
    assert smape == turned.features["f"].smape
    assert smape is None or 0.0 <= smape <= 2.0
    known = [(x, y) for x, y in pairs if x == x and y == y]
    if known and all(abs(x) + abs(y) < math.inf for x, y in known):
        terms = [abs(x - y) / ((abs(x) + abs(y)) / 2) if x != y else 0.0 for x, y in known]
        assert smape == pytest.approx(sum(terms) / len(terms))
    assert found.features["f"].missing == turned.features["f"].extra


def test_rows_of_one_set_alone_count_for_every_feature_and_a_key_stands_once() -> None:
    """Keys written as text or number are one; a repeated or missing key is named."""
    a: Rows = [{"user": "7", "at": 1.5, "f": 1, "g": None}, {"user": "x", "at": 1, "f": 1}]
    b: Rows = [{"user": 7, "at": "1.5", "f": 1, "h": 2}]
    found = compare(a, b, ["user", "at"])
    assert (found.rows, found.only_a, found.only_b) == (1, 1, 0)
    assert {name: (f.missing, f.extra) for name, f in found.features.items()} == {
        "f": (0, 0),
        "g": (0, 0),
        "h": (1, 0),
    }
    assert found.worst == 1.0
    with pytest.raises(MalformedRequest, match=r"a\[1\]: expected every key once"):
        compare([{"k": 1}, {"k": "1"}], [], ["k"])
    with pytest.raises(MalformedRequest, match=r"b\[0\]: expected a value of key k"):
        compare([], [{"f": 1}], ["k"])


def test_cells_of_a_csv_mean_what_they_write() -> None:
    """Numbers, JSON, true and false; ids with leading zeros stay texts."""
    cells = ["1", "1.5", "007", "[1, 2]", '{"a": 1}', "true", "{no json", "text", None]
    assert [parsed(cell) for cell in cells] == [
        1,
        1.5,
        "007",
        [1, 2],
        {"a": 1},
        True,
        "{no json",
        "text",
        None,
    ]


def test_the_command_says_no_with_1_and_names_the_line_of_a_repeated_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CSV beside JSON Lines; the same, then one number off, then a key twice."""
    rows: Rows = [{"user": "007", "at": n, "sum": n / 3, "items": ["a"], "last": None} for n in range(4)]
    a, b = tmp_path / "a.csv", tmp_path / "b.jsonl"
    a.write_text("user,at,sum,items,last\n" + "".join(f'007,{n},{n / 3},"[""a""]",\n' for n in range(4)))
    b.write_text("\n".join(map(json.dumps, rows)))
    call = ["parity", str(a), str(b), "--keys", "user", "at"]
    assert main([*call, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["same"], said["rows"], said["features"]["sum"]["smape"]) == (True, 4, 0.0)
    rows[3]["sum"] = 1.01
    b.write_text("\n".join(map(json.dumps, rows)))
    assert main(call) == 1
    text = capsys.readouterr().out
    assert "NOT the same" in text
    assert [line.split()[:3] for line in text.splitlines() if line.startswith("sum")] == [["sum", "4", "1"]]
    assert main([*call, "--max-differing", "0.25"]) == 0
    assert main([*call, "--max-differing", "0.25", "--max-smape", "0.001"]) == 1
    assert main([*call, "--tolerance", "0.02"]) == 0
    capsys.readouterr()
    b.write_text(b.read_text() + "\n" + json.dumps(rows[0]))
    assert main(call) == 2
    assert f"{b}:5: expected every key once" in capsys.readouterr().out
