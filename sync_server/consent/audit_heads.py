"""Signed heads against a ledger that was walked: whose are they, are their leaves its first? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.ledger import verify_head
from edge_runtime.wire.messages import LedgerHead
from sync_server.consent.audit import Found
from sync_server.consent.statement import head_of

_FIELDS = ("size", "root", "time", "incarnation", "signature")


@dataclass(frozen=True, slots=True)
class NamedHead:
    """A head, and where it was found."""

    name: str
    head: LedgerHead


def heads_in(name: str, document: Any) -> Iterator[NamedHead]:
    """Every signed head in a JSON document: of a device's `head`, a reply, a receipt, a doctor's finding.

    Raises ValueError: something that looks like a head is none.
    """
    if isinstance(document, Mapping):
        if all(field in document for field in _FIELDS):
            yield NamedHead(name, _head(document))
            return
        document = list(document.values())
    if isinstance(document, list):
        for inner in document:
            yield from heads_in(name, inner)


def chain_of(earlier: Sequence[tuple[bytes, bytes]], present: bytes) -> list[bytes]:
    """The server's signing keys in order.

    Args:
        earlier: (key, its word for the next) of each one before `present`.

    Raises `Found`: a key that the one before it did not name.
    """
    keys = [key for key, _ in earlier] + [present]
    for (key, word), following in zip(earlier, keys[1:], strict=True):
        try:
            seal.verify(key, seal.SUCCESSION, seal.succession_bytes(key, following), word)
        except WireFailure:
            raise Found("succession", "server.key", None, "each key named by the one before", "not") from None
    return keys


def check_signer(one: NamedHead, keys: Sequence[bytes], since: Mapping[bytes, int]) -> None:
    """The head was signed by one of our keys, in its time; raises `Found`.

    Args:
        keys: in order, the last is the present one.
        since: key -> how many leaves there were when it first signed.
    """
    size = one.head.size
    for at, key in enumerate(keys):
        try:
            verify_head(one.head, key)
        except WireFailure:
            continue
        until = min((since[after] for after in keys[at + 1 :] if after in since), default=size)
        if size > until:
            expected, found = f"a key that signed after {until} leaves", f"key {at + 1} of {len(keys)}"
            raise Found("old_key", one.name, size, expected, found)
        return
    raise Found("head_signature", one.name, size, f"the word of one of {len(keys)} server keys", "another's")


def check_prefix(one: NamedHead, size: int, roots: Mapping[int, bytes]) -> None:
    """The head's leaves are the first of the ledger; raises `Found`.

    Args:
        size: of the ledger.
        roots: size -> root, for every head's size.
    """
    if one.head.size > size:
        raise Found("cut_tail", one.name, size + 1, f"{one.head.size} leaves, as was signed", size)
    root = roots[one.head.size]
    if root != one.head.root:
        raise Found("fork", one.name, one.head.size, one.head.root, root)


def _head(document: Mapping[str, Any]) -> LedgerHead:
    size, time_us = document["size"], document["time"]
    numbers = isinstance(size, int) and isinstance(time_us, int) and size >= 0
    if not numbers or not all(
        isinstance(document[name], str) for name in ("root", "incarnation", "signature")
    ):
        raise ValueError("expected a ledger head: size and time as numbers, all else as text")
    return head_of(document)
