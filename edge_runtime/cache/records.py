"""Plain records that the cache hands out."""

from __future__ import annotations

from typing import Literal, NamedTuple

OutboxKind = Literal["decision", "receipt", "report"]


class ChannelState(NamedTuple):
    """How far this device is in a channel: newest seq applied, and the digest of what it holds."""

    cursor: int
    digest: int


class OutboxItem(NamedTuple):
    """One thing that waits for the server's acknowledgement."""

    id: bytes
    kind: OutboxKind
    payload: bytes
