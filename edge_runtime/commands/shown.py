"""Values as commands print them."""

from __future__ import annotations


def plain(value: object) -> object:
    """A feature's value as JSON can hold it."""
    counts = getattr(value, "counts", None)
    return dict(counts) if counts is not None else value
