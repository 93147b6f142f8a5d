"""The embeddings that session features are means of: rows that the server pushed, looked up at the read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from edge_runtime.catalog import Catalog, SessionFeature, View
from edge_runtime.serving.binding import group_of
from edge_runtime.serving.encodings import Floats, vector_of
from edge_runtime.serving.groups import Group
from edge_runtime.serving.reads import Missing, Source
from edge_runtime.session.operators.vector import Resolve

VECTORS_HELD = 4096
"""Most embeddings that are held as arrays for one view."""


class EmbeddingPlace(NamedTuple):
    """Where one embedding is found: the rows of a group, by prefix and item, a position in them, a size."""

    group: Group
    prefix: str
    position: int
    size: int


class Embeddings:
    """Where each embedding that a view's features name is found. Live reads and replays ask here alike."""

    def __init__(self, catalog: Catalog, view: View) -> None:
        texts = (f.embedding for f in view.features.values() if isinstance(f, SessionFeature))
        self._places: Mapping[str, EmbeddingPlace] = {
            text: _place(catalog, text) for text in texts if text is not None
        }
        self._vectors: dict[int, tuple[object, Floats]] = {}
        """By the identity of a row's value, which is held too: the same rows are read again and again."""

    @property
    def view_keys(self) -> frozenset[str]:
        """Keys of the server views whose rows are read."""
        return frozenset(place.group.view.key for place in self._places.values())

    @property
    def places(self) -> Mapping[str, EmbeddingPlace]:
        """Where each embedding is found, by its reference as the catalog writes it."""
        return self._places

    def at(self, source: Source, t_us: int) -> Resolve | None:
        """The rows' embeddings as they may be used at `t_us`; None for a view that names none."""
        places = self._places
        if not places:
            return None

        def resolve(embedding: str, item: str) -> Floats | None:
            group, prefix, position, size = places[embedding]
            reading = group.read_entity(source, prefix + item, t_us)
            if isinstance(reading, Missing):
                return None
            return self._vector(reading[position], size)

        return resolve

    def _vector(self, value: object, size: int) -> Floats | None:
        known = self._vectors.get(id(value))
        if known is not None:
            return known[1]
        try:
            vector = vector_of(value, size)
        except ValueError:
            return None
        if len(self._vectors) >= VECTORS_HELD:
            self._vectors.clear()
        self._vectors[id(value)] = value, vector
        return vector


def _place(catalog: Catalog, text: str) -> EmbeddingPlace:
    ref = catalog.ref(text)
    view = catalog.views[ref.view]
    group = group_of(view, catalog.purposes)
    size = view.features[ref.feature].dtype.size or 1
    return EmbeddingPlace(group, f"{group.types[0]}:", group.positions[ref.feature], size)
