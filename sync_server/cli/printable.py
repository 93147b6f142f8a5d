"""Names that somebody chose, as a terminal shows them: nothing moves the cursor, columns stand in line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence


def shown(name: str) -> str:
    """A name without what could move a terminal's cursor or turn its text round."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def columns(text: str) -> int:
    """How many columns of a terminal `text` takes: wide characters two, marks on others none."""
    return sum(_width(c) for c in text)


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """`text` in exactly `width` columns: filled up, at the left if `right`, or cut off with an ellipsis."""
    if columns(text) > width:
        text = _cut(text, width - 1) + "…"
    room = " " * (width - columns(text))
    return room + text if right else text + room


def table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()
) -> str:
    """Rows under titles, each column as wide as its widest cell; those in `right` are flush right.

    >>> print(table(("metric", "n"), [("spend", "7")], right=frozenset({1})))
      metric  n
      spend   7
    """
    held = [titles, *([shown(cell) for cell in row] for row in rows)]
    widths = [max(columns(row[i]) for row in held) for i in range(len(titles))]
    return "\n".join(
        "  "
        + "  ".join(
            fitted(c, w, right=i in right) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in held
    )


def _cut(text: str, width: int) -> str:
    kept, room = "", width
    for c in text:
        room -= _width(c)
        if room < 0:
            break
        kept += c
    return kept


def _width(c: str) -> int:
    if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1
