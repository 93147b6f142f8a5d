"""Registered catalogs and the one that is active: what publishes are checked against."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from edge_runtime.catalog import Catalog, CatalogError
from sync_server.catalog import privacy
from sync_server.catalog.purpose_leases import PurposeLeases, widened
from sync_server.errors import Problem
from sync_server.store.protocol import ReadTx, Store, WriteTx
from sync_server.store.records import CatalogRow

_ACTIVE = "active_catalog"
NO_LIMIT: Final = -1


class Registry:
    """Knows every registered version, and holds the active one ready.

    Args:
        registry_key: public half of the key that signs privacy parts; with it, none that it has not signed is
            registered, comes into force, or stays there over a start. None: nothing is asked.
    """

    def __init__(self, store: Store, registry_key: bytes | None = None) -> None:
        self._store, self.registry_key = store, registry_key
        with store.read() as tx:
            row = _active_row(tx)
            known = row is None or tx.registry.in_force() is not None
            self._leases = _leases(tx)
        self._active = None if row is None else catalog_of(row)
        if row is not None and not known:  # a store from before there were registry versions
            with store.write("registry_version") as tx:
                privacy.put_in_force(tx, catalog_of(row), row.registered_us)

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

    @property
    def signed(self) -> Literal["pinned", "unpinned", "unsigned"]:
        """What the privacy part in force rests on: the pinned key, a key nobody pinned, or nothing."""
        if self._active is None or self._active.signature is None:
            return "unsigned"
        return "unpinned" if self.registry_key is None else "pinned"

    def leases(self) -> PurposeLeases:
        """The lease of each purpose, over every catalog ever registered: a device may have any of them."""
        return self._leases

    def purposes(self) -> tuple[str, ...]:
        """Purposes of the active catalog; none when there is none."""
        return () if self._active is None else tuple(self._active.purposes)

    def check_signed(self) -> None:
        """Raise `Problem("registry_unsigned")` when the catalog in force is not signed as it must be."""
        if self._active is not None:
            privacy.check_signed(self._active, self.registry_key)

    def register(
        self, catalog: Catalog, now_us: int, *, activate: bool = False
    ) -> Literal["created", "present"]:
        """Store a version for ever; the first one registered becomes active.

        Raises `Problem`, with nothing changed: `catalog_conflict` when this version is registered with
        another meaning, `notice_conflict` when a notice is, `registry_unsigned` without the pinned key's
        signature, `registry_rollback` (see `activate`) when it is to be the one in force.
        """
        privacy.check_signed(catalog, self.registry_key)
        if activate and self.registry_key is not None:
            privacy.check_order(self._active, catalog)
        with self._store.write("catalog") as tx:
            known = tx.catalog(catalog.name, catalog.version)
            if known is not None and known.fingerprint != catalog.fingerprint:
                raise Problem("catalog_conflict", fingerprint=known.fingerprint)
            privacy.register_notices(tx, catalog, now_us)
            if known is None:
                tx.add_catalog(_row(catalog, now_us))
                self._leases = widened(self._leases, catalog)  # before the commit: too long harms nobody
            elif privacy.newer(catalog.signature, catalog_of(known).signature):
                tx.sign_catalog(_row(catalog, now_us))
        signed_anew = catalog == self._active and privacy.newer(catalog.signature, self._active.signature)
        if self._active is None or signed_anew or activate:
            self.activate(catalog.name, catalog.version)
        return "present" if known is not None else "created"

    def activate(self, name: str, version: int) -> Catalog:
        """Make a registered version the one in force.

        Raises `Problem`, with nothing changed: `not_found`, `registry_unsigned`, or `registry_rollback` when
        under a pinned key an older privacy part would protect less than the one in force.
        """
        with self._store.write("activate_catalog") as tx:
            row = tx.catalog(name, version)
            if row is None:
                raise Problem("not_found", "this catalog version is not registered")
            catalog, before = catalog_of(row), _stored_active(tx)
            if self.registry_key is not None:
                privacy.check_signed(catalog, self.registry_key)
                privacy.check_order(before, catalog)
            privacy.register_notices(tx, catalog, row.registered_us)
            privacy.put_in_force(tx, catalog, row.registered_us)
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


def catalog_of(row: CatalogRow) -> Catalog:
    """The catalog that a registered version's document is."""
    return Catalog.from_dict(msgspec.json.decode(row.document))


def _leases(tx: ReadTx) -> PurposeLeases:
    """Over every registered version; one from long ago that does not load any more can be on no device."""
    leases: PurposeLeases = {}
    for row in tx.catalogs(NO_LIMIT):
        with suppress(msgspec.MsgspecError, CatalogError):
            leases = widened(leases, catalog_of(row))
    return leases


def _set_active(tx: WriteTx, row: CatalogRow) -> None:
    tx.set_meta(_ACTIVE, msgspec.json.encode([row.name, row.version]))


def _stored_active(tx: ReadTx) -> Catalog | None:
    row = _active_row(tx)
    return None if row is None else catalog_of(row)


def _active_row(tx: ReadTx) -> CatalogRow | None:
    raw = tx.meta(_ACTIVE)
    if raw is None:
        return None
    name, version = msgspec.json.decode(raw, type=tuple[str, int])
    return tx.catalog(name, version)
