"""A device's keys, cache and consent room without the runtime around them, and a server that only signs."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.catalog import Catalog
from edge_runtime.consent.decisions import Consents
from edge_runtime.consent.lease import ColdStart, Leases
from edge_runtime.consent.opening import open_cache
from edge_runtime.keys.datakey import DataKey
from edge_runtime.keys.identity import Identity
from edge_runtime.keys.providers import KeyFile
from edge_runtime.keys.vault import no_step
from edge_runtime.wire import codec, seal
from edge_runtime.wire.messages import Decision, LaneEntry, Lease, ReceiptNote
from edge_runtime.wire.receipt import Receipt, open_receipt
from tests.support.clock import ManualClock
from tests.support.ledgers import INCARNATION, MadeUp, leaves

DAY_US = 86_400_000_000
CONSENT = {"legal_basis": "consent", "lease": "24h", "retention": "30d"}
SHOP = Catalog.from_dict(
    {
        "catalog": {"name": "shop", "version": 1},
        "purposes": {
            "personalization": {"title": "p", **CONSENT},
            "measurement": {"title": "m", **CONSENT, "lease": "1h"},
            "guest": {"title": "g", "legal_basis": "consent", "retention": "session"},
            "orders": {
                "title": "o",
                "legal_basis": "contract",
                "terminal_access": "strictly_necessary",
                "retention": "30d",
            },
            "hints": {
                "title": "h",
                "legal_basis": "legitimate_interest",
                "terminal_access": "consent",
                "retention": "30d",
            },
        },
        "entities": {"user": {"personal": True}},
    }
)
SERVER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TENANT_KEY = bytes(32)
P, M = "personalization", "measurement"


class Room:
    """One device in `folder`. Open again in the same folder to see what rests there."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: ManualClock | None = None,
        cold_start: ColdStart = "server",
        step: Callable[[str], None] = no_step,
        recover: Literal["discard"] | None = None,
        catalog: Catalog = SHOP,
        vfs: str | None = None,
    ) -> None:
        self.folder, self.clock = folder, clock or ManualClock()
        self.forgotten: list[tuple[str, tuple[str, ...]]] = []
        self.keyring, self.database = open_cache(
            str(folder / "cache.db"), KeyFile(folder / "device.key"), recover=recover, vfs=vfs
        )
        try:
            self.leases = Leases(self.clock, self.keyring, self.database, cold_start)
            self.leases.witness.speaks(INCARNATION)
            self.consents = Consents(
                catalog, self.keyring, self.database, self.clock, self.leases, self._forget, step=step
            )
        except BaseException:
            self.database.close()
            raise

    def _forget(self, subject: str, purposes: Sequence[str]) -> Mapping[str, int]:
        self.forgotten.append((subject, tuple(purposes)))
        return {"memory": len(purposes)}

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- a server ---------------------------------------------------------------------------------------

    def enrol(self) -> Room:
        self.keyring.set_identity(
            Identity(
                device_id="kiosk-1",
                signing_seed=self.keyring.identity.signing_seed,
                pseudonym_key=TENANT_KEY,
                digest_key=bytes(32),
                server_key=seal.public_bytes(SERVER_KEY),
            )
        )
        return self

    def answered(self, duration_us: int = DAY_US) -> Room:
        """The server answered, the lane is drained and a lease granted."""
        self.leases.opened_by_server()
        self.leases.begin_request(b"r" * 16)
        self.leases.granted(self.lease(b"r" * 16, duration_us))
        return self

    def given(self, grant: int = 10) -> Room:
        """Alice gave here, and the ledger has numbered it."""
        decision = self.consents.give("alice", [P], notice="v1").decisions[0]
        self.consents.recorded(decision, grant, "recorded", grant)
        return self

    def lease(
        self,
        id: bytes,
        duration_us: int = DAY_US,
        upto: int | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> Lease:
        position = self.position() if upto is None else upto
        basis = self.leases.witness.basis
        first = 0 if basis is None else basis.head.size
        log = MadeUp(leaves(max(first, position)))
        return self.signed(
            Lease(
                id=id,
                duration_us=duration_us,
                upto=position,
                ledger=log.head(SERVER_KEY),
                consistency=log.proof(first),
                limits=dict(limits or {}),
                signature=bytes(64),
            )
        )

    def signed(self, lease: Lease) -> Lease:
        """`lease` with its signature."""
        body = seal.lease_bytes(self.keyring.identity.device_id, lease)
        return msgspec.structs.replace(lease, signature=seal.sign(SERVER_KEY, seal.LEASE, body))

    def entry(
        self,
        seq: int,
        state: str,
        *,
        grant: int = 0,
        denial: int = 0,
        subject: str = "alice",
        purpose: str = P,
        decision: bytes | None = None,
    ) -> LaneEntry:
        name = self.keyring.pseudonym(f"user:{subject}")
        return LaneEntry(seq, name, purpose, state, grant, denial, decision)

    def position(self) -> int:
        with self.database.read() as tx:
            return tx.lane_position()

    def decisions(self) -> list[Decision]:
        with self.database.read() as tx:
            return [msgspec.msgpack.decode(i.payload, type=Decision) for i in tx.outbox("decision")]

    def receipts(self) -> list[Receipt]:
        """What waits for the server, each verified."""
        with self.database.read() as tx:
            notes = [codec.decode(item.payload) for item in tx.outbox("receipt")]
        public_key = seal.public_bytes(self.keyring.signing_key())
        assert all(isinstance(note, ReceiptNote) for note in notes)
        return [open_receipt(n.receipt, n.signature, public_key) for n in notes if isinstance(n, ReceiptNote)]

    # ---- data -------------------------------------------------------------------------------------------

    def key(self, subject: str = "alice", purpose: str = P) -> DataKey:
        key = self.keyring.key(f"user:{subject}", purpose)
        assert key is not None
        return key

    def allowed(self, subject: str = "alice", purpose: str = P) -> bool:
        return self.consents.permission(f"user:{subject}", purpose).allowed

    def plant(self, text: str, subject: str = "alice", purpose: str = P) -> DataKey:
        """One row of every kind under the subject's key, holding `text`."""
        key = self.key(subject, purpose)
        with self.database.write("plant") as tx:
            tx.append_events([(key.handle, 1, key.seal("journal", key.handle, text.encode()))])
            tx.put_state(key.handle, b"s" * 16, 1, key.seal("state", b"s" * 16, text.encode()))
            tx.put_personal_row(key.handle, b"r" * 16, 1, key.seal("personal", b"r" * 16, text.encode()))
        return key

    def found(self, subject: str = "alice", purpose: str = P) -> list[str]:
        """Every planted text that opens."""
        key = self.keyring.key(f"user:{subject}", purpose)
        if key is None:
            return []
        with self.database.read() as tx:
            journal = [key.open("journal", key.handle, sealed) for _, sealed in tx.events(key.handle)]
            state = tx.state(key.handle, b"s" * 16)
            row = tx.personal_row(key.handle, b"r" * 16)
        states = [] if state is None else [key.open("state", b"s" * 16, state)]
        rows = [] if row is None else [key.open("personal", b"r" * 16, row)]
        return [plain.decode() for plain in (*journal, *states, *rows)]

    def rows(self) -> int:
        """Rows that hang on any handle, living or not."""
        with self.database.read() as tx:
            return sum(
                len(tx.events(h)) + len(tx.personal_rows(h)) + (tx.state(h, b"s" * 16) is not None)
                for h in tx.handles()
            )


def killed(work: Callable[[], None]) -> bool:
    """Run `work` in a child process; whether it was killed (by `die`) rather than came to its end."""
    child = os.fork()
    if child == 0:
        gc.disable()  # a short life: looking through all that a long run holds would copy it
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed"
    return os.WIFSIGNALED(status)


def die() -> None:
    """kill -9 on this very process."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(point: str) -> Callable[[str], None]:
    """A step hook that kills at one named point."""

    def step(name: str) -> None:
        if name == point:
            die()

    return step
