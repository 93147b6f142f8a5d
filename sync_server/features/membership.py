"""Belonging to segments: what may be a member, and the change of one entity."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from edge_runtime.catalog.model import EntityType
from sync_server.features.incoming import check_id
from sync_server.features.values import RowFault
from sync_server.settings import Settings
from sync_server.store.protocol import ReadTx, WriteTx


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """Counts in items."""

    segments: int
    """Most segments."""
    members: int
    """Most entities in one segment."""
    entity_segments: int
    """Most segments of one entity."""

    @classmethod
    def of(cls, settings: Settings) -> SegmentLimits:
        """Those of a server."""
        return cls(settings.segments, settings.segment_members, settings.entity_segments)


def member_id(
    text: object, entities: Mapping[str, EntityType], limit_bytes: int, *, going: bool = False
) -> str:
    """Return `text` if it may belong to a segment: a row's key of entities that are not personal.

    A plain id `item:85123A`, or for a composite view its parts joined by `|` in the view's order. What is
    `going` may be any id: an earlier catalog, of other entities, may have let it in.

    Raises `RowFault`: `invalid_id`, or `personal` when any part of it is of a personal type.
    """
    if not isinstance(text, str):
        raise RowFault("wrong_type", "entity")
    if going:
        return check_id(text, limit_bytes)
    kinds = [part.partition(":")[0] for part in text.split("|")]
    if any(kind in entities and entities[kind].personal for kind in kinds):
        raise RowFault("personal", "entity")
    kind, colon, bare = text.partition(":")
    if not colon or not bare or kind not in entities:
        raise RowFault("invalid_id", "entity")
    return check_id(text, limit_bytes)


def refusal(
    tx: ReadTx, held: Collection[str], joined: Collection[str], parted: Collection[str], limits: SegmentLimits
) -> str | None:
    """Why an entity of segments `held` may not join some and part from others; None when it may."""
    after = (set(held) | set(joined)) - set(parted)
    if len(after) > limits.entity_segments:
        return "too_many_segments"
    new = [name for name in joined if name not in held]
    sizes = [tx.segment_size(name) for name in new]
    if any(size >= limits.members for size in sizes):
        return "segment_full"
    if 0 in sizes and tx.count_segments() + sizes.count(0) > limits.segments:
        return "too_many_segments"
    return None


def change_segments(
    tx: WriteTx, entity: str, joined: Collection[str], parted: Collection[str], now_us: int
) -> bool:
    """Let an entity join and part from segments; whether that changed anything. Its rows are to be moved."""
    changed = [tx.join_segment(entity, name, now_us) for name in sorted(joined)]
    changed += [tx.part_segment(entity, name, now_us) for name in sorted(parted)]
    return any(changed)
