"""A catalog with experiments, for tests."""

from __future__ import annotations

from typing import Any

from edge_runtime.catalog import Catalog

NAME = "new_ranker"
_CONSENT = {"title": "t", "legal_basis": "consent", "lease": "24h", "retention": "30d"}


def experiment_table(**changes: Any) -> dict[str, Any]:
    """One experiment of two arms whose success is a `buy` from the exposure on; None leaves a key out."""
    table: dict[str, Any] = {
        "purpose": "measurement",
        "unit": "user",
        "arms": {"control": 1, "treatment": 1},
        "outcome": {"event": "buy"},
        "epsilon": 4.0,
        "min_subjects": 20,
        **changes,
    }
    return {key: value for key, value in table.items() if value is not None}


def shop_table(**experiments: dict[str, Any]) -> dict[str, Any]:
    """A shop with these experiments, and the purposes and features that they may name."""
    return {
        "catalog": {"name": "shop", "version": 1},
        "purposes": {
            "personalization": _CONSENT,
            "measurement": _CONSENT,
            "visit": {"title": "t", "legal_basis": "consent", "retention": "session"},
        },
        "entities": {"user": {"personal": True}, "guest": {"personal": True}, "item": {}},
        "events": {
            "view": {"entities": ["user", "item"]},
            "buy": {"entities": ["user", "item"], "properties": {"price": "float64"}},
        },
        "views": {
            "activity": {
                "entity": "user",
                "source": "session",
                "purpose": "personalization",
                "ttl": "30d",
                "features": {
                    "buys": {"op": "count", "event": "buy", "window": "7d"},
                    "last_item": {"op": "last", "event": "view", "value": "item"},
                    "price": {"op": "mean", "event": "buy", "value": "price", "default": 1.0},
                },
            },
            "carts": {
                "entity": ["user", "item"],
                "source": "session",
                "purpose": "personalization",
                "ttl": "30d",
                "features": {"buys": {"op": "count", "event": "buy"}},
            },
        },
        "metrics": {
            "buyers": {
                "purpose": "measurement",
                "kind": "histogram",
                "of": "activity:buys",
                "edges": [1.0],
                "epsilon": 1.0,
                "min_subjects": 20,
            }
        },
        "experiments": experiments or {NAME: experiment_table()},
    }


def shop(**experiments: dict[str, Any]) -> Catalog:
    """The catalog of `shop_table`."""
    return Catalog.from_dict(shop_table(**experiments))
