"""Both ends of the aggregates room for tests: a kiosk over a real cache, an office over a real store.

Permissions and decisions are put straight in; everything else is the production code.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_runtime.aggregates.mechanisms import definition, frequencies_for, question_of
from edge_runtime.aggregates.report import Reporter
from edge_runtime.cache.database import Database
from edge_runtime.catalog import Catalog
from edge_runtime.consent.opening import open_cache
from edge_runtime.keys.datakey import DataKey, new_facts
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.providers import KeyMemory
from edge_runtime.serving.status import Status
from edge_runtime.settings import Settings as DeviceSettings
from edge_runtime.wire import seal
from edge_runtime.wire.messages import Report, RoundOffer, TicketGrant, TicketRequest, Tickets
from edge_runtime.wire.sealed_report import Answered, open_report, seal_report
from sync_server.aggregates.collector import Collector
from sync_server.aggregates.intake import Brought, bring
from sync_server.aggregates.release import Release
from sync_server.aggregates.rounds import Rounds
from sync_server.settings import Settings
from sync_server.store.records import DeviceRow
from sync_server.store.sqlite import SqliteStore
from tests.support.clock import ManualClock

HOUR_US = 3_600_000_000
SIGNING = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
"""What the office signs offers with."""
COLLECTOR = X25519PrivateKey.from_private_bytes(b"c" * 32)
"""What reports are sealed to."""
PURPOSES = ("measurement", "personalization")
REMEMBERED = DeviceSettings().remembered_answers
COUNTRIES = ("UK", "DE", "FR", "other")


def metric_catalog(
    *,
    epsilon: float = 1.0,
    minimum: int = 3,
    names: int = 1,
    window: str = "1d",
    version: int = 1,
    mode: str = "local",
    absent: str | None = None,
) -> Catalog:
    """`names` histograms of one server feature (`countries_0` …), `counted`, and `kiosk_countries` in curator
    mode; `absent` is what the histograms count where there is no value."""
    consent = {"title": "t", "legal_basis": "consent", "lease": "24h", "retention": "30d"}
    metric = {
        "purpose": "measurement",
        "kind": "histogram",
        "of": "profile:country",
        "epsilon": epsilon,
        "min_subjects": minimum,
        "window": window,
        "mode": mode,
    }
    profile = {
        "version": 1,
        "entity": "user",
        "source": "server",
        "purpose": "personalization",
        "ttl": "7d",
        "owner": "crm",
        "features": {"country": {"dtype": "string", "values": list(COUNTRIES), "default": "other"}},
    }
    counted = {**metric, "kind": "count"}
    metric |= {} if absent is None else {"absent": absent}
    others = {"counted": counted, "kiosk_countries": {**metric, "mode": "curator"}}
    return Catalog.from_dict(
        {
            "catalog": {"name": "shop", "version": version},
            "purposes": {"personalization": consent, "measurement": consent},
            "entities": {"user": {"personal": True}},
            "views": {"profile": profile},
            "metrics": {**{f"countries_{i}": metric for i in range(names)}, **others},
        }
    )


def destroy(keyring: Keyring, key: DataKey) -> None:
    """What the erasure does to a key, without its ceremony."""
    name, ordinal = keyring.pseudonym(key.subject), keyring.next_ordinal()
    keyring.destroy([Denial(secrets.token_bytes(16), name, key.purpose, "withdrawn", "n", 0, 0, ordinal)])


@dataclass
class Value:
    """What a kiosk reads of a subject."""

    value: object
    status: Status = Status.PRESENT
    event_time: int | None = None
    complete_from: int | None = None
    reason: str = ""


@dataclass
class Allowed:
    """A permission's verdict."""

    allowed: bool


@dataclass
class Permissions:
    """Given unless denied."""

    denied: set[tuple[str, str]] = field(default_factory=set)

    def permission(self, subject: str, purpose: str) -> Allowed:
        return Allowed((subject, purpose) not in self.denied)


def closed(collector: Collector, round_id: bytes) -> Release:
    """The release of a round that is closed now, from outside of any event loop."""
    return asyncio.run(collector.close(round_id))


class Kiosk:
    """One device's aggregates room over a real encrypted cache in memory."""

    def __init__(
        self,
        subjects: int = 1,
        *,
        of: Catalog | None = None,
        seed: int = 7,
        tenant_key: bytes = b"t" * 32,
        clock: ManualClock | None = None,
        spread_us: int = 0,
        remembered: int = REMEMBERED,
        cache: tuple[Keyring, Database] | None = None,
    ) -> None:
        self.remembered = remembered
        self.catalog = of or metric_catalog()
        self.spread_us = spread_us
        self.keyring, self.database = cache or open_cache(":memory:", KeyMemory())
        enrolled = msgspec.structs.replace(
            self.keyring.identity, pseudonym_key=tenant_key, server_key=seal.public_bytes(SIGNING)
        )
        if self.keyring.identity != enrolled:
            self.keyring.set_identity(enrolled)
        self.clock, self.permissions = clock or ManualClock(), Permissions()
        self.values: dict[str, Value] = {}
        self.draws, self._rng = 0, random.Random(seed)
        for i in range(subjects):
            self.add(f"user:u{i}")
        self.restart()

    def add(self, subject: str, country: str = "DE", purposes: Sequence[str] = PURPOSES) -> None:
        """The subject says yes to both purposes, and the server's row arrives."""
        for purpose in purposes:
            ordinal = self.keyring.next_ordinal()
            facts = new_facts(purpose, bytes(16), "1", base=0, at_us=0, grant=0, ordinal=ordinal)
            self.keyring.create([(subject, facts)])
        self.values[subject] = Value(country)

    def erase(self, subject: str) -> int:
        """What the eraser does here: drop the unsent reports, then the keys; returns the reports dropped."""
        dropped = self.reporter.drop(subject)
        for key in self.keyring.keys_of(subject):
            destroy(self.keyring, key)
        self.permissions.denied |= {(subject, purpose) for purpose in PURPOSES}
        return dropped

    def restart(self, of: Catalog | None = None) -> Reporter:
        self.catalog = of or self.catalog
        self.reporter = Reporter(
            self.catalog,
            self.database,
            self.keyring,
            self.permissions,
            lambda ref, subject: self.values[subject],
            self.clock,
            self.bits,
            self.spread_us,
            self.remembered,
        )
        return self.reporter

    def bits(self, n: int) -> int:
        self.draws += 1
        return self._rng.randrange(n)

    def offer(self, number: int = 1, metric: str = "countries_0", closes_in_us: int = HOUR_US) -> RoundOffer:
        bare = RoundOffer(
            round_id=number.to_bytes(16, "big"),
            metric=metric,
            definition=definition(self.catalog.metrics[metric]),
            closes_at_us=self.clock.now_us() + closes_in_us,
            collector=COLLECTOR.public_key().public_bytes_raw(),
            signature=bytes(64),
        )
        return signed_offer(bare)

    def answer(self, offer: RoundOffer) -> list[Report]:
        """Offer, requests, and a ticket for whoever asked."""
        due = list[Report]()
        for request in requests(self.reporter, offer):
            due = self.reporter.on_tickets(grant(offer, request.subjects))
        return due

    def spent(self) -> int:
        """Everything debited under any tag on any day, round marks left out."""
        with self.database.read() as tx:
            rows = tx._connection.execute("SELECT spent FROM budget WHERE spent > 1")
            return sum(int(str(row[0])) for row in rows)


def requests(reporter: Reporter, offer: RoundOffer) -> list[TicketRequest]:
    """Everything that is asked in a round, as the ticks ask it; of at most 2,000 subjects."""
    first = reporter.on_offer(offer)
    return [*([] if first is None else [first]), *(more for _ in range(50) for more in reporter.more())]


def signed_offer(offer: RoundOffer) -> RoundOffer:
    """As the office says it."""
    signature = seal.sign(SIGNING, seal.OFFER, seal.offer_bytes(offer))
    return msgspec.structs.replace(offer, signature=signature)


def opened(report: Report) -> Answered:
    """What the collector reads in a report."""
    (sealed,) = report.sealed
    return open_report(COLLECTOR, report.round_id, sealed)


def grant(offer: RoundOffer, subjects: list[bytes]) -> Tickets:
    """A ticket for each; the ticket is a function of round and subject, as a server's would stay the same."""
    made = [TicketGrant(s, bytes(a ^ b for a, b in zip(s, offer.round_id, strict=True))) for s in subjects]
    return Tickets(round_id=offer.round_id, granted=made)


def device(name: str) -> DeviceRow:
    """An enrolled device as the store knows it."""
    return DeviceRow(name, bytes(32), ("all",), 0, None, 0, 0, 0, False)


A, B = device("kiosk-a"), device("kiosk-b")


class Office:
    """The aggregates room over a real store, with decisions put straight into the lane."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.rng = ManualClock(), random.Random(5)
        self.store = SqliteStore(
            folder / "server.db", folder / "keys.db", digest_key=bytes(32), entropy=self.rng.randbytes
        )
        keys = (b"k" * 32, SIGNING, COLLECTOR.public_key())
        self.rounds = Rounds(self.clock, self.rng.randbytes, *keys)
        settings = Settings(data_dir=folder)
        self.collector = Collector(settings, self.store, self.rounds, COLLECTOR, lambda: None)
        self.catalog = metric_catalog()
        self.question = question_of(self.catalog.metrics["countries_0"])
        self.mechanism = frequencies_for(self.question)
        self._seq = 0

    def decide(self, subject: bytes, state: str, purposes: Sequence[str] = PURPOSES) -> None:
        with self.store.write("decide") as tx:
            for purpose in purposes:
                self._seq += 1
                tx.execute(
                    "INSERT OR REPLACE INTO lane (subject, purpose, seq, state, grant_seq, denial)"
                    " VALUES (?, ?, ?, ?, 0, 0)",
                    (subject, purpose, self._seq, state),
                )

    def subjects(self, count: int) -> list[bytes]:
        made = [i.to_bytes(16, "big") for i in range(1, count + 1)]
        for subject in made:
            self.decide(subject, "given")
        return made

    def open(self, metric: str = "countries_0", closes_in_us: int = HOUR_US) -> bytes:
        with self.store.write("open") as tx:
            return self.rounds.open(tx, self.catalog.model, metric, closes_in_us)[0].id

    def tickets(self, round_id: bytes, subjects: list[bytes], who: DeviceRow = A) -> Tickets:
        with self.store.write("tickets") as tx:
            return self.rounds.issue_tickets(tx, who, TicketRequest(round_id=round_id, subjects=subjects))

    def report(
        self, round_id: bytes, ticket: bytes, answer: bytes | None = None, who: DeviceRow = A
    ) -> Brought:
        """One report is brought, and whatever waits is opened."""
        brought = self.bring(round_id, [self.sealed(round_id, [ticket], answer)], who)
        self.collect()
        return brought

    def sealed(self, round_id: bytes, tickets: list[bytes], answer: bytes | None = None) -> bytes:
        """As a device seals it."""
        made = self.mechanism.randomize(1, self.rng.randrange) if answer is None else answer
        asked = definition(self.catalog.metrics["countries_0"])
        public = COLLECTOR.public_key().public_bytes_raw()
        return seal_report(public, round_id, Answered(asked, tickets, made))

    def bring(self, round_id: bytes, sealed: list[bytes], who: DeviceRow = A) -> Brought:
        """Over the desk, in one message."""
        with self.store.write("report") as tx:
            return bring(tx, self.rounds, who.device_id, Report(round_id=round_id, sealed=sealed))

    def collect(self) -> None:
        """Open everything that waits."""
        while self.collector.step(0):
            pass

    def close(self, round_id: bytes) -> Release:
        return closed(self.collector, round_id)

    def counted(self, round_id: bytes) -> int:
        with self.store.read() as tx:
            row = tx.aggregates.round(round_id)
        assert row is not None
        return row.subjects

    def refused(self, round_id: bytes) -> dict[str, int]:
        with self.store.read() as tx:
            return dict(tx.aggregates.refusals(round_id))

    def everything(self) -> bytes:
        """All values of all aggregate tables, joined."""
        with self.store.read() as tx:
            tables = [
                *("rounds", "sealed", "taken", "tallies", "refusals"),
                *("tickets", "allowances", "homes", "spends", "releases"),
            ]
            rows = [r for t in tables for r in tx.execute(f"SELECT * FROM aggregate_{t}")]
        return b"|".join(v if isinstance(v, bytes) else str(v).encode() for row in rows for v in row)
