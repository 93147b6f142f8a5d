"""Embeddings out of past rows: the vectors that `Embeddings.at` would tell, with each found and made once."""

from __future__ import annotations

from edge_runtime.serving.embeddings import Embeddings
from edge_runtime.serving.encodings import Floats, vector_of
from edge_runtime.serving.past_rows import Past, PastRows
from edge_runtime.session.operators.vector import Resolve

Known = dict[str, tuple[Past, list[Floats | None]] | None]
"""By item: its rows, and the vector in each."""


class PastVectors:
    """What the embeddings of one view were at any time."""

    def __init__(self, embeddings: Embeddings, rows: PastRows) -> None:
        self._rows = rows
        self._places = embeddings.places
        self._known: dict[str, Known] = {text: {} for text in self._places}

    def at(self, t_us: int) -> Resolve | None:
        """The resolver for `t_us`; None for a view that names no embedding."""
        places, every, newest, rows_of = self._places, self._known, self._rows.newest, self._rows_of
        if not places:
            return None

        def resolve(embedding: str, item: str) -> Floats | None:
            known = every[embedding]
            found = known[item] if item in known else rows_of(embedding, item)
            if found is None:
                return None
            past, vectors = found
            n = newest(past, t_us)
            if n < 0 or places[embedding].group.stale(past.times_us[n], t_us):
                return None
            return vectors[n]

        return resolve

    def _rows_of(self, embedding: str, item: str) -> tuple[Past, list[Floats | None]] | None:
        place = self._places[embedding]
        past = self._rows.past(place.group.view.key, place.prefix + item)
        found = None
        if past is not None:
            names, at = tuple(place.group.view.features), place.position
            found = past, [_vector(row.in_order(names)[at], place.size) for row in past.rows]
        self._known[embedding][item] = found
        return found


def _vector(value: object, size: int) -> Floats | None:
    try:
        return vector_of(value, size)
    except ValueError:
        return None
