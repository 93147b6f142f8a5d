"""Embeddings out of past rows: the vectors that `Embeddings.at` would tell, with each found and made once."""

from __future__ import annotations

from bisect import bisect_right

from edge_runtime.serving.embeddings import Embeddings
from edge_runtime.serving.encodings import Floats, vector_of
from edge_runtime.serving.past_rows import Past, PastRows
from edge_runtime.serving.reads import value_at
from edge_runtime.session.operators.vector import Resolve

Found = tuple[Past, list[Floats | None], int] | None
"""An item's rows, the vector in each, and how long a row holds (microseconds; 0: for ever)."""


class PastVectors:
    """What the embeddings of one view were at any time."""

    def __init__(self, embeddings: Embeddings, rows: PastRows) -> None:
        self._rows = rows
        self._places = embeddings.places
        self._known: dict[str, dict[str, Found]] = {text: {} for text in self._places}

    def at(self, t_us: int) -> Resolve | None:
        """The resolver for `t_us`; None for a view that names no embedding."""
        if not self._places:
            return None
        every, newest, rows_of, as_seen = self._known, self._rows.newest, self._rows_of, self._rows.as_seen

        def resolve(embedding: str, item: str) -> Floats | None:
            known = every[embedding]
            found = known[item] if item in known else rows_of(embedding, item)
            if found is None:
                return None
            past, vectors, ttl_us = found
            times_us = past.times_us
            n = newest(past, t_us) if as_seen else bisect_right(times_us, t_us) - 1
            if n < 0 or (ttl_us and times_us[n] + ttl_us < t_us):
                return None
            return vectors[n]

        return resolve

    def _rows_of(self, embedding: str, item: str) -> Found:
        place = self._places[embedding]
        past = self._rows.past(place.group.view.key, place.prefix + item)
        found: Found = None
        if past is not None:
            names, at = tuple(place.group.view.features), place.position
            vectors = [_vector(value_at(row.in_order(names), at), place.size) for row in past.rows]
            found = past, vectors, place.group.view.ttl_us
        self._known[embedding][item] = found
        return found


def _vector(value: object, size: int) -> Floats | None:
    try:
        return vector_of(value, size)
    except ValueError:
        return None
