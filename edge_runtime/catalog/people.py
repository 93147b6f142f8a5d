"""The sections that other sections lean on: purposes, notices, entities and events."""

from __future__ import annotations

from typing import Final, cast

from edge_runtime.catalog.dtype import PLAIN, parse_dtype
from edge_runtime.catalog.duration import UNIT_US, write_duration
from edge_runtime.catalog.model import Basis, DType, EntityType, EventType, Notice, Purpose
from edge_runtime.catalog.section import Section, check_name, shown

BASES: Final = (
    "consent",
    "contract",
    "legal_obligation",
    "vital_interest",
    "public_task",
    "legitimate_interest",
)
DEFAULT_LEASE_US: Final = 24 * UNIT_US["h"]
DEFAULT_KEEP_EVENTS_US: Final = 7 * UNIT_US["d"]


def read_purposes(section: Section) -> dict[str, Purpose]:
    """`[purposes.*]`: lease defaults to 24h, keep_events to 7d (or the retention, if shorter)."""
    purposes: dict[str, Purpose] = {}
    for name, body in section.tables():
        if check_name(section, name, name, "a purpose name"):
            purposes[name] = _purpose(name, body)
        body.close()
    return purposes


def _purpose(name: str, body: Section) -> Purpose:
    title = body.text("title")
    basis = body.text("legal_basis", required=True, choices=BASES)
    access = body.text("terminal_access", choices=("consent", "strictly_necessary"))
    retention_us = _retention(body)
    return Purpose(
        name=name,
        title=name if title is None else title,
        legal_basis=cast(Basis, basis or "consent"),
        terminal_access="strictly_necessary" if access == "strictly_necessary" else "consent",
        lease_us=_lease(body),
        retention_us=retention_us,
        keep_events_us=_keep_events(body, retention_us),
    )


def _lease(body: Section) -> int:
    lease_us = body.positive_duration("lease")
    ceiling_us = body.findings.limits.lease_us
    if lease_us is not None and lease_us > ceiling_us:
        body.fault("lease", f"expected at most {write_duration(ceiling_us)}, got {shown(body.raw('lease'))}")
    return DEFAULT_LEASE_US if lease_us is None else lease_us


def _retention(body: Section) -> int | None:
    if body.raw("retention") == "session":
        return None
    us = body.positive_duration("retention", required=True)
    return 0 if us is None else us


def _keep_events(body: Section, retention_us: int | None) -> int:
    us = body.duration("keep_events")
    if retention_us is None:
        if us:
            body.fault("keep_events", 'expected none or 0: retention = "session" keeps nothing on disk')
        return 0
    if us is None:
        return min(DEFAULT_KEEP_EVENTS_US, retention_us)
    if retention_us and us > retention_us:
        body.fault(
            "keep_events",
            f"expected at most the retention of {write_duration(retention_us)}, got {write_duration(us)}",
        )
    return us


def read_notices(section: Section, purposes: dict[str, Purpose]) -> dict[str, Notice]:
    """`[notices.*]`: which purposes a text covered, its language and content hash."""
    notices: dict[str, Notice] = {}
    for version, body in section.tables():
        covered = body.strings("purposes", required=True) or ()
        for n, purpose in enumerate(covered):
            if purpose not in purposes:
                section.findings.add(
                    f"{body.at('purposes')}[{n}]", f"expected a declared purpose, got {shown(purpose)}"
                )
        if not version:
            section.fault(None, "expected notices with a version, got an empty one")
        notices[version] = Notice(version, covered, body.text("language"), body.text("content_hash"))
        body.close()
    return notices


def read_entities(section: Section) -> dict[str, EntityType]:
    """`[entities.*]`: kinds of things; `personal = true` makes one a data subject."""
    entities: dict[str, EntityType] = {}
    for name, body in section.tables():
        if check_name(section, name, name, "an entity name", word=True):
            entities[name] = EntityType(name, body.flag("personal", default=False))
        body.close()
    return entities


def read_events(section: Section, entities: dict[str, EntityType]) -> dict[str, EventType]:
    """`[events.*]`: the entities an event must name and the typed properties it may carry."""
    events: dict[str, EventType] = {}
    for name, body in section.tables():
        named = entity_names(body, "entities", entities)
        properties = _properties(body, entities)
        if check_name(section, name, name, "an event name"):
            events[name] = EventType(name, named, properties)
        body.close()
    return events


def entity_names(body: Section, key: str, entities: dict[str, EntityType]) -> tuple[str, ...]:
    """One or more declared entity types, each once, under `key`."""
    if not body.has(key):
        body.fault(key, "missing: expected an entity type or a list of them")
        return ()
    names = body.strings(key, or_one=True)
    if names is None:
        return ()
    if not names:
        body.fault(key, "expected at least one entity type, got an empty list")
    for name in names:
        if name not in entities:
            body.fault(key, f"expected a declared entity type ({' '.join(entities)}), got {shown(name)}")
    return tuple(name for name in names if name in entities)


def _properties(body: Section, entities: dict[str, EntityType]) -> dict[str, DType]:
    table = body.table("properties")
    properties: dict[str, DType] = {}
    for name, _ in table.entries() if table is not None else ():
        assert table is not None
        text = table.text(name)
        if not check_name(table, name, name, "a property name", word=True):
            continue
        if name in entities:
            table.fault(name, "expected a name that no entity type bears: events are given flat")
        dtype = None if text is None else parse_dtype(text)
        if text is not None and (dtype is None or text not in PLAIN):
            table.fault(name, f"expected one of {' '.join(PLAIN)}, got {shown(text)}")
        if dtype is not None:
            properties[name] = dtype
    return properties
