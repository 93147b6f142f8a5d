"""The page of a server's settings, made from `sync_server/settings.py`: name, default, what each bounds."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Final

from edge_runtime.catalog.duration import write_duration
from sync_server import settings
from sync_server.cli.overrides import SIZES
from sync_server.settings import Settings

_ABOUT: Final = (
    "Every limit of `edge-sync serve`. Numbers are set with `--set NAME=VALUE`, durations (`_us`) and sizes "
    "(`_bytes`) with a unit: `--set drain_us=20s`. What is no number has an option of its own: `--help`."
)


def settings_page(made: str) -> str:
    """The page; `made` is the line that says whence it comes."""
    return "\n".join([f"# Settings of a server\n\n{made}{_ABOUT}", *_lines()]) + "\n"


def _lines() -> Iterator[str]:
    source = inspect.getsource(settings).splitlines()
    defaults = {field.name: field.default for field in fields(Settings)}
    heading = "Where it is"
    for name, line, text in _documented():
        above = next((source[at] for at in range(line - 2, -1, -1) if source[at].strip()), "")
        if above.startswith("    # "):
            heading = above.removeprefix("    # ")
        if heading:
            yield f"\n## {heading}\n\n| setting | default | |\n|---|---|---|"
            heading = ""
        yield f"| `{name}` | {_shown(name, defaults[name])} | {text} |"


def _documented() -> Iterator[tuple[str, int, str]]:
    """(name, line, docstring) of each field, in the order of the file."""
    (made,) = (node for node in ast.parse(inspect.getsource(settings)).body if isinstance(node, ast.ClassDef))
    for node, after in zip(made.body, [*made.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = " ".join(str(after.value.value).split())
            yield node.target.id, node.lineno, text.replace("|", "\\|")


def _shown(name: str, default: object) -> str:
    match default:
        case _ if default is MISSING or default in (None, "", ()):
            return ""
        case int() if name.endswith("_us"):
            return write_duration(default)
        case int() if name.endswith("bytes"):
            return _size(default)
        case int():
            return str(default)
        case _:
            return f"`{default}`"


def _size(amount: int) -> str:
    for unit, size in reversed(SIZES.items()):
        if amount % size == 0:
            return f"{amount // size}{unit}"
    return str(amount)
