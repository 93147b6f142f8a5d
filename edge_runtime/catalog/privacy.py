"""The privacy part of a catalog: what a privacy team answers for, apart from what features are made. Pure.

It is the controller, purposes, notices, which entity types are people, the bounds of metrics, and which views
rest on a purpose that asks nobody: everything by which processing could be widened without a subject saying
so. Its fingerprint names it; a second key, never on the sync server, signs it (`signed.py`).
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from edge_runtime.catalog.document import Catalog
from edge_runtime.catalog.model import CatalogModel, Metric
from edge_runtime.catalog.render import (
    Table,
    controller_table,
    metric_table,
    notice_table,
    purpose_table,
)

METRIC_KEYS: Final = ("purpose", "kind", "epsilon", "min_subjects", "window")
"""What a metric's privacy rests on; which feature it counts is the feature team's."""


def privacy_part(catalog: Catalog) -> Table:
    """The privacy part as nested dicts and lists; JSON-able, every default written out."""
    model = catalog.model
    return {
        "catalog": model.name,
        "controller": None if model.controller is None else controller_table(model.controller),
        "purposes": {k: purpose_table(p) for k, p in model.purposes.items()},
        "notices": {k: notice_table(n) for k, n in model.notices.items()},
        "people": sorted(e.name for e in model.entities.values() if e.personal),
        "metrics": {k: _bounds(m) for k, m in model.metrics.items()},
        "unasked": _unasked(model),
    }


def canonical_part(catalog: Catalog) -> bytes:
    """The one byte string of a privacy part: JSON in UTF-8, keys sorted, no blanks."""
    text = json.dumps(privacy_part(catalog), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def privacy_fingerprint(part: bytes) -> bytes:
    """SHA-256 of a canonical privacy part: 32 bytes, as `sha256sum` gives them."""
    return hashlib.sha256(part).digest()


def _bounds(metric: Metric) -> Table:
    whole = metric_table(metric)
    return {key: whole[key] for key in METRIC_KEYS}


def _unasked(model: CatalogModel) -> Table:
    """purpose -> views that it feeds without asking anybody."""
    silent = [p.name for p in model.purposes.values() if not p.asks]
    return {name: sorted(v.key for v in model.views.values() if v.purpose == name) for name in silent}
