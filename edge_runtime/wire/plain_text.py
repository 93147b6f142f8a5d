"""Text for a terminal or a pipe that cannot take every letter. Pure."""

from __future__ import annotations

from typing import Final

_SIGNS: Final = str.maketrans(
    {
        "●": "*",
        "─": "-",
        "█": "#",
        "┼": "+",
        "│": "|",
        "├": "|",
        "┤": "|",
        "…": "..",
        "±": "+-",
        "·": "-",
        "→": "->",
        "—": "-",
    }
)
"""What our own texts and bars are drawn with. Those in bars stay one column wide."""


def plain(text: str, encoding: str | None) -> str:
    """`text` as it can be printed in `encoding` (None: UTF-8): unchanged, or signs as ASCII, names escaped.

    >>> plain("[1 … 2] ├●┤ Österreich", "ascii")
    '[1 .. 2] |*| \\\\xd6sterreich'
    """
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        known = encoding or "utf-8"
        return text.translate(_SIGNS).encode(known, "backslashreplace").decode(known)
    return text
