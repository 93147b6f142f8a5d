"""What docs/aggregates.md says of experiments loads, and its hash is ours."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.assignment import arm_of
from sync_server.aggregates.experiments.plan import Design, needed
from tests.support.experiments import shop_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "aggregates.md"
SECTION = PAGE.read_text().partition("\n## Experiments\n")[2].partition("\n## ")[0]


def test_the_example_loads() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", SECTION, re.S)
    declared = Catalog.from_dict({**shop_table(), **tomllib.loads(example)})
    assert declared.experiments["new_ranker"].traffic == 0.5


def test_a_backend_that_copies_the_lines_gives_the_same_arm() -> None:
    lines = next(block for block in re.findall(r"```python\n(.*?)```", SECTION, re.S) if "blake2b" in block)
    experiment = Catalog.from_dict(shop_table()).experiments["new_ranker"]
    for number in range(20):
        names: dict[str, object] = {}
        exec(lines.replace("user:alice", f"user:visitor-{number}"), names)  # noqa: S102 — our own page
        assert names["arm"] == arm_of(experiment, f"user:visitor-{number}")


def test_the_table_of_subjects_is_the_planners() -> None:
    for row in re.findall(r"^\| \d+ %, .*$", SECTION, re.M):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        baseline, uplift = (int(n) / 100 for n in re.findall(r"\d+", cells[0]))
        plans = [needed(Design(baseline, epsilon=epsilon), uplift) for epsilon in ("4", "2", "1", "1/2")]
        said = [int(cell.replace(",", "")) for cell in cells[1:]]
        assert said == [*(plan.subjects for plan in plans), plans[0].in_the_clear]
