"""Every error a device raises, each of which says whose fault it is and whether to try again.

::

    EdgeError
    ├── CatalogError            the catalog's author: a list of (place, reason)
    ├── MalformedEvent          the caller: an event that does not fit the catalog
    ├── MalformedRequest        the caller: a read, decision or setting that does not fit
    ├── ContractMismatch        the caller: a model that takes other inputs than its service gives
    ├── MissingExtra            this installation: an optional package is not there
    ├── ReadInPast              the caller: a live read before what the journal still holds
    ├── RuntimeClosed           the caller: a call after close()
    ├── StorageError            this device's disk
    │   ├── DatabaseInUse       another process holds the file
    │   ├── DatabaseTooNew      written by a newer release; untouched
    │   ├── DatabaseUnreadable  truncated, foreign or damaged; untouched
    │   ├── DatabaseReadOnly    the file or its folder may not be written; nothing changed
    │   ├── StateUnreadable     a stored session state, damaged or of other definitions: rebuild it
    │   ├── StorageFull         no room; what was acknowledged is safe
    │   ├── KeyMissing          a database without its key, or a key without its database
    │   ├── KeyMismatch         the key does not open this database, or the passphrase not the key; untouched
    │   ├── KeyUnreadable       where the key rests is something damaged or foreign; untouched
    │   ├── CipherMismatch      the key opens it, under another cipher; untouched
    │   └── KeystoreMismatch    the keystore is not the one the root slot names; untouched
    ├── CipherMissing           this installation: the encrypting SQLite is not there
    └── SyncError               the far side or the network
        ├── SyncRefused         the server said no: carries its code
        └── NotEnrolled         this runtime has no identity at a server yet

Messages hold no personal value, key or feature value: what was expected, what came, the state after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class EdgeError(Exception):
    """Base of every error that `edge_runtime` raises on purpose."""

    retryable: bool = False


class Fault(NamedTuple):
    """One fault in a catalog: where (`views.activity.features.views_5m.window`) and why."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class CatalogError(EdgeError):
    """A catalog that cannot be used; `faults` names every place and reason found."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(f) for f in self.faults))


class MalformedEvent(EdgeError):
    """An event that does not fit the catalog; nothing was changed."""

    def __init__(self, place: str, expected: str, got: str) -> None:
        self.place, self.expected, self.got = place, expected, got
        super().__init__(f"{place}: expected {expected}, got {got}; nothing changed")


class MalformedRequest(EdgeError):
    """A read, decision or setting that does not fit; nothing was changed."""

    def __init__(self, place: str, expected: str, got: str) -> None:
        self.place, self.expected, self.got = place, expected, got
        super().__init__(f"{place}: expected {expected}, got {got}; nothing changed")


class ContractMismatch(EdgeError):
    """A model and a service that do not fit; `faults` names every place. Nothing was attached or scored."""

    def __init__(self, service: str, faults: Sequence[Fault]) -> None:
        self.service, self.faults = service, tuple(faults)
        found = "; ".join(str(f) for f in self.faults)
        super().__init__(f"{service} and the model: {found}; nothing was attached or scored")


class MissingExtra(EdgeError, ImportError):
    """An optional package is not installed; the message names what to install."""

    def __init__(self, package: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"expected {package}: pip install 'edge-runtime[{extra}]'; nothing changed")


class ReadInPast(EdgeError):
    """A live read before the newest admitted event, further back than the journal reaches."""


class RuntimeClosed(EdgeError):
    """A call on a runtime that was closed."""


class StorageError(EdgeError):
    """The device's disk or files; the message says what is left untouched."""


class DatabaseInUse(StorageError):
    """Another process (or another Runtime in this one) has the database open."""

    retryable = True


class DatabaseTooNew(StorageError):
    """The file was written by a newer release and was not touched."""


class DatabaseUnreadable(StorageError):
    """The file is truncated, foreign or damaged and was not touched."""


class DatabaseReadOnly(StorageError):
    """The database, its log or their folder may not be written; nothing was created or changed."""


class StateUnreadable(StorageError):
    """A stored session state that is damaged or was made under other definitions; events rebuild it."""


class StorageFull(StorageError):
    """The disk is full; acknowledged data is safe, the last write is not."""

    retryable = True


class KeyMissing(StorageError):
    """A database without its key or a key without its database; nothing was created."""


class KeyMismatch(StorageError):
    """The key does not open this database, or the passphrase does not open the key; nothing was touched."""


class KeyUnreadable(StorageError):
    """What is kept where the key should rest is truncated, foreign or damaged; nothing was touched."""


class CipherMismatch(StorageError):
    """The key opens the database, but only with a cipher that we do not use; nothing was touched."""


class KeystoreMismatch(StorageError):
    """The keystore is not the one that the root slot names (an old copy, or another device's)."""


class CipherMissing(EdgeError):
    """`apsw` is here without SQLite3 Multiple Ciphers; nothing is opened in plain text instead."""


class SyncError(EdgeError):
    """The far side or the network."""


class SyncRefused(SyncError):
    """The other side refused; `code` is one of `wire.refusal.CODES`."""

    def __init__(
        self,
        code: str,
        reason: str = "",
        retry_after_us: int | None = None,
        server_time_us: int | None = None,
    ) -> None:
        self.code, self.reason, self.retry_after_us = code, reason, retry_after_us
        self.server_time_us = server_time_us
        """In a refusal for time the server's clock (µs since 1970), proved by its signature; else None."""
        super().__init__(f"{code}: {reason}" if reason else code)


class NotEnrolled(SyncError):
    """This runtime has no identity at a server yet: call `enrol` first."""
