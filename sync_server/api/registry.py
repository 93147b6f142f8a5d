"""`/v1/purposes` and `/v1/notices`, for anybody to read; `/v1/processing-record`, for who has to show it."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from aiohttp import web

from edge_runtime.catalog import dpv
from edge_runtime.wire import seal
from sync_server.api.replies import json_reply
from sync_server.api.rooms import AUTHORITY, CLOCK, REGISTRY, SETTINGS, STORE
from sync_server.api.route import Query, Route
from sync_server.consent import processing_record as processing
from sync_server.consent.signed_document import SignedDocument, signed
from sync_server.errors import Problem
from sync_server.store.protocol import ReadTx
from sync_server.store.registry import NoticeRow, RegistryNote, RegistryRow

CSV: Final = "text/csv"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
Table = dict[str, object]


async def purposes(request: web.Request) -> web.Response:
    """Every purpose in force, and the versions that the registry has had."""
    with request.app[STORE].read() as tx:
        row = _in_force(tx)
        versions = tx.registry.versions(request.app[SETTINGS].registry_versions_shown)
    part = _part(row)
    named = {name: _purpose(purpose) for name, purpose in part["purposes"].items()}
    statement: Table = {"kind": "purposes", "registry": version_note(row), "controller": part["controller"]}
    return _reply(
        request, statement | {"purposes": named, "versions": [version_note(known) for known in versions]}
    )


async def purpose(request: web.Request) -> web.Response:
    """One purpose as each registry version declared it, newest first; also one that is gone."""
    name = request.match_info["name"]
    if _NAME.fullmatch(name) is None:
        raise Problem("not_found", "no purpose is named so")
    with request.app[STORE].read() as tx:
        row = _in_force(tx)
        declared = tx.registry.purpose(name, request.app[SETTINGS].registry_versions_shown)
    if not declared:
        raise Problem("not_found", "no registry version declares such a purpose")
    history = [
        {"registry": version_note(note), "purpose": _purpose(msgspec.json.decode(text, type=Table))}
        for note, text in declared
    ]
    present = name in _part(row)["purposes"]
    statement: Table = {"kind": "purpose", "name": name, "in_force": present, "versions": history}
    return _reply(request, statement)


async def notices(request: web.Request) -> web.Response:
    """Every notice that was ever declared, by version."""
    with request.app[STORE].read() as tx:
        declared = _part(_in_force(tx))["notices"]
        rows = tx.registry.notices(request.app[SETTINGS].page_rows)
    listed = [_notice(row, row.version in declared) for row in rows]
    return _reply(request, {"kind": "notices", "notices": listed})


async def notice(request: web.Request) -> web.Response:
    """One notice; it stays as it was registered, also when no catalog declares it any more."""
    version = request.match_info["version"]
    with request.app[STORE].read() as tx:
        declared = _part(_in_force(tx))["notices"]
        row = tx.registry.notice(version)
    if row is None:
        raise Problem("not_found", "no catalog declared such a notice")
    return _reply(request, {"kind": "notice", "notice": _notice(row, version in declared)})


async def processing_record(request: web.Request) -> web.Response:
    """The record of processing activities, as JSON or, for who asks for it by `Accept`, as CSV."""
    with request.app[STORE].read() as tx:
        version = _in_force(tx).version
    catalog, settings = request.app[REGISTRY].active, request.app[SETTINGS]
    made = processing.processing_record(catalog, version, settings, request.app[CLOCK].now_us())
    if CSV in request.headers.get("Accept", ""):
        return web.Response(text=processing.record_csv(made), content_type=CSV)
    return json_reply(made)


def version_note(row: RegistryNote) -> Table:
    """A registry version by number and fingerprint, with the privacy team's signature where there is one."""
    return {
        "version": row.version,
        "fingerprint": row.fingerprint.hex(),
        "registered_at": row.registered_us,
        "signature": None if row.signature is None else msgspec.json.decode(row.signature),
    }


def _in_force(tx: ReadTx) -> RegistryRow:
    row = tx.registry.in_force()
    if row is None:
        raise Problem("no_catalog")
    return row


def _part(row: RegistryRow) -> dict[str, Any]:
    return msgspec.json.decode(row.part, type=dict[str, Any])


def _purpose(table: Table) -> Table:
    return {**table, "legal_basis_dpv": dpv.LEGAL_BASES[str(table["legal_basis"])]}


def _notice(row: NoticeRow, declared: bool) -> Table:
    declaration = msgspec.json.decode(row.notice, type=Table)
    stands: Table = {"version": row.version, "declared": declared, "registered_at": row.registered_us}
    return stands | declaration


def _reply(request: web.Request, statement: Table) -> web.Response:
    authority = request.app[AUTHORITY]
    return json_reply(signed(authority.signing, seal.REGISTRY, {"v": 1, **statement}, authority.chain))


ROUTES = (
    Route(
        "GET",
        "/v1/purposes",
        purposes,
        "Purposes in force, the controller, and the registry's versions, signed by the server.",
        "registry",
        open=True,
        replies={200: "`statement` with its signature"},
        returns={200: SignedDocument},
        problems=("no_catalog",),
    ),
    Route(
        "GET",
        "/v1/purposes/{name}",
        purpose,
        "A purpose as each registry version declared it, newest first.",
        "registry",
        open=True,
        anything=True,
        replies={200: "`statement` with its signature"},
        returns={200: SignedDocument},
        problems=("no_catalog", "not_found"),
    ),
    Route(
        "GET",
        "/v1/notices",
        notices,
        "Every notice that a catalog ever declared.",
        "registry",
        open=True,
        replies={200: "`statement` with its signature"},
        returns={200: SignedDocument},
        problems=("no_catalog",),
    ),
    Route(
        "GET",
        "/v1/notices/{version}",
        notice,
        "A notice as it was registered: purposes, language, content hash, url.",
        "registry",
        open=True,
        anything=True,
        replies={200: "`statement` with its signature"},
        returns={200: SignedDocument},
        problems=("no_catalog", "not_found"),
    ),
    Route(
        "GET",
        "/v1/processing-record",
        processing_record,
        "The record of processing activities (GDPR Art. 30), from the registry and what is configured.",
        "registry",
        scope="consent",
        headers=(Query("Accept", "`text/csv` for the activities as CSV; JSON otherwise"),),
        replies={200: "controller, activities, security measures"},
        returns={200: processing.ProcessingRecord},
        gives={200: CSV},
        problems=("no_catalog",),
    ),
)
