"""A denial, as the keystore and the database both remember it.

It names its subject by pseudonym only. It outlives the keys and rows that it ended, so that an older copy of
the database cannot bring them back.
"""

from __future__ import annotations

import msgspec

from edge_runtime.wire.messages import Bytes16, Position


class Evidence(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What carrying out a denial removed here."""

    keys_destroyed: int
    rows_deleted: dict[str, int]
    counter_before: Position
    counter_after: Position
    canary_unreadable: bool | None
    at_us: int


class Denial(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One denial for one (subject, purpose)."""

    id: Bytes16
    """Id of the decision; random for one that came through the lane."""
    subject: Bytes16
    """Pseudonym."""
    purpose: str
    state: str
    """DPV state: withdrawn, refused, revoked, objected, expired."""
    notice: str
    at_us: int
    base: Position
    """Newest lane position seen when it was taken."""
    ordinal: Position
    """Place in this device's own order of decisions: keys of a lower ordinal die."""
    seq: Position = 0
    """Its number in the ledger (or in this runtime's own count, standalone); 0 until known."""
    settled: bool = False
    """Whether the authority has it: nothing is to be sent any more."""
    taken_here: bool = True
    """False for one that came through the lane."""
    held: int = 0
    """How many keys it destroyed here (0 or 1)."""
    counter_before: Position = 0
    counter_after: Position = 0
    """The root slot's counter around the erasure: the key epoch."""
    canary: bytes | None = None
    """A sealed sample taken under the key before it was destroyed: nothing opens it any more."""
    handle: Bytes16 | None = None
    """What the doomed rows hang on; gone when the erasure is finished."""
    evidence: Evidence | None = None
    """Filled in when everything is done; None means that the erasure must be finished."""
    signals: tuple[str, ...] = ()
    """What the subject's software said beside the subject: `gpc`."""
    after: Bytes16 | None = None
    """Id of this device's own denial of the pair that this one knowingly follows; see `Decision.after`."""

    @property
    def pair(self) -> tuple[bytes, str]:
        """(pseudonym, purpose)."""
        return self.subject, self.purpose

    def at_rest(self) -> Denial:
        """As the keystore remembers it: what it removed, and from where, only the database knows."""
        return msgspec.structs.replace(self, handle=None, evidence=None)


def encode(denial: Denial) -> bytes:
    """The bytes the database keeps."""
    return msgspec.msgpack.encode(denial)


def decode(raw: bytes) -> Denial:
    """The denial in `raw`."""
    return msgspec.msgpack.decode(raw, type=Denial)
