"""The ledger head that this device keeps, so that no server can later tell it of another past.

A lease stands only with a signed head that goes on from the kept one. Two heads that do not, both signed, are
evidence against the server: they are stored, shown by `doctor`, and told to nobody from here.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.clock import Clock
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.ledger import check_goes_on, survived, verify_head
from edge_runtime.wire.messages import Bytes32, LedgerHead, Micros, Name, Position, Proof, Restore

KEPT: Final = "ledger.head"
CONFLICT: Final = "ledger.conflict"
REFUSED: Final = frozenset({"ledger_forked", "ledger_shorter"})
"""Codes under which a lease is refused for its ledger; the session goes on, and so do its denials."""


class SignedHead(msgspec.Struct, frozen=True, array_like=True):
    """A head, and the server's key under which it was verified."""

    head: LedgerHead
    server_key: Bytes32

    def to_dict(self) -> dict[str, object]:
        """As it is printed, and as `edge-sync consent audit --head` reads it."""
        h = self.head
        return {
            "size": h.size,
            "root": _text(h.root),
            "time": h.time_us,
            "incarnation": _text(h.incarnation),
            "signature": _text(h.signature),
            "public_key": _text(self.server_key),
        }


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """What is stored of one enrolment's ledger."""

    device_id: Name
    """Whose it is: another enrolment begins with nothing."""
    signed: SignedHead
    begun_anew: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How often a restored server's ledger was taken on without proof that it goes on from ours."""


class Conflict(msgspec.Struct, frozen=True, array_like=True):
    """Two signed heads of one ledger of which the second does not go on from the first."""

    device_id: Name
    code: Name
    kept: SignedHead
    offered: SignedHead
    consistency: Proof
    """What was to show that it does."""
    upto: Position
    """The lane position that the offered head had to reach."""
    at_us: Micros

    def to_dict(self) -> dict[str, object]:
        """As it is printed."""
        return {
            "code": self.code,
            "at": self.at_us,
            "kept": self.kept.to_dict(),
            "offered": self.offered.to_dict(),
            "consistency": [_text(step) for step in self.consistency],
        }


class Witness:
    """Keeps the newest head, and judges the next. The caller's lock guards every call."""

    def __init__(self, clock: Clock, keyring: Keyring, database: Database) -> None:
        self._clock, self._keyring, self._database = clock, keyring, database
        self._incarnation, self._restores = b"", tuple[Restore, ...]()
        with database.read() as tx:
            kept, self._conflict = stored(tx)
        self._kept = longer(kept, keyring.ledger_note)

    def speaks(self, incarnation: bytes, restores: Sequence[Restore] = ()) -> None:
        """A server proved who it is: heads of this incarnation are believed from now on.

        Args:
            restores: that led to it, as its Welcome names them.
        """
        self._incarnation, self._restores = incarnation, tuple(restores)

    @property
    def kept(self) -> Kept | None:
        """What is kept of this enrolment's ledger."""
        kept = self._kept
        return kept if kept is not None and kept.device_id == self._keyring.identity.device_id else None

    @property
    def conflict(self) -> Conflict | None:
        """The first two heads that contradicted each other, of this enrolment."""
        found = self._conflict
        return found if found is not None and found.device_id == self._keyring.identity.device_id else None

    @property
    def basis(self) -> SignedHead | None:
        """The head from which the next has to go on.

        None where none is kept, or the server was restored from a backup that is older than it: what the
        ledger of now has in common with the kept head, nobody can prove.
        """
        kept = self.kept
        if kept is None or kept.signed.head.size > survived(
            kept.signed.head, self._incarnation, self._restores
        ):
            return None
        return kept.signed

    def take(self, head: LedgerHead, proof: Sequence[bytes], basis: SignedHead | None, upto: int) -> None:
        """Keep `head`, durably, in the place of `basis`, which it goes on from; or raise `WireFailure`.

        Args:
            basis: what the server was asked to go on from.
            upto: a lane position that the ledger must have reached.

        Raises `bad_signature`; `ledger_shorter` or `ledger_forked`, with both heads stored as evidence.
        """
        identity = self._keyring.identity
        key = identity.server_key or b""
        verify_head(head, key)
        offered = SignedHead(head, key)
        try:
            self._check(head, proof, basis, upto)
        except WireFailure as failure:
            if basis is not None and self.conflict is None:
                found = Conflict(
                    *(identity.device_id, failure.code, basis, offered),
                    *(list(proof), upto, self._clock.now_us()),
                )
                with self._database.write("ledger_conflict") as tx:
                    tx.set_meta(CONFLICT, msgspec.msgpack.encode(found))
                self._conflict = found
            raise
        self._keep(Kept(identity.device_id, offered, self._begun_anew(basis)))

    def _check(self, head: LedgerHead, proof: Sequence[bytes], basis: SignedHead | None, upto: int) -> None:
        if head.incarnation != self._incarnation:
            raise WireFailure("ledger_forked", "expected a ledger head of this session's incarnation")
        if head.size < upto:
            raise WireFailure(
                "ledger_shorter", f"expected a ledger of at least {upto} leaves, got {head.size}"
            )
        if basis is not None:
            check_goes_on(basis.head, head, proof)

    def _begun_anew(self, basis: SignedHead | None) -> int:
        kept = self.kept
        return 0 if kept is None else kept.begun_anew + (basis is None)

    def _keep(self, kept: Kept) -> None:
        if kept == self._kept:
            return
        with self._database.write("ledger_head") as tx:
            tx.set_meta(KEPT, msgspec.msgpack.encode(kept))
        self._kept = kept
        self._keyring.ledger_note = msgspec.msgpack.encode(kept)

    def status(self) -> dict[str, object]:
        """What is kept, for a person: nothing personal in it."""
        return told(self.kept, self.conflict)


def longer(kept: Kept | None, note: bytes) -> Kept | None:
    """The later of what the database keeps and what the keystore took along: either may be an older copy."""
    if not note:
        return kept
    noted = msgspec.msgpack.decode(note, type=Kept)
    if kept is None or kept.device_id != noted.device_id:
        return noted if kept is None else kept
    ours, noted_head = kept.signed.head, noted.signed.head
    return noted if (noted_head.time_us, noted_head.size) > (ours.time_us, ours.size) else kept


def stored(tx: ReadTransaction) -> tuple[Kept | None, Conflict | None]:
    """What stands in a database: the head that is kept, and the first contradiction, of any enrolment."""
    kept, conflict = tx.meta(KEPT), tx.meta(CONFLICT)
    return (
        None if kept is None else msgspec.msgpack.decode(kept, type=Kept),
        None if conflict is None else msgspec.msgpack.decode(conflict, type=Conflict),
    )


def told(kept: Kept | None, conflict: Conflict | None) -> dict[str, object]:
    """What is kept, as it is printed: nothing personal in it."""
    return {
        "head": None if kept is None else kept.signed.to_dict(),
        "begun_anew": 0 if kept is None else kept.begun_anew,
        "conflict": None if conflict is None else conflict.to_dict(),
    }


def _text(raw: bytes) -> str:
    """base64url without padding, as the server's API writes bytes."""
    return b64encode(raw, b"-_").rstrip(b"=").decode()
