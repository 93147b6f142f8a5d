"""A real runtime whose subjects are counted: enrolled, with a lease, and a server that only signs.

Open it again in the same folder to see what rests there. Only the network is left out: offers and tickets are
handed to the reporter that the runtime itself makes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

import edge_runtime as er
from edge_runtime.aggregates.mechanisms import definition
from edge_runtime.aggregates.report import Reporter
from edge_runtime.cache.records import OutboxItem
from edge_runtime.catalog import Catalog
from edge_runtime.keys.identity import Identity
from edge_runtime.keys.vault import no_step
from edge_runtime.wire import seal
from edge_runtime.wire.messages import Lease, Report, RoundOffer
from tests.support.aggregate_ends import COLLECTOR, HOUR_US, grant, requests
from tests.support.clock import ManualClock
from tests.support.consent_room import DAY_US, SERVER_KEY, TENANT_KEY
from tests.support.ledgers import INCARNATION, MadeUp
from tests.support.shop import BASE_US, SHOP

M, P = "measurement", "personalization"
METRICS = """
[metrics.views_band]
purpose = "measurement"
kind = "histogram"
of = "activity:views"
buckets = [1, 3, 10]
epsilon = 1.0
min_subjects = 2

[metrics.kiosk_views]
purpose = "measurement"
kind = "histogram"
mode = "curator"
of = "activity:views"
buckets = [1, 3, 10]
epsilon = 1.0
min_subjects = 2

[experiments.banner]
purpose = "measurement"
unit = "user"
arms = { control = 1, treatment = 1 }
outcome = "activity:depth"
epsilon = 1.0
min_subjects = 2
"""


class Measured:
    """One runtime in `folder` whose rounds a test answers by hand."""

    def __init__(
        self,
        folder: Path,
        *,
        step: Callable[[str], None] = no_step,
    ) -> None:
        self.clock = ManualClock(BASE_US)
        self.rt = er.Runtime.open(
            folder / "cache.db",
            catalog=Catalog.from_toml(SHOP + METRICS),
            key=er.KeyFile(folder / "device.key"),
            clock=self.clock,
            settings=er.Settings(report_spread_us=0),
        )
        self.rt._consents._eraser._step = step
        self.rounds = 0
        self.enrol()
        self.reporter: Reporter = self.rt._far_side._reporter()

    def __enter__(self) -> Measured:
        return self

    def __exit__(self, *_: object) -> None:
        self.rt.close()

    def enrol(self) -> None:
        """The server answered, and granted a day's lease."""
        keyring = self.rt._keyring
        if not keyring.enrolled:
            identity = Identity(
                device_id="kiosk-1",
                signing_seed=keyring.identity.signing_seed,
                pseudonym_key=TENANT_KEY,
                digest_key=bytes(32),
                server_key=seal.public_bytes(SERVER_KEY),
            )
            keyring.set_identity(identity)
        leases, id_ = self.rt._leases, bytes(16)
        leases.opened_by_server()
        leases.witness.speaks(INCARNATION)
        leases.begin_request(id_)
        with self.rt._database.read() as tx:
            upto = tx.lane_position()
        bare = Lease(
            id=id_,
            duration_us=DAY_US,
            upto=upto,
            ledger=MadeUp([]).head(SERVER_KEY),
            consistency=[],
            limits={},
            signature=bytes(64),
        )
        body = seal.lease_bytes("kiosk-1", bare)
        leases.granted(msgspec.structs.replace(bare, signature=seal.sign(SERVER_KEY, seal.LEASE, body)))

    def give(self, *subjects: str) -> None:
        """They say yes to both purposes and look at something."""
        for subject in subjects:
            self.rt.consent.give(subject, [P, M], notice="v1")
            assert self.rt.track("view", user=subject, item="i-1") is er.ACCEPTED
        self.rt.flush()

    def offer(self, metric: str = "views_band", closes_in_us: int = HOUR_US) -> RoundOffer:
        """A new round."""
        self.rounds += 1
        bare = RoundOffer(
            round_id=(self.rounds + self.clock.now_us()).to_bytes(16, "big"),
            metric=metric,
            definition=definition(self.rt.catalog.metrics[metric]),
            closes_at_us=self.clock.now_us() + closes_in_us,
            collector=COLLECTOR.public_key().public_bytes_raw(),
            signature=bytes(64),
        )
        signature = seal.sign(SERVER_KEY, seal.OFFER, seal.offer_bytes(bare))
        return msgspec.structs.replace(bare, signature=signature)

    def answer(self, metric: str = "views_band") -> list[Report]:
        """A new round, answered by everybody who may: what may be sent at once."""
        offer = self.offer(metric)
        due = list[Report]()
        for request in requests(self.reporter, offer):
            due = self.reporter.on_tickets(grant(offer, request.subjects))
        return due

    def stored(self) -> list[OutboxItem]:
        """Reports that rest in the outbox."""
        with self.rt._database.read() as tx:
            return tx.outbox("report")

    def counts(self) -> dict[str, int]:
        """What the runtime's status says of them, without what is zero."""
        found = self.rt.status()["aggregates"]
        assert isinstance(found, dict)
        return {name: count for name, count in found.items() if count}
