"""Pages made from code say what the code says."""

from __future__ import annotations

from docs.build import stale


def test_no_generated_page_is_stale() -> None:
    assert stale() == []
