"""The record of processing activities (GDPR Art. 30), from the registry and from what is configured. Pure.

One activity a purpose. What nobody declared is null or empty, never guessed; which features are processed
comes from the catalog's views, which cannot leave any out.
"""

from __future__ import annotations

import csv
import io
from typing import Final

import msgspec

from edge_runtime.catalog import Catalog, dpv
from edge_runtime.catalog.duration import write_duration
from edge_runtime.catalog.model import Purpose
from sync_server.settings import Settings

COLUMNS: Final = (
    *("purpose", "title", "description", "legal_basis", "terminal_access", "data_subjects"),
    *("data_categories", "features", "recipients", "transfers", "retention", "events_kept", "lease"),
)


class RecordedController(msgspec.Struct, frozen=True):
    """Who answers for the processing (Art. 30(1)(a))."""

    name: str
    contact: str | None
    dpo: str | None


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One purpose (Art. 30(1)(b)-(f))."""

    purpose: str
    title: str
    description: str | None
    legal_basis: str
    legal_basis_dpv: str
    terminal_access: str
    data_subjects: list[str]
    """Entity types that are people and have features of this purpose."""
    data_categories: list[str]
    features: list[str]
    """What is processed: every feature of the purpose's views."""
    recipients: list[str]
    transfers: list[str]
    retention: str
    """On devices, from the subject's last event; `session`: in memory only."""
    events_kept: str
    lease: str
    """How long a device may use the data without contact."""
    uses: list[str]
    """Of `sale`, `share`, `targeting`."""


class ProcessingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Art. 30(1), as it stands now."""

    made_at: int
    catalog: str
    registry_version: int
    controller: RecordedController | None
    activities: list[Activity]
    security: list[str]
    """Technical and organisational measures (Art. 30(1)(g)), those that are in force here."""


def processing_record(
    catalog: Catalog, registry_version: int, settings: Settings, made_us: int
) -> ProcessingRecord:
    """The record for a catalog under these settings."""
    declared = catalog.controller
    named = None if declared is None else RecordedController(declared.name, declared.contact, declared.dpo)
    return ProcessingRecord(
        made_at=made_us,
        catalog=f"{catalog.name}@{catalog.version}",
        registry_version=registry_version,
        controller=named,
        activities=[_activity(catalog, purpose) for purpose in catalog.purposes.values()],
        security=security_measures(settings),
    )


def record_csv(record: ProcessingRecord) -> str:
    """The activities as CSV (RFC 4180), one a line under a heading; lists stand in one cell."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for activity in record.activities:
        cells = (getattr(activity, name) for name in COLUMNS)
        writer.writerow(["; ".join(c) if isinstance(c, list) else c or "" for c in cells])
    return text.getvalue()


def security_measures(settings: Settings) -> list[str]:
    """What protects the data here: always, and by these settings."""
    pinned = settings.registry_key is not None
    return [
        "subjects are named by keyed pseudonyms; their ids are not stored on the server",
        "personal rows rest sealed with AES-256-GCM, under one key for each subject, purpose and grant, in a"
        " key store apart from the database and its backups",
        "devices keep everything personal encrypted (AEGIS-256 pages, AES-256-GCM payloads under data keys)",
        "erasing destroys the data keys on the server and on every device, which signs a receipt",
        f"a device without contact locks within {write_duration(settings.lease_us)}, or a purpose's shorter"
        " lease",
        f"a device without a receipt {write_duration(settings.erasure_due_us)} after a revocation is named",
        "every decision stands in an append-only Merkle log (RFC 9162) with signed heads",
        "aggregates leave devices only with local differential privacy, within a budget, above a minimum",
        "the API asks for tokens with scopes, which rest as hashes; administrative and consent calls are kept"
        " in an audit log",
        "privacy parts of catalogs must be signed by a key that is not on the server"
        if pinned
        else "privacy parts of catalogs need no signature: no registry key is pinned",
    ]


def _activity(catalog: Catalog, purpose: Purpose) -> Activity:
    views = [view for view in catalog.views.values() if view.purpose == purpose.name]
    people = {kind for view in views for kind in view.entity if catalog.entities[kind].personal}
    retention = purpose.retention_us
    return Activity(
        purpose=purpose.name,
        title=purpose.title,
        description=purpose.description,
        legal_basis=purpose.legal_basis,
        legal_basis_dpv=dpv.LEGAL_BASES[purpose.legal_basis],
        terminal_access=purpose.terminal_access,
        data_subjects=sorted(people),
        data_categories=list(purpose.data_categories),
        features=[f"{view.key}:{name}" for view in views for name in view.features],
        recipients=list(purpose.recipients),
        transfers=list(purpose.transfers),
        retention="session" if retention is None else write_duration(retention),
        events_kept=write_duration(purpose.keep_events_us),
        lease=write_duration(purpose.lease_us),
        uses=list(purpose.uses),
    )
