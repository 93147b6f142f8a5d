"""Registered catalogs and the one that is active: what publishes are checked against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_runtime.catalog import Catalog, CatalogError
from sync_server.errors import Problem
from sync_server.store.protocol import ReadTx, Store, WriteTx
from sync_server.store.records import CatalogRow

_ACTIVE = "active_catalog"


class Registry:
    """Knows every registered version, and holds the active one ready."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.read() as tx:
            self._active = _stored_active(tx)

    @property
    def active(self) -> Catalog:
        """The catalog in force; raises `Problem("no_catalog")`."""
        if self._active is None:
            raise Problem("no_catalog", "register one with PUT /v1/catalogs/{name}/{version}")
        return self._active

    @property
    def active_or_none(self) -> Catalog | None:
        """The catalog in force, or None before the first was registered."""
        return self._active

    def purposes(self) -> tuple[str, ...]:
        """Purposes of the active catalog; none when there is none."""
        return () if self._active is None else tuple(self._active.purposes)

    def register(self, catalog: Catalog, now_us: int) -> Literal["created", "present"]:
        """Store a version for ever; the first one registered becomes active.

        Raises `Problem("catalog_conflict")` when this version is registered with another meaning.
        """
        with self._store.write("catalog") as tx:
            known = tx.catalog(catalog.name, catalog.version)
            if known is not None and known.fingerprint != catalog.fingerprint:
                raise Problem("catalog_conflict", fingerprint=known.fingerprint)
            if known is None:
                tx.add_catalog(_row(catalog, now_us))
        if self._active is None:
            self.activate(catalog.name, catalog.version)
        return "present" if known is not None else "created"

    def activate(self, name: str, version: int) -> Catalog:
        """Make a registered version the one in force; raises `Problem("not_found")`."""
        with self._store.write("activate_catalog") as tx:
            row = tx.catalog(name, version)
            if row is None:
                raise Problem("not_found", "this catalog version is not registered")
            catalog, before = _catalog(row), _stored_active(tx)
            _set_active(tx, row)
            if before is not None and pushed(catalog) != pushed(before):
                tx.look_again()
                if pushed(catalog) - pushed(before):
                    tx.rows_come_in(coming=True)  # until a walk over the rows has brought, or found, them
        self._active = catalog
        return self._active

    def find(self, name: str, version: int) -> CatalogRow:
        """A registered version; raises `Problem("not_found")`."""
        with self._store.read() as tx:
            row = tx.catalog(name, version)
        if row is None:
            raise Problem("not_found", "this catalog version is not registered")
        return row

    def load_file(self, path: Path, now_us: int) -> Catalog:
        """Register a catalog file and make it active. Raises `CatalogError` or `Problem`."""
        catalog = Catalog.load(path)
        self.register(catalog, now_us)
        return self.activate(catalog.name, catalog.version)


def pushed(catalog: Catalog) -> frozenset[str]:
    """The views of a catalog whose rows are pushed, by `name@version`."""
    views = catalog.model.views.values()
    return frozenset(view.key for view in views if view.source == "server" and view.tier == "hot")


def parse(name: str, version: int, table: Mapping[str, Any]) -> Catalog:
    """Check a posted catalog; raises `Problem("invalid_catalog")` with every fault and its place."""
    try:
        catalog = Catalog.from_dict(table)
    except CatalogError as error:
        faults = [{"place": f.place, "reason": f.reason} for f in error.faults]
        raise Problem("invalid_catalog", f"{len(faults)} faults", faults=faults) from None
    if (catalog.name, catalog.version) != (name, version):
        fault = {"place": "catalog", "reason": "expected the name and version of the path"}
        raise Problem("invalid_catalog", faults=[fault])
    return catalog


def _row(catalog: Catalog, now_us: int) -> CatalogRow:
    document = msgspec.json.encode(catalog.to_dict())
    return CatalogRow(catalog.name, catalog.version, catalog.fingerprint, document, now_us)


def _catalog(row: CatalogRow) -> Catalog:
    return Catalog.from_dict(msgspec.json.decode(row.document))


def _set_active(tx: WriteTx, row: CatalogRow) -> None:
    tx.set_meta(_ACTIVE, msgspec.json.encode([row.name, row.version]))


def _stored_active(tx: ReadTx) -> Catalog | None:
    raw = tx.meta(_ACTIVE)
    if raw is None:
        return None
    name, version = msgspec.json.decode(raw, type=tuple[str, int])
    row = tx.catalog(name, version)
    return None if row is None else _catalog(row)
