"""`/v1/catalogs`: register, activate and read catalogs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal

import msgspec
from aiohttp import web

from sync_server.access.audit import about
from sync_server.api.asked import asked
from sync_server.api.replies import body_of, json_reply
from sync_server.api.rooms import CLOCK, REGISTRY, SETTINGS, STORE
from sync_server.api.route import Name, Query, Route, Told
from sync_server.catalog.registry import catalog_of, parse
from sync_server.errors import Problem

PATH = "/v1/catalogs"
ONE = PATH + "/{name}/{version}"


Fingerprint = Annotated[str, msgspec.Meta(min_length=1)]


class Registered(msgspec.Struct):
    """A catalog version as it is registered."""

    name: str
    version: int
    fingerprint: Fingerprint
    """Hash of its meaning."""
    active: bool
    """Whether it is the one in force."""


class CatalogVersion(msgspec.Struct):
    """One of the registered versions."""

    name: str
    version: int
    fingerprint: Fingerprint


class CatalogList(msgspec.Struct):
    """Registered versions, newest first."""

    active: str | None
    """`name@version` of the one in force; null: none is."""
    registry: Literal["pinned", "unpinned", "unsigned"]
    """What its privacy part rests on: the pinned key, a key nobody pinned, or nothing."""
    catalogs: list[CatalogVersion]


async def put(request: web.Request) -> web.Response:
    """Check and store one version, for ever."""
    name, version = _named(request)
    _, table = await body_of(request)
    if not isinstance(table, dict):
        raise Problem("invalid_request", "expected an object")
    registry = request.app[REGISTRY]
    catalog = parse(name, version, table)
    activate = asked(request, "activate", "false") == "true"
    about(f"catalog:{catalog.name}@{catalog.version}")
    outcome = registry.register(catalog, request.app[CLOCK].now_us(), activate=activate)
    status = HTTPStatus.CREATED if outcome == "created" else HTTPStatus.OK
    return json_reply(Registered(name, version, catalog.fingerprint, registry.active == catalog), status)


async def get(request: web.Request) -> web.Response:
    """The document as devices load it."""
    row = request.app[REGISTRY].find(*_named(request))
    signature = catalog_of(row).signature
    signed = "" if signature is None else f"-{signature.signed_us}"
    headers = {"ETag": f'"{row.fingerprint}{signed}"'}
    if headers["ETag"] in request.headers.get("If-None-Match", ""):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(body=row.document, headers=headers, content_type="application/json")


async def listing(request: web.Request) -> web.Response:
    """Every registered version, newest first, and which one is in force."""
    active = request.app[REGISTRY].active_or_none
    with request.app[STORE].read() as tx:
        rows = tx.catalogs(request.app[SETTINGS].page_rows)
    listed = [CatalogVersion(r.name, r.version, r.fingerprint) for r in rows]
    named = None if active is None else f"{active.name}@{active.version}"
    return json_reply(CatalogList(named, request.app[REGISTRY].signed, listed))


def _named(request: web.Request) -> tuple[str, int]:
    name, version = request.match_info["name"], request.match_info["version"]
    if not (version.isascii() and version.isdigit() and 0 < len(version) < 10):
        raise Problem("not_found", "expected a version number")
    return name, int(version)


_PLACES = {"name": Name, "version": Annotated[int, msgspec.Meta(ge=0, le=999_999_999)]}
_ETAG = (Told("ETag", "Names the document, for `If-None-Match`."),)

ROUTES = (
    Route(
        "PUT",
        ONE,
        put,
        "Register a catalog version. The first becomes active; a later one with `activate=true`.",
        "catalogs",
        scope="operator",
        body=dict,
        places=_PLACES,
        query=(Query("activate", "`true` makes it the one in force", type=Literal["true", "false"]),),
        replies={201: "registered", 200: "it was there already, with the same meaning"},
        returns={201: Registered, 200: Registered},
        problems=(
            "invalid_catalog",
            "catalog_conflict",
            "not_found",
            "notice_conflict",
            "registry_unsigned",
            "registry_rollback",
        ),
    ),
    Route(
        "GET",
        ONE,
        get,
        "A registered catalog, as devices load it.",
        "catalogs",
        open=True,
        places=_PLACES,
        headers=(Query("If-None-Match", "An `ETag` of before: `304` while it is still the same."),),
        replies={200: "the canonical document", 304: "not modified"},
        returns={200: dict},
        tells={200: _ETAG, 304: _ETAG},
        problems=("not_found",),
    ),
    Route(
        "GET",
        PATH,
        listing,
        "Registered catalogs.",
        "catalogs",
        scope="operator",
        replies={200: "versions, and which one is in force"},
        returns={200: CatalogList},
    ),
)
