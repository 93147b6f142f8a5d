"""The page on upkeep names every setting with its default, and its Python runs."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import edge_runtime as er

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "upkeep.md").read_text()


def test_every_setting_is_on_the_page_with_its_default() -> None:
    """And no other."""
    told = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", PAGE, flags=re.M))
    defaults = {field.name: field.default for field in dataclasses.fields(er.Settings)}
    shown = {
        name: f'`"{value}"`' if isinstance(value, str) else f"{value}" for name, value in defaults.items()
    }
    assert told == shown


def test_the_python_of_the_page_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.M | re.S)
    assert blocks
    exec(compile("\n".join(blocks), "upkeep.md", "exec"), {})  # noqa: S102 -- our own page
