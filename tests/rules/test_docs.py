"""Pages made from code say what the code says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from docs.build import stale
from docs.settings_page import settings_page
from sync_server.settings import Settings


def test_no_generated_page_is_stale() -> None:
    assert stale() == []


def test_every_setting_of_a_server_says_what_it_bounds() -> None:
    rows = [line.split(" | ") for line in settings_page("").splitlines() if line.startswith("| `")]
    assert len(rows) == len(fields(Settings))
    assert [row[0] for row in rows if len(row[2]) < len("a word |")] == []


def test_every_link_between_pages_leads_somewhere() -> None:
    root = Path(__file__).resolve().parents[2]
    pages = [root / "README.md", *(root / "docs").rglob("*.md")]
    links = [(page, to) for page in pages for to in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())]
    local = [(page, to) for page, to in links if "://" not in to]
    assert len(local) > 50
    broken = [(page.name, to) for page, to in local if not (page.parent / to).exists()]
    assert broken == []
