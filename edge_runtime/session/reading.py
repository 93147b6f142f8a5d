"""Writes the source by which a view's values are read; `codegen.py` writes how they are updated."""

from __future__ import annotations

from edge_runtime.session.layout import Layout


def reads_source(layout: Layout) -> list[str]:
    """The lines of `values` (all features, in order) and `READS` (one function for each feature)."""
    lines = ["def values(s, t, resolve=None):", "    return ("]
    lines += [f"        {expression}," for expression in layout.reads.values()]
    lines += ["    )", "", "READS = {"]
    lines += [f"    {name!a}: lambda s, t, resolve=None: {e}," for name, e in layout.reads.items()]
    return [*lines, "}"]
