"""The privacy part of a catalog: what a privacy team answers for, apart from what features are made. Pure.

It is the controller, purposes, notices, which entity types are people, the bounds of metrics, and which views
rest on a purpose that asks nobody: everything by which processing could be widened without a subject saying
so. Its fingerprint names it; a second key, never on the sync server, signs it (`signed.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from edge_runtime.catalog.document import Catalog
from edge_runtime.catalog.feature_table import Table
from edge_runtime.catalog.hidden import is_hidden
from edge_runtime.catalog.model import CatalogModel, Metric, View
from edge_runtime.catalog.render import (
    controller_table,
    metric_table,
    notice_table,
    purpose_table,
)

METRIC_KEYS: Final = ("purpose", "kind", "read", "epsilon", "min_subjects", "window", "mode")
"""What a metric's privacy rests on, and `of` where it is declared in place: then events are kept for it that
nothing else keeps. Which declared feature it counts is the feature team's, for its purpose is asked as well;
so are bounds, categories and mechanism, for none of them costs a subject more than epsilon.

Only where a subject without a value does not take part (`takes_part`), asking for a ticket tells without any
noise that there is one: then `of` and `values`, which say of what, are signed too."""


def privacy_part(catalog: Catalog) -> Table:
    """The privacy part as nested dicts and lists; JSON-able, every default written out."""
    model = catalog.model
    return {
        "catalog": model.name,
        "controller": None if model.controller is None else controller_table(model.controller),
        "purposes": {k: purpose_table(p) for k, p in model.purposes.items()},
        "notices": {k: notice_table(n) for k, n in model.notices.items()},
        "people": sorted(e.name for e in model.entities.values() if e.personal),
        "metrics": {k: _bounds(m, model.views) for k, m in model.metrics.items()},
        "unasked": _unasked(model),
    }


def canonical_part(catalog: Catalog) -> bytes:
    """The one byte string of a privacy part: JSON in UTF-8, keys sorted, no blanks."""
    text = json.dumps(privacy_part(catalog), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def privacy_fingerprint(part: bytes) -> bytes:
    """SHA-256 of a canonical privacy part: 32 bytes, as `sha256sum` gives them."""
    return hashlib.sha256(part).digest()


def _bounds(metric: Metric, views: Mapping[str, View]) -> Table:
    whole = metric_table(metric, views)
    in_place = {"of": whole["of"]} if is_hidden(views[metric.of.view]) else {}
    exposures = {"experiment": True} if metric.experiment is not None else {}
    told = {} if metric.all_answer else {key: whole[key] for key in ("of", "values") if key in whole}
    part = {"takes_part": "all" if metric.all_answer else "valued"}
    return {key: whole[key] for key in METRIC_KEYS} | in_place | exposures | part | told


def _unasked(model: CatalogModel) -> Table:
    """purpose -> views that it feeds without asking anybody."""
    silent = [p.name for p in model.purposes.values() if not p.asks]
    return {name: sorted(v.key for v in model.views.values() if v.purpose == name) for name in silent}
