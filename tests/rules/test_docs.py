"""Pages made from code say what the code says."""

from __future__ import annotations

from dataclasses import fields

from docs.build import stale
from docs.settings_page import settings_page
from sync_server.settings import Settings


def test_no_generated_page_is_stale() -> None:
    assert stale() == []


def test_every_setting_of_a_server_says_what_it_bounds() -> None:
    rows = [line.split(" | ") for line in settings_page("").splitlines() if line.startswith("| `")]
    assert len(rows) == len(fields(Settings))
    assert [row[0] for row in rows if len(row[2]) < len("a word |")] == []
