"""Where a row belongs: by its view's tier, its subject, and the segments of its entity. Pure but for `move`.

======================  =========================================================
row                     stands in
======================  =========================================================
tier `warm` or `cold`   no channel: fetched on demand, or never leaving the server
personal                the subject's `<token>/<purpose>`
entity with segments    `segment:<name>` of each
any other               `all`
======================  =========================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_runtime.catalog.model import Tier, View
from edge_runtime.wire import seal
from sync_server.store.channels import SEGMENT as SEGMENT
from sync_server.store.channels import SHARED as SHARED
from sync_server.store.protocol import ReadTx, WriteTx
from sync_server.store.records import RowState


def channels_for(
    tier: Tier, subject: bytes | None, purpose: str | None, segments: Sequence[str]
) -> tuple[str, ...]:
    """The channels in which a row belongs.

    >>> channels_for("hot", None, None, ["gold", "silver"])
    ('segment:gold', 'segment:silver')
    >>> channels_for("warm", None, None, ["gold"])
    ()
    """
    if tier != "hot":
        return ()
    if subject is not None:
        return () if purpose is None else (seal.personal_channel(subject, purpose),)
    return tuple(f"{SEGMENT}{name}" for name in segments) or (SHARED,)


@dataclass(frozen=True, slots=True)
class Placing:
    """Places rows by the tiers of one catalog's views."""

    views: Mapping[str, View]
    """`name@version` -> view."""

    def of_view(self, tx: ReadTx, view: View, entity: str, subject: bytes | None) -> tuple[str, ...]:
        """Where a row of `view` belongs; by the tier in this catalog, if it has that view."""
        view = self.views.get(view.key, view)
        segments = tx.segments_of(entity) if subject is None and view.tier == "hot" else ()
        return channels_for(view.tier, subject, view.purpose, segments)

    def of_row(self, tx: ReadTx, row: RowState) -> tuple[str, ...]:
        """Where a row that stands belongs. One of a view that the catalog lacks is in or out as it was."""
        view = self.views.get(f"{row.view}@{row.version}")
        if view is not None:
            tier = view.tier
        else:
            tier = "hot" if tx.channels_of(row.entity, row.view, row.version) else "warm"
        segments = tx.segments_of(row.entity) if row.subject is None else ()
        return channels_for(tier, row.subject, row.purpose, segments)

    def move_entity(self, tx: WriteTx, entity: str, now_us: int) -> int:
        """Bring every row of an entity to where it belongs; returns how many rows were looked at."""
        rows = tx.rows_of_entity(entity)
        for row in rows:
            tx.move_row(row, self.of_row(tx, row), now_us)
        return len(rows)
