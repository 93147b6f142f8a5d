"""A terminal that cannot take every letter gets others instead, and never a traceback."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.cli import main as edge_runtime
from edge_runtime.wire.plain_text import plain
from sync_server.cli import main as edge_sync

MEASURED = Path(__file__).resolve().parents[2] / "examples" / "catalogs" / "measured.toml"
ENCODINGS = st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8", None])


@given(st.text(st.characters(exclude_categories=["Cs"])), ENCODINGS)
def test_whatever_the_terminal_takes_it_can_be_printed(text: str, encoding: str | None) -> None:
    """Unchanged where it could be before."""
    found = plain(text, encoding)
    found.encode(encoding or "utf-8")
    if encoding in ("utf-8", None) or text.isascii():
        assert found == text


@given(st.text("●─█┼│├┤ ", min_size=1))
def test_a_bar_keeps_its_columns(bar: str) -> None:
    assert len(plain(bar, "ascii")) == len(bar)


def test_a_name_is_escaped_and_signs_are_drawn_otherwise() -> None:
    assert plain("日 ± 2 … 3", "ascii") == "\\u65e5 +- 2 .. 3"


def test_both_commands_speak_to_an_ascii_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    catalog = tmp_path / "Läden.toml"
    catalog.write_text(MEASURED.read_text().replace('"DE"', '"Österreich"'))
    for main, words in (
        (edge_sync, ["aggregates", "plan", "spend", "--catalog", str(catalog)]),
        (edge_runtime, ["plan", str(catalog), str(catalog)]),
        (edge_runtime, ["plan", str(catalog), str(tmp_path / "Öde.toml")]),
    ):
        out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr(sys, "stdout", out)
        main(words)
        assert out.tell() > 0
