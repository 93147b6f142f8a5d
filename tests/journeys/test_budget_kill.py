"""Killed at every write between a ticket and what is sent for it: nothing goes unpaid or is drawn twice.

What left the device is in a file beside, each report written there before it goes; the collector's key opens
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.consent.opening import open_cache
from edge_runtime.keys.providers import KeyFile
from edge_runtime.wire import codec
from edge_runtime.wire.messages import Report
from tests.journeys.test_crash_database import crashes
from tests.support.aggregate_ends import Kiosk, Value, metric_catalog, opened
from tests.support.clock import ManualClock
from tests.support.faulty_disk import FaultyDisk, How
from tests.support.places import memory_folder

PEOPLE = ("user:ann-who-dies", "user:bob-who-dies")
ROUNDS = 3
MOST = 60
"""Points of each way to die but being killed, which is tried at all of them."""


@pytest.fixture
def place() -> Iterator[Path]:
    """The disk that fails is ours, so the one below may be memory."""
    with memory_folder() as folder:
        yield folder


def kiosk_at(folder: Path, disk: FaultyDisk | None = None) -> Kiosk:
    """The kiosk whose cache is in `folder`."""
    key = KeyFile(folder / "device.key")
    cache = open_cache(str(folder / "cache.db"), key, vfs=disk.name if disk else None)
    kiosk = Kiosk(0, of=metric_catalog(names=2), clock=ManualClock(), cache=cache)
    kiosk.values = {person: Value("DE") for person in PEOPLE}
    return kiosk


def closed(kiosk: Kiosk) -> None:
    kiosk.database.close()
    kiosk.keyring.close()


def answers(folder: Path, disk: FaultyDisk | None = None) -> None:
    """Three rounds of two metrics; every report is noted as sent, and acknowledged."""
    kiosk = kiosk_at(folder, disk)
    with (folder / "sent").open("ab", buffering=0) as out:
        for n in range(1, ROUNDS + 1):
            offer = kiosk.offer(n, f"countries_{n % 2}")
            for report in [*kiosk.reporter.pending(), *kiosk.answer(offer)]:
                frame = codec.encode(report)
                out.write(len(frame).to_bytes(4, "big") + frame)
    closed(kiosk)


def sent(folder: Path) -> list[Report]:
    """What left the device, as the other side reads it."""
    raw, found = (folder / "sent").read_bytes() if (folder / "sent").exists() else b"", []
    while len(raw) > 4 and len(raw) >= (size := 4 + int.from_bytes(raw[:4], "big")):
        message = codec.decode(raw[4:size])
        assert isinstance(message, Report)
        found.append(message)
        raw = raw[size:]
    return found


@pytest.mark.parametrize("how", ["kill", "torn", "power"])
def test_law_9_killed_at_any_write_nothing_leaves_unpaid_and_nothing_is_drawn_twice(
    place: Path, how: How
) -> None:
    """T23: the answers of one ticket are one answer; the ledger says at least what all of them cost."""
    made = place / "made"
    made.mkdir()
    kiosk = kiosk_at(made)
    for person in PEOPLE:
        kiosk.add(person)
    closed(kiosk)
    points = 0
    for folder, point in crashes(made, answers, how, MOST):
        points += 1
        answers(folder)  # another life, to the end: tickets are the same, so is what was stored
        by_ticket: dict[bytes, set[bytes]] = {}
        drawn = set()
        for report in sent(folder):
            answered = opened(report)
            (ticket,) = answered.tickets
            by_ticket.setdefault(ticket, set()).add(answered.answer)
            drawn.add((answered.definition, ticket))
        assert len(by_ticket) == len(PEOPLE) * ROUNDS, point
        assert all(len(one) == 1 for one in by_ticket.values()), point
        kiosk = kiosk_at(folder)
        # whatever was killed, each report of each round is paid for once
        assert kiosk.spent() == len(PEOPLE) * ROUNDS * 1_000_000, point
        closed(kiosk)
    assert points >= 10
