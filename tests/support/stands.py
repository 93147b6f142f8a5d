"""Kiosks that answer aggregate rounds in a simulated town, and the server's side of a round."""

from __future__ import annotations

import random
from pathlib import Path

from edge_runtime.aggregates.report import Reporter
from edge_runtime.wire import messages as m
from sync_server.aggregates.release import Release
from tests.support.aggregate_ends import HOUR_US, PURPOSES, REMEMBERED, Value, closed, metric_catalog
from tests.support.town import Kiosk, Session, Town

CATALOG = metric_catalog(minimum=3)
METRIC = "countries_0"
PEOPLE = [f"user:p{i}" for i in range(4)]


class Stand:
    """A kiosk with an aggregates room, and the session it is in."""

    def __init__(self, town: Town, folder: Path, seed: int, *, spread_us: int = 0) -> None:
        self.spread_us = spread_us
        self.kiosk = Kiosk(town, folder, catalog=CATALOG)
        self._bits = random.Random(seed).randrange
        self.session = self.connect()

    def connect(self) -> Session:
        """A new session with a reporter that has just started, as after a restart of the app."""
        k = self.kiosk
        self.reporter = Reporter(
            k.catalog,
            k.database,
            k.keyring,
            k.consents,
            lambda *_: Value("DE"),
            k.clock,
            self._bits,
            self.spread_us,
            REMEMBERED,
        )
        self.session = Session(k, self.reporter)
        return self.session

    def give(self, subject: str) -> None:
        for purpose in PURPOSES:
            self.kiosk.give(subject, purpose)

    def close(self) -> None:
        self.session.close()
        self.kiosk.close()


def open_round(town: Town, metric: str = METRIC) -> bytes:
    with town.store.write("open") as tx:
        row, _ = town.rounds.open(tx, CATALOG.model, metric, HOUR_US)
    town.node.hints.rounds_moved()
    return row.id


def close_round(town: Town, round_id: bytes) -> Release:
    return closed(town.collector, round_id)


def settle(stands: list[Stand]) -> None:
    for stand in stands:
        stand.session.settle()


def draw(town: Town, stand: Stand) -> list[m.Report]:
    """Offer, request, tickets and stored answers, of which none leaves: the line drops right then."""
    with town.store.read() as tx:
        (offer,) = town.rounds.offers(tx)
    request = stand.reporter.on_offer(offer)
    assert request is not None
    with town.store.write("tickets") as writing:
        device = writing.device(stand.kiosk.device_id)
        assert device is not None
        tickets = town.rounds.issue_tickets(writing, device, request)
    return stand.reporter.on_tickets(tickets)
