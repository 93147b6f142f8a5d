"""Catalogs as version 1 of the store kept them, brought to what they meant.

There a tier meant nothing: every view was pushed, and one that named no tier was written down as `warm`.
Taken by its word today, such a catalog would stop pushing. So its warm views become hot: what they were.
"""

from __future__ import annotations

import msgspec

from edge_runtime.catalog import Catalog, CatalogError


def pushed(document: bytes) -> bytes:
    """The document with every warm view hot. What does not load stays as it is."""
    try:
        table = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
        views = msgspec.json.decode(table["views"], type=dict[str, dict[str, object]])
        for view in views.values():
            if view.get("tier") == "warm":
                view["tier"] = "hot"
        made = msgspec.json.encode({**table, "views": views})
        return msgspec.json.encode(Catalog.from_dict(msgspec.json.decode(made)).to_dict())
    except (msgspec.MsgspecError, KeyError, CatalogError):
        return document


def fingerprint(document: bytes, before: str) -> str:
    """The fingerprint of a document; the one it had `before` where it does not load."""
    try:
        return Catalog.from_dict(msgspec.json.decode(document)).fingerprint
    except (msgspec.MsgspecError, CatalogError):
        return before
