"""What becomes of one row of a channel: kept, kept as a stub, or deleted; pure, with its reason.

A row that may not be kept is not an error: it becomes a stub (its hash without its values), so that the
channel's digest still adds up. One that must never stand in its channel refuses the whole frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from edge_runtime.catalog.declared import in_range, listed
from edge_runtime.catalog.dtype import fits
from edge_runtime.catalog.model import CatalogModel, FieldFeature, View
from edge_runtime.sync.channel_name import Channel, Personal
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.printing import prints_only

ROWS: Final[Mapping[str, str]] = {
    "another grant": "stub: a personal row of another grant than the live one",
    "unknown view": "stub: the catalog has no such view from a server",
    "does not fit": "kept without the features that the catalog does not know, or whose dtype, range or "
    "allowed values it breaks; of those reads say NULL, or their default",
    "deleted": "deleted here too",
}
"""Reason -> what becomes of a row that is not simply kept."""


class Action(StrEnum):
    """What becomes of one row."""

    KEEP = "keep"
    STUB = "stub"
    """Remember its hash for the digest, nothing of what it says."""
    DELETE = "delete"


@prints_only("action", "reason")
@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one row, and why. `values` is what to keep: only features that fit the catalog."""

    action: Action
    values: bytes
    reason: str


def judge(row: m.Row, channel: Channel, catalog: CatalogModel, grant: int) -> Verdict:
    """Decide about one row of `channel`, whose permission was asked before.

    Args:
        grant: ledger seq of the live grant of a personal channel's key; 0 for a shared channel, or for a key
            that the ledger has not numbered yet.

    Raises `WireFailure("no_permission")` for a row that must never stand in this channel: personal data in a
    shared one, another subject's, or another purpose's. The whole delta is then refused.
    """
    view = catalog.views.get(f"{row.view}@{row.version}")
    if isinstance(channel, Personal):
        _check_personal(row, channel, view)
        if grant == 0 or row.grant != grant:  # law 2: what an older grant let in stays out
            return Verdict(Action.STUB, b"", "another grant")
    else:
        _check_plain(row, catalog, view)
    if row.deleted:
        return Verdict(Action.DELETE, b"", "deleted")
    if view is None or view.source != "server":
        return Verdict(Action.STUB, b"", "unknown view")
    values, dropped = kept_values(view, row.values)
    return Verdict(Action.KEEP, values, "does not fit" if dropped else "")


def _check_personal(row: m.Row, channel: Personal, view: View | None) -> None:
    if channel.token not in row.entity.split("|"):
        raise WireFailure("no_permission", "a row of another subject in a personal channel")
    if view is not None and view.purpose != channel.purpose:
        raise WireFailure("no_permission", "a row of another purpose in a personal channel")


def _check_plain(row: m.Row, catalog: CatalogModel, view: View | None) -> None:
    kind = row.entity.partition(":")[0]
    types = (kind,) if view is None else (kind, *view.entity)
    personal = any(t in catalog.entities and catalog.entities[t].personal for t in types)
    if row.entity.startswith("~") or row.grant != 0 or personal:
        raise WireFailure("no_permission", "a personal row in a shared channel")


def kept_values(view: View, raw: bytes) -> tuple[bytes, int]:
    """The part of a row's values that fits `view`, and how many features were dropped.

    A feature fits by its dtype, its range and its allowed values, as it does at the server's door: a row of
    another catalog may break any of them.

    >>> from edge_runtime.catalog.model import DType
    >>> features = {"age": FieldFeature("age", DType("int64"))}
    >>> view = View("p", 1, ("item",), "server", None, 0, "me", "hot", 0, 0, features)
    >>> kept_values(view, codec.pack({"age": "seven"}))
    (b'\\x80', 1)
    """
    try:
        values = codec.unpack(raw, codec.FRAME_LIMIT_BYTES)
    except WireFailure:
        return codec.pack({}), 1
    if not isinstance(values, dict):
        return codec.pack({}), 1
    kept = {name: value for name, value in values.items() if _value_fits(view, name, value)}
    dropped = len(values) - len(kept)
    return (raw if dropped == 0 else codec.pack(kept)), dropped


def _value_fits(view: View, name: str, value: object) -> bool:
    feature = view.features.get(name)
    if not isinstance(feature, FieldFeature):
        return False
    return value is None or (
        fits(feature.dtype, value) and listed(feature, value) and in_range(feature, value)
    )
