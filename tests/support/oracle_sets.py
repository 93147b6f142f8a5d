"""Operators of sets, counts by key and sessions, worked out slowly; and features that use them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_runtime.catalog.model import SessionFeature
from edge_runtime.session.event import Event

Oracle = Callable[[SessionFeature, Sequence[Event], Sequence[Event], int], object]
"""(feature, its events in order, those that pass `where`, time of the read) to its value."""

FEATURES = ""
"""TOML lines of a session view's features, for `streams.CATALOG`."""

ORACLES: dict[str, Oracle] = {}
