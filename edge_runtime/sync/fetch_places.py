"""What a call of `rt.fetch` asks for, checked against the catalog. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import product
from math import prod
from typing import Final, NamedTuple

from edge_runtime.catalog import Catalog, View
from edge_runtime.errors import MalformedRequest
from edge_runtime.serving.request import check_id
from edge_runtime.wire.printing import prints_only

ROWS_LIMIT: Final = 256
"""Most rows of one request, as of one message on the wire."""
KEY_LIMIT: Final = 2_048
"""Longest key on the wire, in characters."""


@prints_only("view_key", "purpose")
class Place(NamedTuple):
    """One row that is wanted."""

    view_key: str
    parts: tuple[str, ...]
    """Typed ids in the order of the view's entity types."""
    subject: str | None = None
    """The one of `parts` that is a data subject."""
    purpose: str | None = None
    """Of the subject; None for a row about nobody."""

    @property
    def entity(self) -> str:
        """The key as reads name it."""
        return "|".join(self.parts)

    def on_wire(self, token: str) -> str:
        """The key as the server names it, `token` standing for the subject."""
        return "|".join(token if part == self.subject else part for part in self.parts)


def places_of(
    catalog: Catalog, view_name: str, entities: Mapping[str, str | Collection[str]], id_limit_bytes: int
) -> list[Place]:
    """The rows of a request, each once: every id with every other, as `rt.matrix` has them.

    Args:
        view_name: `name`, which means its highest version, or `name@version`.
        entities: entity type -> a bare id, or several.

    Raises:
        MalformedRequest: not a server view that is on demand, another entity type than the view's, no id, a
            malformed one, or more rows than one request may ask for.
    """
    view = catalog.view(view_name)
    subject_at = _subject_at(catalog, view)
    if set(entities) != set(view.entity):
        raise MalformedRequest("entities", " ".join(view.entity), "other entity types")
    several = [_ids(kind, entities[kind], id_limit_bytes) for kind in view.entity]
    count = prod(len(ids) for ids in several)
    if not 0 < count <= ROWS_LIMIT:
        raise MalformedRequest("entities", f"1 to {ROWS_LIMIT} rows in one request", str(count))
    purpose = None if subject_at is None else view.purpose
    places = dict.fromkeys(
        Place(view.key, parts, None if subject_at is None else parts[subject_at], purpose)
        for parts in product(*several)
    )
    if any(len(place.entity) > KEY_LIMIT for place in places):
        raise MalformedRequest("entities", f"keys of at most {KEY_LIMIT} characters", "a longer one")
    return list(places)


def _subject_at(catalog: Catalog, view: View) -> int | None:
    """Where in the view's entity types its data subject stands, once the view may be asked for."""
    if view.source != "server":
        raise MalformedRequest("view", "a server view", f"a {view.source} view")
    if view.tier == "cold":
        raise MalformedRequest("view", "a view of tier warm or hot", "one that never leaves the server")
    places = [n for n, kind in enumerate(view.entity) if catalog.entities[kind].personal]
    if not places:
        return None
    if view.purpose is None or not catalog.purposes[view.purpose].on_disk:
        raise MalformedRequest("view", "a view whose rows may rest here", "one kept in memory only")
    return places[0]


def _ids(kind: str, given: str | Collection[str], limit_bytes: int) -> list[str]:
    """Typed ids."""
    if not isinstance(given, Collection):
        raise MalformedRequest(kind, "an id, or several", type(given).__name__)
    bare = [given] if isinstance(given, str) else list(given)
    if len(bare) > ROWS_LIMIT:
        raise MalformedRequest("entities", f"1 to {ROWS_LIMIT} rows in one request", str(len(bare)))
    for one in bare:
        check_id(kind, one)
        if len(f"{kind}:{one}".encode()) > limit_bytes:
            raise MalformedRequest(kind, f"an id of at most {limit_bytes} bytes", "a longer one")
    return [f"{kind}:{one}" for one in bare]
