"""What the denial journal holds, and its bytes. Pure.

A record is `length (4 bytes) || chain (16 bytes) || body`; the body is canonical MessagePack of one entry,
and `chain` is BLAKE2b-128 of the chain before it and the body. So a record that was torn, changed, left out
or put elsewhere is noticed, and with it all that follows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

import msgspec

from edge_runtime.wire.messages import Bytes16, LedgerHead
from edge_runtime.wire.printing import prints_only
from edge_runtime.wire.seal import canonical
from sync_server.store.records import Denial, DeviceRow, Evidence, RevocationRow

CHAIN_BYTES: Final = 16
_HEAD_BYTES: Final = 4 + CHAIN_BYTES
RECORD_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""No entry is larger: a length beyond it is damage."""


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Begin(_Entry, tag="begin", frozen=True):
    """The first record of a segment."""

    incarnation: Bytes16
    size: Annotated[int, msgspec.Meta(ge=0)]
    """Ledger steps before it."""
    before: Bytes16
    """Chain of the last record of the segment before it; zeros for the first."""


@prints_only()
class Step(_Entry, tag="step", frozen=True):
    """A step of the ledger, with what opens it."""

    evidence: Evidence


@prints_only()
class Revoked(_Entry, tag="revoked", frozen=True):
    """Some of the steps before it are one revocation."""

    row: RevocationRow
    denials: tuple[Denial, ...]


class Known(_Entry, tag="device", frozen=True):
    """A device as it is enrolled now: new, shut out, with another key or other channels."""

    device: DeviceRow
    size: int
    """Ledger steps before it."""


@prints_only("device_id", "size")
class Wiped(_Entry, tag="wiped", frozen=True):
    """A device that was shut out has proven that it erased everything: its receipt, as it came."""

    device_id: str
    body: bytes
    signature: bytes
    size: int
    """Ledger steps before it."""


class Signed(_Entry, tag="head", frozen=True):
    """The signed head of the ledger after the steps before it."""

    head: LedgerHead


Entry = Begin | Step | Revoked | Known | Wiped | Signed
_entries: Final = msgspec.msgpack.Decoder(Entry)


class Upto(NamedTuple):
    """How far a journal goes."""

    size: int
    """Ledger steps."""
    head: LedgerHead | None
    """The newest signed head in its newest piece."""


class Place(NamedTuple):
    """A record that was read."""

    entry: Entry
    chain: bytes
    end: int
    """Where the next one begins."""


class Reading:
    """Walks over the records of one segment. `fault` then says why it ended before the bytes did."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.fault: str | None = None
        self.torn = False
        """Whether the last record is cut short: it was being written, and nobody was told of it."""

    def first_before(self) -> bytes | None:
        """The chain that the first record says it goes on from; None when it is not whole."""
        content = self._content
        size = int.from_bytes(content[:4], "big")
        try:
            entry = _entries.decode(content[_HEAD_BYTES : _HEAD_BYTES + min(size, RECORD_LIMIT_BYTES)])
        except msgspec.MsgspecError:
            return None
        return entry.before if isinstance(entry, Begin) else None

    def records(self, before: bytes) -> Iterator[Place]:
        """The records in order; `before` is the chain that the first one goes on from."""
        at, content = 0, self._content
        while at < len(content):
            size = int.from_bytes(content[at : at + 4], "big")
            end = at + _HEAD_BYTES + size
            chain, body = content[at + 4 : at + _HEAD_BYTES], content[at + _HEAD_BYTES : end]
            if end > len(content) or len(chain) < CHAIN_BYTES:
                self.torn = size <= RECORD_LIMIT_BYTES
                self.fault = f"a record at byte {at} is cut short"
                return
            if size > RECORD_LIMIT_BYTES or _chain(before, body) != chain:
                self.fault = f"the record at byte {at} does not follow the one before it"
                return
            try:
                entry = _entries.decode(body)
            except msgspec.MsgspecError:
                self.fault = f"the record at byte {at} is none of ours"
                return
            yield Place(entry, chain, end)
            before, at = chain, end


def written(before: bytes, entry: Entry) -> tuple[bytes, bytes]:
    """The bytes of a record that follows chain `before`, and its chain."""
    body = canonical(entry)
    chain = _chain(before, body)
    return len(body).to_bytes(4, "big") + chain + body, chain


def _chain(before: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(before + body, digest_size=CHAIN_BYTES, person=b"edge-journal").digest()
