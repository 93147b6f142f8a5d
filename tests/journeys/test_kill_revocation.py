"""kill -9 on the server at every place between accept and complete: nothing is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import sqlite3
import threading
import time
from pathlib import Path

from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import Side, State, advance
from edge_runtime.wire.receipt import Receipt, receipt_bytes
from sync_server.client import Client, Patience
from sync_server.consent.documents import RevocationAccepted
from sync_server.consent.signed_document import SignedDocument
from sync_server.load.device import SimDevice
from sync_server.load.fleet import Fleet
from tests.support.mortal import Mortal
from tests.support.raw_device import RawDevice

P = "personalization"
PATIENCE = Patience(total_s=30, first_s=0.01, most_s=0.02)
MOST_PLACES = 60
SEED = 20261130


class Answering:
    """A device with a lease that follows the lane, and answers each denial until it is acknowledged."""

    def __init__(self, url: str, device: SimDevice) -> None:
        self._url, self._device, self._owed = url, device, dict[bytes, m.ReceiptNote]()
        self._stopped = threading.Event()
        self._raw: RawDevice | None = None
        self.broke: Exception | None = None
        device.on_lane = self._denied
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def settle(self) -> None:
        """Wait until it has its lease from the present server, and nothing more to say."""
        until_s = time.monotonic() + 30
        while not (self._device.fresh and not self._owed):
            assert time.monotonic() < until_s, self.broke
            time.sleep(0.005)

    def close(self) -> None:
        """Hang up for good."""
        self._stopped.set()
        if self._raw is not None:
            with contextlib.suppress(OSError):
                self._raw.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        assert self.broke is None, self.broke

    def _denied(self, lane: m.Lane) -> None:
        for entry in lane.entries:
            if entry.grant == 0:
                receipt = self._receipt(entry)
                body = receipt_bytes(receipt)
                signature = seal.sign(self._device.enrolled.key, seal.RECEIPT, body)
                self._owed[receipt.id] = m.ReceiptNote(receipt=body, signature=signature)

    def _receipt(self, entry: m.LaneEntry) -> Receipt:
        return Receipt(
            v=1,
            id=hashlib.blake2b(b"%d" % entry.seq, digest_size=16).digest(),
            kind="erased",
            device_id=self._device.enrolled.device_id,
            subject=entry.subject,
            purposes=[entry.purpose],
            denials=[entry.seq],
            decisions=[],
            keys_destroyed=1,
            rows_deleted={},
            counter_before=0,
            counter_after=1,
            canary_unreadable=True,
            assurance="file",
            cold_start="server",
            at_us=entry.seq,
        )

    def _live(self) -> None:
        try:
            while not self._stopped.wait(0.005):
                with contextlib.suppress(OSError, AssertionError):  # nobody there, or gone in the handshake
                    self._raw = RawDevice(self._url, self._device)
                    self._session(self._raw)
                if self._raw is not None:
                    self._raw.close()
                    self._device.end()
        except Exception as error:  # noqa: BLE001 - told to the test when it ends
            self.broke = error

    def _session(self, raw: RawDevice) -> None:
        told = set[bytes]()
        while not self._stopped.is_set():
            message = codec.decode(raw.take())
            if isinstance(message, m.ReceiptAck):
                self._owed.pop(message.id, None)
            if self._device.state is not State.LIVE:
                continue
            for name in set(self._owed) - told:
                note = self._owed[name]
                self._device.state = advance(self._device.state, Side.DEVICE, note)
                raw.say(codec.encode(note))
                told.add(name)


def enrolled(client: Client) -> SimDevice:
    async def one() -> SimDevice:
        async with Fleet(client.url, client.token, random.Random(SEED), leases=True) as fleet:
            await fleet.enrol(1, whole=0)
            return fleet.members[0].device

    return asyncio.run(one())


class Journey:
    """One subject after another gives, has a row here, and withdraws; each time the server dies elsewhere."""

    def __init__(self, server: Mortal) -> None:
        self.server, self.client = server, _patient(server.start())
        self.root = self.client.consent.head().root_fingerprint
        self.accepted: dict[str, RevocationAccepted] = {}
        self.completed: dict[str, SignedDocument] = {}
        self.places: list[str] = []
        self.device = Answering(server.url, enrolled(self.client))
        self.device.settle()

    def withdraw(self, place: int) -> bool:
        """One subject withdraws while the server dies at `place`; False when there was no such place."""
        name = f"subject{place}"
        self.server.kill()
        self.server.start(kill_at=place)
        given = self.client.consent.give(name, P, notice="2026-11")
        row = {"entity": f"user:{name}", "event_time": 1, "values": {"country": "DE"}}
        body = {"view": "profile", "rows": [row], "as_of": given.seq}
        assert self.client.call("POST", "/v1/features", body)["accepted"] == 1
        self.device.settle()
        self.server.arm()
        worker = threading.Thread(target=self._revoke, args=(name,))
        worker.start()
        places = self.server.survive(worker)
        self.places += places
        assert name in self.completed
        return bool(places)

    def _revoke(self, name: str) -> None:
        consent = self.client.consent
        made = self.accepted[name] = consent.revoke(name)
        consent.wait_for(made.id, "completed", timeout_s=30, every_s=0.01)
        self.completed[name] = consent.receipt(made.id)

    def check(self) -> None:
        """Each subject was revoked once; every statement ever given holds, and nothing else is said now."""
        consent = self.client.consent
        assert sorted(r.id for r in consent.revocations()) == sorted(r.id for r in self.accepted.values())
        for name, made in self.accepted.items():
            first = consent.verify(made.receipt, self.root).proven
            last = consent.verify(self.completed[name], self.root).proven
            assert (first.id, first.subject, first.denials) == (last.id, last.subject, last.denials)
            assert {r.device_id for r in last.receipts} == {t.device_id for t in consent.targets(made.id)}
            assert consent.receipt(made.id) == self.completed[name], "it never says anything else"
            states = consent.look(name).states
            assert {s.state for s in states.values()} == {"withdrawn"}
            size = made.receipt.statement["head"]["size"]
            shown = self.client.call("GET", f"/v1/consent-ledger/proof?first={size}")
            assert shown["first_root"] == made.receipt.statement["head"]["root"], "the log went on from there"


def _patient(client: Client) -> Client:
    return Client(client.url, client.token, patience=PATIENCE)


def check_files(data: Path, journey: Journey) -> None:
    """No key, row or promise is left; every denial belongs to one revocation, and one receipt answers it."""
    with sqlite3.connect(data / "server.db") as main, sqlite3.connect(data / "keys.db") as keys:
        for query in (
            "SELECT * FROM key_erasures",
            "SELECT * FROM rows WHERE subject IS NOT NULL",
            "SELECT * FROM revocations WHERE server_erased_us IS NULL OR completed_us IS NULL",
            "SELECT * FROM targets WHERE acked_us IS NULL OR erased_us IS NULL",
            "SELECT * FROM denials WHERE seq NOT IN (SELECT denial FROM answers)",
            "SELECT * FROM idempotency WHERE status = 0",
        ):
            assert main.execute(query).fetchall() == [], query
        assert keys.execute("SELECT * FROM payload_keys").fetchall() == []
        denied = main.execute("SELECT count(*) FROM evidence WHERE state = 'withdrawn'").fetchone()[0]
        answered = main.execute("SELECT count(*) FROM receipts").fetchone()[0]
    main.close()
    keys.close()
    assert denied == answered == 2 * len(journey.accepted), "two purposes each"


def test_law_6_a_server_killed_between_accept_and_complete_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Before and after every commit on the way, until there is none left to die at."""
    with Mortal(tmp_path) as server:
        journey = Journey(server)
        try:
            places = iter(range(1, MOST_PLACES))
            while journey.withdraw(next(places)):
                pass
            server.kill()
            server.start()
            journey.check()
        finally:
            journey.device.close()
    check_files(tmp_path, journey)
    print(journey.places)
    wanted = {"revoke", "destroy", "keys_erased", "erased", "lane_ack", "receipt", "_flush"}
    assert {place.split()[1] for place in journey.places} >= wanted
    assert {place.split()[0] for place in journey.places} == {"before", "after"}
