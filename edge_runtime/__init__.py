"""Personalization on the device: encrypted feature cache, session features, consent, private aggregates.

Names are loaded on first use, so `import edge_runtime` costs little and loads no network library.

    >>> import edge_runtime as er
    >>> sorted(er.__all__)[:3]
    ['ACCEPTED', 'Admission', 'Assignment']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_runtime.assignments import Assignment as Assignment
    from edge_runtime.cache.swept import Swept as Swept
    from edge_runtime.catalog import Catalog as Catalog
    from edge_runtime.clock import SystemClock as SystemClock
    from edge_runtime.consent.decisions import ConsentRecord as ConsentRecord
    from edge_runtime.consent.receipt import ErasureReceipt as ErasureReceipt
    from edge_runtime.errors import CatalogError as CatalogError
    from edge_runtime.errors import CipherMismatch as CipherMismatch
    from edge_runtime.errors import CipherMissing as CipherMissing
    from edge_runtime.errors import ContractMismatch as ContractMismatch
    from edge_runtime.errors import DatabaseInUse as DatabaseInUse
    from edge_runtime.errors import DatabaseReadOnly as DatabaseReadOnly
    from edge_runtime.errors import DatabaseTooNew as DatabaseTooNew
    from edge_runtime.errors import DatabaseUnreadable as DatabaseUnreadable
    from edge_runtime.errors import EdgeError as EdgeError
    from edge_runtime.errors import Fault as Fault
    from edge_runtime.errors import KeyMismatch as KeyMismatch
    from edge_runtime.errors import KeyMissing as KeyMissing
    from edge_runtime.errors import KeystoreMismatch as KeystoreMismatch
    from edge_runtime.errors import KeyUnreadable as KeyUnreadable
    from edge_runtime.errors import MalformedEvent as MalformedEvent
    from edge_runtime.errors import MalformedRequest as MalformedRequest
    from edge_runtime.errors import MissingExtra as MissingExtra
    from edge_runtime.errors import NotEnrolled as NotEnrolled
    from edge_runtime.errors import ReadInPast as ReadInPast
    from edge_runtime.errors import RuntimeClosed as RuntimeClosed
    from edge_runtime.errors import StorageError as StorageError
    from edge_runtime.errors import StorageFull as StorageFull
    from edge_runtime.errors import SyncError as SyncError
    from edge_runtime.errors import SyncRefused as SyncRefused
    from edge_runtime.history.replay import replay as replay
    from edge_runtime.keys.keychain import KeyKeyring as KeyKeyring
    from edge_runtime.keys.passphrase import KeyPassphrase as KeyPassphrase
    from edge_runtime.keys.providers import KeyFile as KeyFile
    from edge_runtime.keys.providers import KeyMemory as KeyMemory
    from edge_runtime.keys.providers import KeyProvider as KeyProvider
    from edge_runtime.runtime import Runtime as Runtime
    from edge_runtime.serving.linear import LinearModel as LinearModel
    from edge_runtime.serving.onnx_model import OnnxModel as OnnxModel
    from edge_runtime.serving.plan import Matrix as Matrix
    from edge_runtime.serving.plan import Vector as Vector
    from edge_runtime.serving.scoring import Model as Model
    from edge_runtime.serving.scoring import Scores as Scores
    from edge_runtime.serving.status import Status as Status
    from edge_runtime.serving.value import FeatureValue as FeatureValue
    from edge_runtime.session.admission import Admission as Admission
    from edge_runtime.session.event import Event as Event
    from edge_runtime.session.table import Table as Table
    from edge_runtime.settings import Settings as Settings
    from edge_runtime.sync.fetch import Fetch as Fetch
    from edge_runtime.sync.fetch import FetchAnswer as FetchAnswer
    from edge_runtime.tracking import TrackSummary as TrackSummary

    ACCEPTED = Admission.ACCEPTED
    DUPLICATE = Admission.DUPLICATE
    LATE = Admission.LATE
    NO_CONSENT = Admission.NO_CONSENT
    NO_ROOM = Admission.NO_ROOM

_HOMES = {
    "Admission": "session.admission",
    "Assignment": "assignments",
    "Catalog": "catalog",
    "CatalogError": "errors",
    "CipherMismatch": "errors",
    "CipherMissing": "errors",
    "ConsentRecord": "consent.decisions",
    "ContractMismatch": "errors",
    "DatabaseInUse": "errors",
    "DatabaseTooNew": "errors",
    "DatabaseReadOnly": "errors",
    "DatabaseUnreadable": "errors",
    "EdgeError": "errors",
    "ErasureReceipt": "consent.receipt",
    "Event": "session.event",
    "Fault": "errors",
    "FeatureValue": "serving.value",
    "Fetch": "sync.fetch",
    "FetchAnswer": "sync.fetch",
    "KeyFile": "keys.providers",
    "KeyKeyring": "keys.keychain",
    "KeyMemory": "keys.providers",
    "KeyMismatch": "errors",
    "KeyMissing": "errors",
    "KeyPassphrase": "keys.passphrase",
    "KeyProvider": "keys.providers",
    "KeyUnreadable": "errors",
    "KeystoreMismatch": "errors",
    "MalformedEvent": "errors",
    "MalformedRequest": "errors",
    "LinearModel": "serving.linear",
    "Matrix": "serving.plan",
    "MissingExtra": "errors",
    "Model": "serving.scoring",
    "NotEnrolled": "errors",
    "OnnxModel": "serving.onnx_model",
    "ReadInPast": "errors",
    "Runtime": "runtime",
    "RuntimeClosed": "errors",
    "Scores": "serving.scoring",
    "Settings": "settings",
    "Status": "serving.status",
    "StorageError": "errors",
    "StorageFull": "errors",
    "Swept": "cache.swept",
    "SyncError": "errors",
    "SyncRefused": "errors",
    "SystemClock": "clock",
    "Table": "session.table",
    "TrackSummary": "tracking",
    "Vector": "serving.plan",
    "replay": "history.replay",
}
_VERDICTS = ("ACCEPTED", "DUPLICATE", "LATE", "NO_CONSENT", "NO_ROOM")

__all__ = sorted([*_HOMES, *_VERDICTS])


def __getattr__(name: str) -> object:
    if name in _VERDICTS:
        value: object = importlib.import_module("edge_runtime.session.admission").Admission[name]
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"edge_runtime.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'edge_runtime' has no attribute {name!r}")
    globals()[name] = value
    return value
