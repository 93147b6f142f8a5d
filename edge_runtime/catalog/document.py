"""The catalog in hand: loaded whole or not at all, immutable, with a fingerprint."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from edge_runtime.catalog.limits import CatalogLimits
from edge_runtime.catalog.load import read_model
from edge_runtime.catalog.model import (
    CatalogModel,
    Controller,
    EntityType,
    EventType,
    Experiment,
    Metric,
    Notice,
    Purpose,
    Ref,
    Service,
    Signature,
    View,
)
from edge_runtime.catalog.references import find_key, find_ref
from edge_runtime.catalog.render import render, signature_table
from edge_runtime.catalog.section import shown
from edge_runtime.errors import CatalogError, Fault, MalformedRequest

DEFAULT_LIMITS = CatalogLimits()


class Catalog:
    """What a deployment declares: purposes, entities, events, views, services, metrics, references resolved.

    Two catalogs are equal when their models are; `fingerprint` names the model.
    """

    def __init__(self, model: CatalogModel) -> None:
        self.model = model

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        limits: CatalogLimits = DEFAULT_LIMITS,
        registry_key: bytes | None = None,
    ) -> Catalog:
        """Read a TOML file (or JSON, by the ending `.json`).

        Args:
            registry_key: Ed25519 public key by which the privacy part must be signed; None: by nobody.

        Raises:
            CatalogError: not readable, too large, not TOML, any fault in it, or not signed as it must be.
        """
        catalog = cls._load(path, limits)
        if registry_key is not None:
            from edge_runtime.catalog.signed import check  # here: most catalogs are loaded without a key

            check(catalog, registry_key)
        return catalog

    @classmethod
    def _load(cls, path: str | PathLike[str], limits: CatalogLimits) -> Catalog:
        try:
            with Path(path).open("rb") as file:
                raw = file.read(limits.document_bytes + 1)
        except OSError as error:
            reason = f"cannot read the catalog file: {error.strerror}"
            raise CatalogError([Fault("catalog", reason)]) from error
        text = _decoded(raw, limits)
        if Path(path).suffix == ".json":
            return cls.from_json(text, limits=limits)
        return cls.from_toml(text, limits=limits)

    @classmethod
    def from_toml(cls, text: str, *, limits: CatalogLimits = DEFAULT_LIMITS) -> Catalog:
        """Read TOML text. Raises CatalogError as `load` does."""
        _check_size(text, limits)
        try:
            table = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
            raise CatalogError([Fault("catalog", f"expected TOML: {error}")]) from error
        return cls.from_dict(table, limits=limits)

    @classmethod
    def from_json(cls, text: str, *, limits: CatalogLimits = DEFAULT_LIMITS) -> Catalog:
        """Read JSON text. Raises CatalogError as `load` does."""
        _check_size(text, limits)
        try:
            table = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CatalogError([Fault("catalog", f"expected JSON: {error}")]) from error
        return cls.from_dict(table, limits=limits)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], *, limits: CatalogLimits = DEFAULT_LIMITS) -> Catalog:
        """Check a parsed catalog. Raises CatalogError with every fault; `table` is not kept."""
        return cls(read_model(table, limits))

    @property
    def name(self) -> str:
        """The catalog's name."""
        return self.model.name

    @property
    def version(self) -> int:
        """The catalog's version."""
        return self.model.version

    @property
    def purposes(self) -> Mapping[str, Purpose]:
        """Purposes by name."""
        return self.model.purposes

    @property
    def notices(self) -> Mapping[str, Notice]:
        """Notices by version; empty when any label is taken."""
        return self.model.notices

    @property
    def entities(self) -> Mapping[str, EntityType]:
        """Entity types by name."""
        return self.model.entities

    @property
    def events(self) -> Mapping[str, EventType]:
        """Event types by name."""
        return self.model.events

    @property
    def views(self) -> Mapping[str, View]:
        """Views by `name@version`."""
        return self.model.views

    @property
    def services(self) -> Mapping[str, Service]:
        """Services by `name@version`."""
        return self.model.services

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Metrics by name, those of experiments among them."""
        return self.model.metrics

    @property
    def experiments(self) -> Mapping[str, Experiment]:
        """Experiments by name."""
        return self.model.experiments

    def experiment(self, name: str) -> Experiment:
        """The experiment of that name. Raises MalformedRequest."""
        found = self.model.experiments.get(name)
        if found is None:
            expected = f"one of {' '.join(self.model.experiments)}"
            raise MalformedRequest("experiment", expected, "an unknown experiment")
        return found

    @property
    def controller(self) -> Controller | None:
        """Who answers for the processing; None when not declared."""
        return self.model.controller

    @property
    def signature(self) -> Signature | None:
        """The privacy team's signature, unchecked; see `signed.check`."""
        return self.model.signature

    def view(self, name: str) -> View:
        """The view `name@version`, or the highest version of a bare name. Raises MalformedRequest."""
        key = find_key(self.model.views, name)
        if key is None:
            raise MalformedRequest("view", f"one of {' '.join(self.model.views)}", "an unknown view")
        return self.model.views[key]

    def service(self, name: str) -> Service:
        """The service `name@version`, or the highest version of a bare name. Raises MalformedRequest."""
        key = find_key(self.model.services, name)
        if key is None:
            raise MalformedRequest("service", f"one of {' '.join(self.model.services)}", "an unknown service")
        return self.model.services[key]

    def ref(self, text: str) -> Ref:
        """The feature that `view:feature` or `view@version:feature` means. Raises MalformedRequest."""
        found = find_ref(self.model.views, text)
        if isinstance(found, Ref):
            return found
        raise MalformedRequest("ref", found.rpartition("expected ")[2], shown(text))

    @cached_property
    def default_personal(self) -> str | None:
        """The personal entity type that a bare subject id means: the only one, or None."""
        personal = [e.name for e in self.model.entities.values() if e.personal]
        return personal[0] if len(personal) == 1 else None

    def subject(self, id: str) -> str:
        """The typed id of a subject: `"user:alice"` stays, `"alice"` gets the only personal entity type.

        An id that begins with a personal type and a colon is taken as typed.

        Raises:
            MalformedRequest: a bare id where none or several entity types are personal, or an empty id.
        """
        kind, colon, bare = id.partition(":")
        entity = self.model.entities.get(kind)
        if colon and bare and entity is not None and entity.personal:
            return id
        if self.default_personal is None:
            legal = " ".join(f"{e.name}:..." for e in self.model.entities.values() if e.personal)
            raise MalformedRequest("subject", legal or "a catalog with a personal entity type", "a bare id")
        if not id or (colon and not bare and entity is not None):
            raise MalformedRequest("subject", "an id that is not empty", "an empty one")
        return f"{self.default_personal}:{id}"

    def to_dict(self) -> dict[str, Any]:
        """The canonical table with the signature, JSON-able; `from_dict` of it gives an equal catalog."""
        signature = self.model.signature
        signed = {} if signature is None else {"signature": signature_table(signature)}
        return render(self.model) | signed

    @cached_property
    def fingerprint(self) -> str:
        """BLAKE2b-128 of the canonical table, as hex: equal for catalogs that mean the same."""
        canonical = json.dumps(render(self.model), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Catalog) and self.model == other.model

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"Catalog({self.name}@{self.version}, {self.fingerprint[:8]})"


def _decoded(raw: bytes, limits: CatalogLimits) -> str:
    if len(raw) > limits.document_bytes:
        raise CatalogError(
            [Fault("catalog", f"expected at most {limits.document_bytes} bytes, the file has more")]
        )
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CatalogError([Fault("catalog", f"expected UTF-8 text, byte {error.start} is not")]) from error


def _check_size(text: str, limits: CatalogLimits) -> None:
    if len(text) > limits.document_bytes:
        raise CatalogError(
            [Fault("catalog", f"expected at most {limits.document_bytes} characters, got {len(text)}")]
        )
