"""Text as UTF-8, measured without an error that carries the text along.

Python's `UnicodeEncodeError` holds the whole text. Raised from within its `except`, an error of ours would
have it as its context, and a crash report prints contexts.
"""

from __future__ import annotations


def utf8_size(text: str) -> int | None:
    """Bytes of `text` in UTF-8; None for a text that has no such form (a lone surrogate)."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None
