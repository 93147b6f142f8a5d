"""Releases of every kind, made by hand: for what shows, exports or draws them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from edge_runtime.catalog.model import MetricKind
from sync_server.aggregates.release import Release
from sync_server.store.protocol import Store

CLOSED_US = 1_780_003_600_000_000
COMMON: Mapping[str, Any] = {
    "round": "5e" * 16,
    "metric": "spend",
    "min_subjects": 50,
    "epsilon": 1.0,
    "opened_at_us": CLOSED_US - 3_600_000_000,
    "closed_at_us": CLOSED_US,
    "mode": "local",
    "mechanism": "subset_selection",
    "catalog": "shop@3",
}


def released(kind: MetricKind, numbers: Mapping[str, tuple[float, float, float]], **more: Any) -> Release:
    """A release of these numbers, each (low, estimate, high)."""
    shares = {label: max(number[1], 0.0) for label, number in numbers.items()}
    return Release(
        **{
            **COMMON,
            "kind": kind,
            "status": "released",
            "n": 1234,
            "reports": 1234,
            "refused": {},
            "estimate": {label: number[1] for label, number in numbers.items()},
            "ci95": {label: (number[0], number[2]) for label, number in numbers.items()},
            "share": shares if kind == "histogram" else None,
            **more,
        }
    )


def withheld(kind: MetricKind, **more: Any) -> Release:
    """One without numbers."""
    said = {"kind": kind, "status": "withheld", "reason": "fewer than 50 subjects answered"}
    return Release(**{**COMMON, **said, **more})


def publish(store: Store, release: Release) -> None:
    """Let a store say that the open round of this id came to `release`."""
    with store.write("release") as tx:
        id_ = bytes.fromhex(release.round)
        tx.aggregates.add_release(id_, release.metric, release.closed_at_us, msgspec.json.encode(release))
        tx.aggregates.stop_round(id_, release.closed_at_us)
        tx.aggregates.close_round(id_, release.closed_at_us)
