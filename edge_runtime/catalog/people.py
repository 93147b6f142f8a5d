"""The sections that other sections lean on: controller, purposes, notices, entities and events."""

from __future__ import annotations

import re
from datetime import date
from typing import Final, cast

from edge_runtime.catalog.dtype import PLAIN, parse_dtype
from edge_runtime.catalog.duration import UNIT_US, write_duration
from edge_runtime.catalog.model import (
    Basis,
    Controller,
    DType,
    EntityType,
    EventType,
    Notice,
    Purpose,
    Signature,
    Use,
)
from edge_runtime.catalog.section import Section, check_name, shown

BASES: Final = (
    "consent",
    "contract",
    "legal_obligation",
    "vital_interest",
    "public_task",
    "legitimate_interest",
)
USES: Final = ("sale", "share", "targeting")
CONTENT_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
KEY_HEX: Final = re.compile(r"[0-9a-f]{64}")
SIGNATURE_HEX: Final = re.compile(r"[0-9a-f]{128}")
DPV_IRI: Final = re.compile(r"https://w3id\.org/dpv(/[A-Za-z0-9_-]+)*#[A-Za-z0-9_-]+")
DEFAULT_LEASE_US: Final = 24 * UNIT_US["h"]
DEFAULT_KEEP_EVENTS_US: Final = 7 * UNIT_US["d"]


def read_controller(section: Section | None) -> Controller | None:
    """`[controller]`: who it is, how to reach it and its data protection officer, whose law it is under."""
    if section is None:
        return None
    name = section.text("name", required=True)
    contact, dpo = section.text("contact"), section.text("dpo")
    address, jurisdiction = section.text("address"), section.text("jurisdiction")
    section.close()
    return Controller(name or "", contact, dpo, address, jurisdiction)


def read_signature(section: Section | None) -> Signature | None:
    """`[signature]`: whose, of when, and the signature itself; whether it holds is asked elsewhere."""
    if section is None:
        return None
    key = _matching(section, "key", KEY_HEX, "64 hex digits", required=True)
    signature = _matching(section, "signature", SIGNATURE_HEX, "128 hex digits", required=True)
    signed_us = section.integer("signed_at", 0, 2**62, required=True)
    section.close()
    return Signature(bytes.fromhex(key or ""), signed_us or 0, bytes.fromhex(signature or ""))


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
        description=body.text("description"),
        data_categories=body.strings("data_categories") or (),
        recipients=body.strings("recipients") or (),
        transfers=body.strings("transfers") or (),
        uses=_uses(body),
        dpv=_matching(
            body, "dpv", DPV_IRI, "an IRI of the Data Privacy Vocabulary, https://w3id.org/dpv#..."
        ),
    )


def _uses(body: Section) -> tuple[Use, ...]:
    named = body.strings("uses") or ()
    for n, use in enumerate(named):
        if use not in USES:
            place = f"{body.at('uses')}[{n}]"
            body.findings.add(place, f"expected one of {' '.join(USES)}, got {shown(use)}")
    return cast(tuple[Use, ...], tuple(use for use in USES if use in named))


def _matching(
    body: Section, key: str, pattern: re.Pattern[str], expected: str, *, required: bool = False
) -> str | None:
    text = body.text(key, required=required)
    if text is not None and pattern.fullmatch(text) is None:
        body.fault(key, f"expected {expected}, got {shown(text)}")
        return None
    return text


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
    """`[notices.*]`: which purposes a text covered, where it stands and the hash of what it said."""
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
        notices[version] = Notice(
            version=version,
            purposes=covered,
            language=body.text("language"),
            content_hash=_matching(body, "content_hash", CONTENT_HASH, "sha256: and 64 hex digits"),
            title=body.text("title"),
            url=body.text("url"),
            effective=_day(body, "effective"),
        )
        body.close()
    return notices


def _day(body: Section, key: str) -> str | None:
    """A day, as TOML writes dates or as text."""
    if not body.has(key):
        return None
    value = body.raw(key)
    text = value.isoformat() if isinstance(value, date) else value
    try:
        if isinstance(text, str):
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    body.fault(key, f"expected a day such as 2026-11-30, got {shown(value)}")
    return None


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
