"""The bench of a report's cost measures what the page says: sizes hold for every local kind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import report_cost

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "aggregates.md").read_text()


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[report_cost.Cost]:
    monkeypatch.setattr(report_cost, "ROUNDS", 1)
    monkeypatch.setattr(report_cost, "REPEATS", 1)
    return report_cost.report_costs()


def test_reports_of_every_local_kind_are_of_one_size_and_the_page_says_which(
    rows: list[report_cost.Cost],
) -> None:
    """Bytes of answer, sealed report, frame and rest, in the order of the page's table."""
    told = re.findall(
        r"^\| [^|]+ \| ([\d,]+) B \| ([\d,]+) B \| ([\d,]+) B \| ([\d,]+) B \|", PAGE, flags=re.M
    )
    sizes = [(r.answer_bytes, r.sealed_bytes, r.frame_bytes, r.stored_bytes) for r in rows]
    assert [tuple(int(size.replace(",", "")) for size in row) for row in told] == sizes
    local = [row for row in rows if row.subjects == 1]
    assert len(local) == 5
    assert {(row.sealed_bytes, row.frame_bytes) for row in local} == {(176, 226)}
    assert all(min(r.draw_us, r.seal_us, r.rest_us, r.alone_us, r.each_us) > 0 for r in rows)
