"""No record of ours prints a field that holds somebody's id, event, value or secret.

Each record is made with a word of its own in every field, whatever its type says, and printed.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from rich.pretty import pretty_repr

import edge_runtime
import sync_server

SECRET = {
    *("secret", "device_secret", "signing_seed", "pseudonym_key", "digest_key", "tag_key", "page_key"),
    *("key", "root", "old_root", "next_page_key", "token", "ticket", "tickets", "salt", "salts", "proof"),
}
PERSONAL = {
    *("subject", "entity", "entities", "ids", "event_id", "asked", "candidates", "slots", "moments"),
    *("properties", "values", "payload", "dump", "events", "rows", "readings", "request", "given", "frame"),
    *("numbers", "cells", "told", "columns", "answer", "answers", "moves"),
}
DECLARES = (
    "edge_runtime.catalog",
    "edge_runtime.session.operators",
    "edge_runtime.session.identity",
    "edge_runtime.cache.histories",
    "edge_runtime.serving.encodings",
)
"""Rooms whose records hold what a catalog declares: their `entity` is a type, their `values` are words."""
OPEN = {
    "wire.messages.LedgerHead": {"root"},  # the ledger's root hash is published
    "consent.auditing.Audit": {"root"},  # likewise
    "restore.manifest.Manifest": {"root"},
    "store.copying.Copied": {"root"},
    "keys.tree.Change": {"root"},  # a `Ref`, which prints where it points to
    "consent.documents.RevocationTarget": {"answer"},  # a device's, of one word
    "aggregates.estimators.quantiles.SummedLevel": {"answers"},  # how many, always None
    "cache.plain_tables.PlainTable": {"columns"},  # of tables, as declared
    "recovery.judging.Found": {"rows"},  # numbers of rows, and how long they are
    "serving.candidates._AsIs": {"columns", "numbers"},  # bound columns, and where they stand
    "serving.explain.Described": {"columns"},  # as declared
    "serving.columns.Plain": {"entities"},  # entity types, here and below
    "serving.columns.Lookup": {"entities"},
    "serving.columns.SumLookup": {"entities"},
    "serving.columns.Dot": {"entities"},
}
"""Record -> fields that hold nobody after all, and why."""
NOBODY = {"subject": ("bytes", "Bytes16"), "key": ("str", "DataKey", "tuple", "int")}
"""Field -> types of it that are open: a pseudonym; the name of a column, a data key that prints a purpose."""
NUMBERS = ("int", "bool", "float")


def records() -> Iterator[type]:
    """Every dataclass, NamedTuple and Struct of both packages."""
    for package in (edge_runtime, sync_server):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for kind in vars(module).values():
                if isinstance(kind, type) and kind.__module__ == module.__name__ and fields_of(kind):
                    yield kind


def fields_of(kind: type) -> list[str]:
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if issubclass(kind, msgspec.Struct):
        return list(kind.__struct_fields__)
    return list(kind._fields) if issubclass(kind, tuple) and hasattr(kind, "_fields") else []


def full(kind: Any, names: list[str]) -> object:
    """A record with a word in every field; made without its own checks."""
    words = {name: word_of(name) for name in names}
    if issubclass(kind, msgspec.Struct):
        return kind(**words)
    made = kind.__new__(kind, *words.values()) if issubclass(kind, tuple) else object.__new__(kind)
    if not issubclass(kind, tuple):
        for name, word in words.items():
            object.__setattr__(made, name, word)
    return made


def word_of(field: str) -> str:
    return f"<word of {field}>"


def type_of(kind: type, field: str) -> str:
    hint = next(h[field] for base in kind.__mro__ if field in (h := vars(base).get("__annotations__", {})))
    return str(getattr(hint, "__forward_arg__", hint))


def wrongly_printed(kind: type) -> set[str]:
    """Fields that a record prints and should not."""
    names = fields_of(kind)
    record = full(kind, names)
    said = f"{record!r} {record} {pretty_repr(record)}"
    told = SECRET if kind.__module__.startswith(DECLARES) else SECRET | PERSONAL
    told = told - OPEN.get(f"{kind.__module__.partition('.')[2]}.{kind.__qualname__}", set())
    printed = {name for name in names if name in told and word_of(name) in said}
    return {name for name in printed if not type_of(kind, name).startswith(NOBODY.get(name, NUMBERS))}


@pytest.mark.parametrize("kind", list(records()), ids=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
def test_no_record_prints_a_person_or_a_secret(kind: type) -> None:
    assert wrongly_printed(kind) == set()


class Planted(NamedTuple):
    subject: str
    token: bytes
    rows: int
    purpose: str


def test_a_record_that_prints_a_person_or_a_secret_is_noticed() -> None:
    assert wrongly_printed(Planted) == {"subject", "token"}
