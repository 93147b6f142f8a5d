"""`decayed_mean_vector`: the weighted mean of the embeddings of the newest items.

The state is that of `last_n`: the newest n (time, id, item). Embeddings are rows that the server pushes; so
they are looked up at the read; items that have none are left out. Weights are 2^-((T - at) / half_life) with
T the time of the newest item that has an embedding: the mean does not depend on a common factor, and this
choice neither vanishes after a long silence nor moves with the time of the read. Sums run from the oldest to
the newest in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import numpy as np

from edge_runtime.catalog.model import SessionFeature, View
from edge_runtime.session.exact import Floats, exp2
from edge_runtime.session.operators.recent import Entry, Recent
from edge_runtime.session.operators.statistic import Built, Family, needed, stream_of

Resolve = Callable[[str, str], Sequence[float] | Floats | None]
"""From an embedding's reference, as the catalog writes it, and an item's bare id to its vector, or None."""


def decayed_mean(
    entries: Iterable[Entry], half_life_us: int, embedding: str, resolve: Resolve | None
) -> Floats | None:
    """The weighted mean in float64, or None where no item has an embedding."""
    if resolve is None:
        return None
    times_us, rows = [], []
    for at_us, _, item in entries:
        row = resolve(embedding, item)
        if row is not None:
            times_us.append(at_us)
            rows.append(row)
    if not rows:
        return None
    newest_us = times_us[-1]
    weights = np.array([exp2((at_us - newest_us) / half_life_us) for at_us in times_us])
    weighted = np.array(rows, dtype=np.float64) * weights[:, np.newaxis]
    # Running sums, for a plain `sum` adds in pairs; plus 0.0 because a sum that begins at zero is never -0.0.
    total = np.add.accumulate(weighted, axis=0)[-1] + 0.0
    return cast("Floats", total / np.add.accumulate(weights)[-1])


def tail(entries: Sequence[Entry] | Iterable[Entry], n: int) -> list[Entry]:
    """The newest `n` of entries that run from oldest to newest."""
    return list(entries)[-n:]


FUNCTIONS = {"decayed_mean": decayed_mean, "tail": tail}


VECTOR_ITEMS = 32
"""`n` of a decayed_mean_vector that declares none."""


def _decayed_mean_vector(view: View, f: SessionFeature) -> Built:
    n, half_life_us = f.n or VECTOR_ITEMS, needed(view, f, "half_life", f.half_life_us)
    newest, embedding = Recent(stream_of(view, f, valued=True), n), ascii(f.embedding)
    return Built(
        (newest,),
        lambda p: f"decayed_mean(tail(s[{p.base}], {n}), {half_life_us}, {embedding}, resolve)",
    )


FAMILY: Family = {"decayed_mean_vector": _decayed_mean_vector}
