"""One row of a publish, checked against its view before anything is read or written. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.model import FieldFeature, View
from edge_runtime.wire import seal
from edge_runtime.wire.printing import prints_only
from edge_runtime.wire.utf8 import utf8_size
from sync_server.devices.authority import Authority
from sync_server.features.values import RowFault, check_value, time_us

FIELDS = frozenset({"entity", "event_time", "values", "deleted", "segments"})
SEGMENT_NAME: Final = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_SEGMENT: Final = re.compile(SEGMENT_NAME)
FUTURE_US = 60_000_000
"""An event time further ahead of the server's clock than this is refused."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one row may be, in bytes."""

    id_bytes: int
    row_bytes: int
    entity_segments: int
    """Most segments of one entity, in items."""


@prints_only("event_time_us", "deleted")
@dataclass(frozen=True, slots=True)
class Incoming:
    """A row that fits its view. From here on a subject is only a pseudonym."""

    entity: str
    """Plain typed id, or with `~token` in place of the subject; the parts of a composite joined by `|`."""
    subject: bytes | None
    event_time_us: int
    deleted: bool
    values: bytes
    """msgpack map; empty for a delete."""
    segments: frozenset[str] | None = None
    """The segments that its entity belongs to from now on; None: as it is."""


@dataclass(frozen=True, slots=True)
class RowCheck:
    """Checks the rows of one publish into one view."""

    catalog: Catalog
    view: View
    authority: Authority
    limits: Limits
    now_us: int

    def check(self, raw: object) -> Incoming:
        """Return the row in `raw`, or raise `RowFault`."""
        if not isinstance(raw, Mapping):
            raise RowFault("wrong_type", "row")
        for field in raw:
            if field not in FIELDS:
                raise RowFault("unknown_field", "row")
        for field in ("entity", "event_time"):
            if field not in raw:
                raise RowFault("missing_field", field)
        entity, subject = self._entity(raw["entity"])
        at_us = time_us(raw["event_time"], "event_time")
        if at_us > self.now_us + FUTURE_US:
            raise RowFault("invalid_time", "event_time")
        deleted = raw.get("deleted", False)
        if not isinstance(deleted, bool):
            raise RowFault("wrong_type", "deleted")
        named = raw.get("segments")
        segments = None if named is None else self._segments(named, subject)
        return Incoming(entity, subject, at_us, deleted, self._payload(raw, deleted), segments)

    def _segments(self, given: object, subject: bytes | None) -> frozenset[str]:
        if subject is not None:
            raise RowFault("personal", "segments")
        if not isinstance(given, list | tuple):
            raise RowFault("wrong_type", "segments")
        if len(given) > self.limits.entity_segments:
            raise RowFault("too_many_segments", "segments")
        return frozenset(segment_name(name) for name in given)

    def _payload(self, raw: Mapping[str, object], deleted: bool) -> bytes:
        if deleted:
            if raw.get("values"):
                raise RowFault("unknown_field", "values")
            return b""
        given = raw.get("values")
        if not isinstance(given, Mapping):
            raise RowFault("missing_field" if given is None else "wrong_type", "values")
        payload = seal.canonical({name: self._value(name, value) for name, value in given.items()})
        if len(payload) > self.limits.row_bytes:
            raise RowFault("too_large", "values")
        return payload

    def _value(self, name: object, value: object) -> object:
        feature = self.view.features.get(name) if isinstance(name, str) else None
        if not isinstance(feature, FieldFeature):
            raise RowFault("unknown_feature", "values")
        return check_value(feature, value)

    def _entity(self, raw: object) -> tuple[str, bytes | None]:
        """The row's key: a typed id, or for a composite view a map of entity type to id."""
        parts = [self._typed(kind, raw) for kind in self.view.entity]
        subjects = [
            self.authority.pseudonym(part)
            for kind, part in zip(self.view.entity, parts, strict=True)
            if self.catalog.entities[kind].personal
        ]
        if len(subjects) > 1:
            raise RowFault("invalid_id", "entity")
        words = [
            seal.subject_token(subjects[0]) if self.catalog.entities[kind].personal else part
            for kind, part in zip(self.view.entity, parts, strict=True)
        ]
        entity = "|".join(words)
        if len(entity.encode()) > self.limits.id_bytes:
            raise RowFault("invalid_id", "entity")
        return entity, (subjects[0] if subjects else None)

    def _typed(self, kind: str, raw: object) -> str:
        if isinstance(raw, Mapping):
            if set(raw) != set(self.view.entity):
                raise RowFault("invalid_id", "entity")
            bare = raw[kind]
        else:
            bare = raw[len(kind) + 1 :] if isinstance(raw, str) and raw.startswith(f"{kind}:") else None
            if len(self.view.entity) != 1:
                raise RowFault("invalid_id", "entity")
        if not isinstance(bare, str) or not bare:
            raise RowFault("invalid_id", "entity")
        return check_id(f"{kind}:{bare}", self.limits.id_bytes)


def check_id(text: str, limit_bytes: int) -> str:
    """Return `text` if it is Unicode of at most `limit_bytes` in UTF-8; raises `RowFault("invalid_id")`."""
    size = utf8_size(text)
    if not size or size > limit_bytes:
        raise RowFault("invalid_id", "entity")
    return text


def segment_name(text: object) -> str:
    """Return `text` if it may name a segment (1 to 64 of `A-Z a-z 0-9 . _ -`); raises `RowFault`."""
    if not isinstance(text, str) or _SEGMENT.fullmatch(text) is None:
        raise RowFault("invalid_segment", "segments")
    return text
