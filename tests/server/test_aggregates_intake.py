"""The desk takes sealed reports in: bounded by tickets, once, and without saying who brought them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.wire.codec import FRAME_LIMIT_BYTES
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.sealed_report import report_id, sealed_bytes
from sync_server.aggregates.intake import MESSAGE_REPORTS, one_report_bytes
from tests.support.aggregate_ends import A, B, Office, metric_catalog


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.store.close()


def stored(office: Office) -> list[bytes]:
    """Ids of the reports that wait."""
    with office.store.read() as tx:
        return [row.id for row in tx.aggregates.waiting(10_000)]


@pytest.mark.parametrize("tickets", [0, 1, 3])
def test_law_11_a_device_brings_as_many_reports_as_it_has_tickets(office: Office, tickets: int) -> None:
    """In one message or in many; the others are refused by name as too_many, and counted."""
    round_id = office.open()
    subjects = office.subjects(6)
    granted = office.tickets(round_id, subjects[:tickets]).granted if tickets else []
    office.tickets(round_id, subjects[tickets:], B)
    names = [g.ticket for g in granted] or [bytes(16)]
    sealed = [office.sealed(round_id, [names[n % len(names)]]) for n in range(5)]
    first = office.bring(round_id, sealed[:2])
    second = office.bring(round_id, sealed[2:])
    brought = [report_id(one) for one in sealed]
    assert first.stored + second.stored == brought[:tickets]
    assert {**first.refused, **second.refused} == dict.fromkeys(brought[tickets:], "too_many")
    assert sorted(stored(office)) == sorted(brought[:tickets])
    assert office.refused(round_id) == {"too_many": 5 - tickets}


def test_the_same_bytes_are_taken_once_and_acknowledged_each_time(office: Office) -> None:
    """Again before they are opened, again after, and twice in one message: one report, no refusal."""
    round_id = office.open()
    (granted,) = office.tickets(round_id, office.subjects(1)).granted
    sealed = office.sealed(round_id, [granted.ticket])
    name = report_id(sealed)
    assert office.bring(round_id, [sealed, sealed]).stored == [name, name]
    assert office.bring(round_id, [sealed]).stored == [name]
    assert stored(office) == [name]
    office.collect()
    assert office.bring(round_id, [sealed], B).stored == [name]
    assert stored(office) == []
    assert office.counted(round_id) == 1
    assert office.refused(round_id) == {}


def test_law_12_what_cannot_be_a_report_is_not_stored(office: Office) -> None:
    """Any length but the one that every report of the round has: `malformed`, and no row but the count."""
    round_id = office.open()
    office.tickets(round_id, office.subjects(3))
    (one,) = {len(office.sealed(round_id, [bytes([n]) * 16])) for n in range(9)}
    assert one_report_bytes(office.question) == one
    rng, before = random.Random(11), office.everything()
    lengths = [0, 1, 48, one - 1, one + 1, 2 * one, 3 * one]
    brought = office.bring(round_id, [rng.randbytes(length) for length in lengths])
    assert brought.stored == []
    assert brought.ack() is None
    assert set(brought.refused.values()) == {"malformed"}
    assert office.refused(round_id) == {"malformed": len(lengths)}
    with office.store.write("forget") as tx:
        tx.execute("DELETE FROM aggregate_refusals")
    assert office.everything() == before


def test_law_11_a_kiosk_brings_no_more_bytes_than_its_tickets_allow(office: Office) -> None:
    """A sum's report may be larger than one subject's, up to as much as all its subjects apart."""
    office.catalog = metric_catalog(mode="curator")
    round_id, (one, two) = office.open(), office.subjects(2)
    office.tickets(round_id, [one, two])
    with office.store.read() as tx:
        row = tx.aggregates.round(round_id)
    assert row is not None
    least = 176
    long = office.bring(round_id, [b"a" * (2 * least + 1)])
    assert list(long.refused.values()) == ["too_many"]
    assert len(office.bring(round_id, [b"b" * least, b"c" * least]).stored) == 2


def test_law_9_what_is_stored_does_not_say_who_brought_it(office: Office) -> None:
    """Reports of two devices, in the order of their hashes; only how many each brought is told."""
    round_id, subjects = office.open(), office.subjects(40)
    sealed = []
    for who, part in ((A, subjects[:20]), (B, subjects[20:])):
        for granted in office.tickets(round_id, part, who).granted:
            sealed.append(office.sealed(round_id, [granted.ticket]))
            office.bring(round_id, sealed[-1:], who)
    names = stored(office)
    assert names == sorted(report_id(one) for one in sealed)
    with office.store.read() as tx:
        for table in ("sealed", "taken"):
            for row in tx.execute(f"SELECT * FROM aggregate_{table}"):
                assert {bytes(value) for value in row} <= {round_id, *names, *sealed}
        brought = tx.execute("SELECT device_id, reports FROM aggregate_allowances ORDER BY 1").fetchall()
    assert brought == [("kiosk-a", 20), ("kiosk-b", 20)]


def test_law_11_a_message_of_ten_thousand_crumbs_is_refused_before_one_is_looked_at(office: Office) -> None:
    """Each would be a look and a count in the transaction that everybody waits for: 30 ms for a thousand."""
    round_id = office.open()
    with pytest.raises(WireFailure, match="too_large"):
        office.bring(round_id, [n.to_bytes(2, "big") for n in range(MESSAGE_REPORTS + 1)])
    assert office.refused(round_id) == {}
    assert len(office.bring(round_id, [bytes(1), bytes(2)]).refused) == 2


def test_no_honest_message_holds_as_many_reports() -> None:
    """Of the shortest report that there is, a frame has room for fewer."""
    assert FRAME_LIMIT_BYTES // sealed_bytes(0) < MESSAGE_REPORTS
