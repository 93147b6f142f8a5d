"""The words that the product says by itself: they name nobody, whatever a test called its subjects."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.leaks.rewriting import PACKAGES

ROOT: Final = Path(__file__).resolve().parents[3]
_WORD: Final = re.compile(r"[\w-]+")


def product_words() -> set[str]:
    """Every word in a text of the product's code; docstrings, which print nothing, are left out."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {word for path in files for text in _texts(path) for word in _WORD.findall(text)}


def _texts(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_bytes())
    loose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in loose:
            yield node.value
