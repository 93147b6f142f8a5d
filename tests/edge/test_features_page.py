"""The page for those who write session features: its catalog loads, its code and its commands run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.M | re.S)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page's reader stands: `catalog.toml` and `next.toml` are there."""
    text = "\n".join(blocks("toml"))
    (tmp_path / "catalog.toml").write_text(text)
    (tmp_path / "next.toml").write_text("\n".join([text, *blocks("toml next")]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_catalog_of_the_page_loads_and_answers(folder: Path) -> None:
    """Every view and both services; a runtime over it gives numbers."""
    catalog = er.Catalog.load(folder / "catalog.toml")
    assert [*catalog.services] == ["ranker@1", "ranker@2"]
    with er.Runtime.open(":memory:", catalog=catalog, key=er.KeyMemory()) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        for _ in range(3):
            rt.track("view", user="alice", item="x", price=120.0, category="shoes")
        rt.track("buy", user="alice", item="x", price=30.0, quantity=1)
        row = rt.vector("ranker@1", user="alice", item="x")
        assert row.names[:3] == ("views_5m", "buying:conversion", "visit:depth")
        assert row.values.tolist()[0] == 3.0
        assert row.values.tolist()[4] == 3.0
        assert rt.read("buying:conversion", user="alice").value == 1 / 3
        assert rt.read("buying:band", user="alice").value == 1
        assert rt.read("habits:favourites", user="alice").value == ["shoes"]
        assert rt.vector("ranker", user="alice").values.tolist() == [4.0, 3.0]


def test_the_code_of_the_page_runs(folder: Path) -> None:
    """As written, in a folder with the page's catalog."""
    assert blocks("python")
    for code in blocks("python"):
        exec(compile(code, "docs/features.md", "exec"), {})  # noqa: S102 — our own page


def test_the_commands_of_the_page_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each exits with 0; the plan says what the page says of it."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == 3
    for line in lines:
        program, *arguments = line.split()
        assert (program, main(arguments)) == ("edge-runtime", 0)
    (said,) = [x for x in capsys.readouterr().out.splitlines() if "features.buys_2d" in x]
    assert said.endswith("from the journal, whole at once")
