"""The names that others call exist under exactly those names."""

from __future__ import annotations

import inspect

import edge_runtime as er

FIXED = [
    "Catalog",
    "CatalogError",
    "Runtime",
    "KeyFile",
    "KeyMemory",
    "KeyPassphrase",
    "KeyKeyring",
    "KeyProvider",
    "Event",
    "replay",
    "Table",
    "ACCEPTED",
    "DUPLICATE",
    "LATE",
    "NO_CONSENT",
    "Assignment",
    "DatabaseInUse",
    "ReadInPast",
]
RUNTIME = [
    "open",
    "track",
    "track_many",
    "assign",
    "arm",
    "vector",
    "matrix",
    "read",
    "leave",
    "flush",
    "close",
    "sync",
    "sync_in_background",
    "__enter__",
    "__exit__",
]
STATUSES = ["PRESENT", "NULL", "DEFAULTED", "EXPIRED", "REVOKED", "NOT_SYNCED", "NOT_FOUND", "WARMING"]


def test_every_fixed_name_is_exported() -> None:
    for name in FIXED:
        assert getattr(er, name) is not None
        assert name in er.__all__


def test_the_runtime_has_every_fixed_method() -> None:
    for name in RUNTIME:
        assert callable(getattr(er.Runtime, name)), name


def test_the_statuses_have_their_fixed_numbers() -> None:
    assert [er.Status[name].value for name in STATUSES] == list(range(8))


def test_every_public_name_has_a_docstring() -> None:
    for name in er.__all__:
        thing = getattr(er, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert (thing.__doc__ or "").strip(), name


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(er, "no_such_name")
