"""What does one aggregate report cost a device: bytes on the wire, bytes at rest, and time?

One row a kind of metric, all at epsilon 1, on an encrypted file in a temporary folder with every part real
but the network and the consent room: the noise is drawn, the report sealed to a collector (HPKE), sealed
again for the disk, the budget debited, and all of it committed. `alone` is a report that comes by itself,
with a commit of its own; `in 30` the time for each of thirty subjects whose tickets come in one message, in
curator mode in one report. Times are of the processor; waiting for the disk, once a commit, is not in them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bench.measure import table
from edge_runtime.aggregates.chance import system_bits
from edge_runtime.aggregates.mechanisms import curator_for, definition, mechanism_for, question_of
from edge_runtime.aggregates.report import Reporter
from edge_runtime.aggregates.unsent import Delay, Unsent, seal_unsent
from edge_runtime.cache.database import Database
from edge_runtime.catalog import Catalog
from edge_runtime.clock import SystemClock
from edge_runtime.consent.opening import open_cache
from edge_runtime.keys.datakey import new_facts
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.providers import KeyFile
from edge_runtime.serving.status import Status
from edge_runtime.settings import Settings
from edge_runtime.wire import codec, seal
from edge_runtime.wire.messages import Report, RoundOffer, TicketGrant, Tickets
from edge_runtime.wire.sealed_report import Answered, seal_report

SUBJECTS: Final = 30
ROUNDS: Final = 11
REPEATS: Final = 40
HOUR_US: Final = 3_600_000_000
SERVER: Final = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
COLLECTOR: Final = X25519PrivateKey.from_private_bytes(b"c" * 32)
PURPOSES: Final = ("measurement", "personalization")
_COMMON: Final = {"purpose": "measurement", "of": "spending:spend", "epsilon": 1.0, "min_subjects": 5}
METRICS: Final[dict[str, dict[str, object]]] = {
    "histogram K=4": {"kind": "histogram", "edges": [25, 50, 75]},
    "histogram K=16": {"kind": "histogram", "edges": [6 * n for n in range(1, 16)]},
    "histogram K=256": {"kind": "histogram", "edges": [0.4 * n for n in range(1, 256)]},
    "mean": {"kind": "mean", "bounds": [0, 100]},
    "quantile 64 leaves": {"kind": "quantile", "bounds": [0, 100], "leaves": 64, "quantiles": [0.5]},
    "curator K=16, 30 subjects": {
        "kind": "histogram",
        "mode": "curator",
        "edges": [6 * n for n in range(1, 16)],
    },
}


@dataclass(frozen=True, slots=True)
class Cost:
    """One row. Bytes of one report; times in microseconds, medians."""

    metric: str
    mechanism: str
    subjects: int
    """Whom one report covers."""
    answer_bytes: int
    sealed_bytes: int
    """Padded and sealed to the collector."""
    frame_bytes: int
    """As it is sent, before TLS and the carrier."""
    stored_bytes: int
    """At rest."""
    draw_us: float
    seal_us: float
    """To the collector."""
    rest_us: float
    """Sealed under the subjects' data keys."""
    alone_us: float
    """Everything, from the ticket to the commit."""
    each_us: float
    """The same of each when thirty subjects' tickets come together."""


def run() -> dict[str, object]:
    """Measure, print the table; returns the rows."""
    rows = report_costs()
    print(_report(rows))
    return {"bench": "report_cost", "epsilon": 1, "rows": [asdict(row) for row in rows]}


def report_costs() -> list[Cost]:
    """One row for each of `METRICS`."""
    return [_cost(name) for name in METRICS]


def _cost(name: str) -> Cost:
    with _opened(name) as device:
        alone, together = device.answer()
        drawn, answer = _timed(device.draw)
        sealing, sealed = _timed(lambda: device.sealed(answer))
        resting, stored = _timed(lambda: device.rested(sealed))
        subjects = SUBJECTS if device.question.mode == "curator" else 1
        return Cost(
            metric=name,
            mechanism=device.question.mechanism,
            subjects=subjects,
            answer_bytes=len(answer),
            sealed_bytes=len(sealed),
            frame_bytes=len(codec.encode(Report(round_id=device.offer.round_id, sealed=[sealed]))),
            stored_bytes=len(stored),
            draw_us=drawn,
            seal_us=sealing,
            rest_us=resting,
            alone_us=alone,
            each_us=together,
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    value: object = 42.0
    status: Status = Status.PRESENT
    event_time: int | None = None
    complete_from: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Permit:
    allowed: bool = True


class _Consents:
    """Everybody said yes."""

    def permission(self, subject: str, purpose: str) -> _Permit:
        return _Permit()


class _Device:
    def __init__(self, catalog: Catalog, keyring: Keyring, database: Database) -> None:
        self._keyring, self._clock = keyring, SystemClock()
        self._people = [f"user:bench-{n}" for n in range(3 * SUBJECTS)]
        for purpose in PURPOSES:
            keyring.create([(person, _facts(keyring, purpose)) for person in self._people])
        self.metric = catalog.metrics["asked"]
        self.question = question_of(self.metric)
        settings = Settings()
        self.reporter = Reporter(
            catalog,
            database,
            keyring,
            _Consents(),
            lambda *_: _Reading(),
            self._clock,
            system_bits,
            settings.report_spread_us,
            settings.remembered_answers,
        )
        self.offer = self._offered()

    def answer(self) -> tuple[float, float]:
        """Median microseconds of a report by itself, and of each when thirty subjects have tickets."""
        self.reporter.on_offer(self.offer)
        while self.reporter.more():
            pass
        if self.question.mode == "curator":
            took = [self._tickets(self._people[n * SUBJECTS : (n + 1) * SUBJECTS]) for n in range(3)]
            return median(took), median(took) / SUBJECTS
        ones = [self._tickets([person]) for person in self._people[:SUBJECTS]]
        groups = [self._people[SUBJECTS : 2 * SUBJECTS], self._people[2 * SUBJECTS :]]
        return median(ones), median(self._tickets(group) / SUBJECTS for group in groups)

    def _tickets(self, people: list[str]) -> float:
        names = [self._keyring.pseudonym(person) for person in people]
        granted = [TicketGrant(name, bytes(b ^ 1 for b in name)) for name in names]
        tickets = Tickets(round_id=self.offer.round_id, granted=granted)
        before = time.process_time()
        self.reporter.on_tickets(tickets)
        return (time.process_time() - before) * 1e6

    def draw(self) -> bytes:
        """One answer, as it is drawn for this question."""
        if self.question.mode == "curator":
            return curator_for(self.question).noised([n % 16 for n in range(SUBJECTS)], system_bits)
        return mechanism_for(self.question).randomize(2, system_bits)

    def sealed(self, answer: bytes) -> bytes:
        """An answer with its tickets, for the collector."""
        tickets = [bytes([n] * 16) for n in range(SUBJECTS if self.question.mode == "curator" else 1)]
        answered = Answered(self.offer.definition, tickets, answer)
        return seal_report(self.offer.collector, self.offer.round_id, answered)

    def rested(self, sealed: bytes) -> bytes:
        """The same for the disk, under the data keys of whom it covers."""
        people = self._people[: SUBJECTS if self.question.mode == "curator" else 1]
        found = (self._keyring.key(person, purpose) for person in people for purpose in PURPOSES)
        keys = [key for key in found if key is not None]
        unsent = Unsent(self.offer.round_id, self.offer.metric, self.offer.closes_at_us, sealed)
        return seal_unsent(unsent, Delay(0, 0), keys, self._keyring)

    def _offered(self) -> RoundOffer:
        bare = RoundOffer(
            round_id=bytes(16),
            metric="asked",
            definition=definition(self.metric),
            closes_at_us=self._clock.now_us() + HOUR_US,
            collector=COLLECTOR.public_key().public_bytes_raw(),
            signature=bytes(64),
        )
        return msgspec.structs.replace(bare, signature=seal.sign(SERVER, seal.OFFER, seal.offer_bytes(bare)))


@contextmanager
def _opened(name: str) -> Iterator[_Device]:
    with TemporaryDirectory() as folder:
        keyring, database = open_cache(str(Path(folder) / "cache.db"), KeyFile(Path(folder) / "device.key"))
        enrolled = msgspec.structs.replace(
            keyring.identity, pseudonym_key=b"t" * 32, server_key=seal.public_bytes(SERVER)
        )
        keyring.set_identity(enrolled)
        try:
            yield _Device(_catalog(METRICS[name]), keyring, database)
        finally:
            database.close()
            keyring.close()


def _catalog(metric: dict[str, object]) -> Catalog:
    consent = {"title": "t", "legal_basis": "consent", "lease": "24h", "retention": "30d"}
    spending = {
        "version": 1,
        "entity": "user",
        "source": "server",
        "purpose": "personalization",
        "ttl": "7d",
        "owner": "bench",
        "features": {"spend": {"dtype": "float64"}},
    }
    return Catalog.from_dict(
        {
            "catalog": {"name": "bench", "version": 1},
            "purposes": dict.fromkeys(PURPOSES, consent),
            "entities": {"user": {"personal": True}},
            "views": {"spending": spending},
            "metrics": {"asked": {**_COMMON, **metric}},
        }
    )


def _facts(keyring: Keyring, purpose: str) -> Any:
    ordinal = keyring.next_ordinal()
    return new_facts(purpose, bytes(16), "1", base=0, at_us=0, grant=0, ordinal=ordinal)


def _timed(work: Callable[[], bytes]) -> tuple[float, bytes]:
    """Median microseconds of one call, and what it gave last."""
    times, made = [], work()
    for _ in range(ROUNDS):
        before = time.process_time()
        for _ in range(REPEATS):
            made = work()
        times.append((time.process_time() - before) * 1e6 / REPEATS)
    return median(times), made


def _report(rows: list[Cost]) -> str:
    heading = ("metric", "mechanism", "answer", "sealed", "frame", "at rest", "draw", "seal", "rest")
    lines: list[tuple[str, ...]] = [(*heading, "alone", "in 30")]
    for r in rows:
        sizes = (r.answer_bytes, r.sealed_bytes, r.frame_bytes, r.stored_bytes)
        times = (r.draw_us, r.seal_us, r.rest_us, r.alone_us, r.each_us)
        told = (*(f"{size:,} B" for size in sizes), *(f"{took:,.0f} us" for took in times))
        lines.append((r.metric, r.mechanism, *told))
    return table(lines)


if __name__ == "__main__":
    print(json.dumps(run()))
