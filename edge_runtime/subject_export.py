"""All that this device holds on one subject, as plain values: for the subject's own eyes (Art. 15, 20).

Each purpose is judged by itself. Where permission stands, or is only restricted, all that hangs on its key is
opened; where it does not, the export says why, and there is nothing to open after an erasure in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from edge_runtime.cache.database import Database
from edge_runtime.cache.journal_entry import JournalEntry, open_entries
from edge_runtime.cache.records import LET_GO
from edge_runtime.catalog import Catalog, View
from edge_runtime.consent.decisions import Consents
from edge_runtime.keys.datakey import DataKey
from edge_runtime.keys.keyring import Keyring
from edge_runtime.serving.plain import plain
from edge_runtime.serving.value import FeatureValue
from edge_runtime.sync.personal_rows import open_delivered, stand_slot
from edge_runtime.wire import codec

Plain = dict[str, Any]
Read = Callable[[str, str], FeatureValue]
"""`read(ref, typed subject)`, judged now."""


def export_subject(
    subject: str, catalog: Catalog, keyring: Keyring, database: Database, consents: Consents, read: Read
) -> Plain:
    """What is held on a typed subject, purpose by purpose; JSON-able, times in microseconds since 1970."""
    keys = {key.purpose: key for key in keyring.keys_of(subject)}
    decided = {record.purposes[0]: record for record in consents.records(subject)}
    purposes: Plain = {}
    for name in sorted({*catalog.purposes, *keys, *decided}):
        declared, record = catalog.purposes.get(name), decided.get(name)
        purposes[name] = {
            "state": "unknown" if record is None else record.state,
            "notice": None if record is None else record.notice,
            "decided_at": None if record is None else record.at_us,
            "legal_basis": None if declared is None else declared.legal_basis,
            "portable": declared is not None and declared.portable,
            **_held(subject, name, keys.get(name), catalog, database, consents, read),
        }
    return {"subject": subject, "purposes": purposes}


def _held(
    subject: str,
    purpose: str,
    key: DataKey | None,
    catalog: Catalog,
    database: Database,
    consents: Consents,
    read: Read,
) -> Plain:
    """Events, rows and features of one purpose; none of them, and why, where they may not be shown."""
    access = consents.access(subject, purpose)
    shown: Plain = {
        "shown": access.allowed,
        "reason": access.reason,
        "events": [],
        "rows": [],
        "features": {},
    }
    if not access.allowed:
        return shown
    if key is not None:
        shown |= {"events": list(_events(key, database)), "rows": list(_rows(key, database))}
    if consents.permission(subject, purpose).allowed:
        shown["features"] = dict(_features(subject, purpose, catalog, read))
    return shown


def _events(key: DataKey, database: Database) -> Iterator[Plain]:
    with database.read() as tx:
        sealed = tx.events(key.handle)
    for _, row in sealed:
        yield from map(_event, open_entries(key, row))


def _event(entry: JournalEntry) -> Plain:
    event = entry.event
    return {
        "type": event.type,
        "id": entry.event_id,
        "at": event.at_us,
        "received_at": entry.received_us,
        "entities": dict(event.entities),
        "properties": dict(event.properties),
    }


def _rows(key: DataKey, database: Database) -> Iterator[Plain]:
    with database.read() as tx:
        sealed = tx.personal_rows(key.handle)
    for slot, raw in sealed:
        if slot == stand_slot(key):
            continue
        row = open_delivered(key, slot, raw).row
        if not row.values:  # a stub: nothing of what the row said was kept
            continue
        yield {
            "view": f"{row.view}@{row.version}",
            "entity": row.entity,
            "event_time": row.event_time_us,
            "created": row.created_us,
            "values": None if row.values == LET_GO else codec.unpack(row.values, codec.FRAME_LIMIT_BYTES),
        }


def _features(subject: str, purpose: str, catalog: Catalog, read: Read) -> Iterator[tuple[str, Plain]]:
    """Present values of the views about the subject alone; those of composite keys follow from the events."""
    kind = subject.partition(":")[0]
    for view in catalog.views.values():
        if view.purpose == purpose and view.entity == (kind,):
            yield from ((ref, _value(read(ref, subject))) for ref in _refs(view))


def _refs(view: View) -> list[str]:
    return [f"{view.key}:{name}" for name in view.features]


def _value(found: FeatureValue) -> Plain:
    return {"value": plain(found.value), "status": found.status.name, "event_time": found.event_time}
