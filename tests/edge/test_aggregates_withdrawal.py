"""A withdrawal takes unsent reports along, in the erasure's transaction, wherever it is killed (law 2)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_runtime.consent.erasure import POINTS
from edge_runtime.wire.messages import LaneEntry, ReportAck
from edge_runtime.wire.sealed_report import report_id
from tests.support.aggregate_ends import HOUR_US, grant, opened
from tests.support.consent_room import DAY_US, die_at, killed
from tests.support.forensics import plaintext_hits
from tests.support.measured import M, Measured, P

ADA, BEN, CLEO = "subject-ada", "subject-ben", "subject-cleo"
METRICS = {"views_band": 3, "kiosk_views": 1, "banner": 3}
"""Metric -> reports of three subjects. An experiment's answer hangs on its outcome's purpose too."""


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("purpose", [M, P])
def test_law_2_a_withdrawal_of_either_purpose_drops_the_unsent_report(
    tmp_path: Path, metric: str, purpose: str
) -> None:
    """Ben's answer goes; in a kiosk's sum everybody's, for it holds his. What was spent stays spent."""
    with Measured(tmp_path) as shop:
        shop.give(ADA, BEN, CLEO)
        assert len(shop.answer(metric)) == METRICS[metric]
        receipt = shop.rt.consent.withdraw(BEN, [purpose])
        assert receipt.receipt.rows_deleted["outbox"] == 1
        left = METRICS[metric] - 1
        assert len(shop.stored()) == len(shop.reporter.pending()) == left
        assert shop.counts() == {"stored": left + 1, "dropped": 1} | ({"waiting": left} if left else {})


def test_law_9_what_a_dropped_sum_cost_the_others_stays_spent(tmp_path: Path) -> None:
    """Four sums a window at epsilon 1, also for those whose sum another subject's withdrawal dropped."""
    with Measured(tmp_path) as shop:
        shop.give(ADA, BEN, CLEO)
        assert shop.answer("kiosk_views")
        shop.rt.consent.withdraw(BEN, [M])
        assert [len(shop.answer("kiosk_views")) for _ in range(4)] == [1, 1, 1, 0]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("point", POINTS)
def test_law_2_killed_at_any_point_of_a_withdrawal_no_report_of_it_is_left(
    tmp_path: Path, metric: str, point: str
) -> None:
    """From the commit of the denial on: reopened, the report is gone, and the others' are not."""
    folder = tmp_path / "device"
    folder.mkdir()
    with Measured(folder) as shop:
        shop.give(ADA, BEN, CLEO)
        assert shop.answer(metric)
    assert killed(lambda: _withdraw(Measured(folder, step=die_at(point)), BEN))
    with Measured(folder) as shop:
        left = METRICS[metric] - (point != "begin")
        assert len(shop.stored()) == len(shop.reporter.pending()) == left
        assert shop.counts().get("dropped", 0) == METRICS[metric] - left


def _withdraw(shop: Measured, subject: str) -> None:
    shop.rt.consent.withdraw(subject, [M])


def test_law_2_the_reports_go_in_the_very_transaction_that_deletes_the_rows(tmp_path: Path) -> None:
    """At each commit on the way, either the journal's rows and the report are there, or neither is."""
    seen: set[tuple[int, bool]] = set()

    def look(_: str) -> None:
        key = handles[BEN]
        with shop.rt._database.read() as tx:
            seen.add((len(tx.outbox("report")), bool(tx.events(key))))

    with Measured(tmp_path, step=look) as shop:
        shop.give(ADA, BEN)
        key = shop.rt._keyring.key(f"user:{BEN}", P)
        assert key is not None
        handles = {BEN: key.handle}
        assert len(shop.answer()) == 2
        shop.rt.consent.withdraw(BEN, [P])
    assert seen == {(2, True), (1, False)}


@pytest.mark.parametrize("metric", METRICS)
def test_law_2_withdrawn_while_in_flight_it_is_gone_before_the_acknowledgement(
    tmp_path: Path, metric: str
) -> None:
    """Sent, then withdrawn, then acknowledged: not sent again, and counted as dropped, not as sent."""
    with Measured(tmp_path) as shop:
        shop.give(ADA, BEN)
        flying = shop.reporter.due(10, ()) or shop.answer(metric)
        ids = {report_id(report.sealed[0]) for report in flying}
        shop.rt.consent.withdraw(BEN, [M])
        assert not {report_id(r.sealed[0]) for r in shop.reporter.due(10, ())} - ids
        for report in flying:
            ack = ReportAck(round_id=report.round_id, reports=[report_id(report.sealed[0])])
            shop.reporter.on_ack(ack)
        assert shop.stored() == []
        sent = len(flying) - 1
        assert shop.counts() == {"stored": len(flying), "dropped": 1} | ({"sent": sent} if sent else {})


@pytest.mark.parametrize("metric", METRICS)
def test_law_4_no_byte_of_the_report_is_left_in_database_log_or_keystore(tmp_path: Path, metric: str) -> None:
    """Sealed payload, body, shares and id: found in the pages before, in none after, in no file ever."""
    folder = tmp_path / "device"
    folder.mkdir()
    with Measured(folder) as shop:
        shop.give(ADA)
        (report,) = shop.answer(metric)
        (item,) = shop.stored()
        parts = [item.payload[at : at + 24] for at in range(0, len(item.payload) - 24, 24)] + [item.id]
        before = _pages(shop)
        assert all(part in before for part in parts)
        assert report.sealed[0][:24] not in before, "sealed for the collector, and again for the disk"
        shop.rt.consent.withdraw(ADA, [M])
        after = _pages(shop)
        assert not [part for part in parts if part in after]
        assert shop.rt._database.wal_bytes() < 64 * 1024
        assert plaintext_hits(folder, [*parts, report.sealed[0][:24]]) == {}
    assert plaintext_hits(folder, parts) == {}


def _pages(shop: Measured) -> bytes:
    """Every page of the database as the page key opens it, free ones too."""
    opened_ = shop.rt._database._opened
    assert opened_ is not None
    return opened_.connection.serialize("main")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("ended", [ADA, CLEO])
def test_law_4_an_old_copy_of_the_database_beside_todays_keys_gives_up_no_report(
    tmp_path: Path, metric: str, ended: str
) -> None:
    """Whoever puts the copy back finds the report dead: first or last in the sum, any covered one ends it."""
    folder, copy = tmp_path / "device", tmp_path / "copy"
    folder.mkdir()
    with Measured(folder) as shop:
        shop.give(ADA, BEN, CLEO)
        assert shop.answer(metric)
    shutil.copytree(folder, copy)
    with Measured(folder) as shop:
        shop.rt.consent.withdraw(ended, [M])
    shutil.copy(copy / "cache.db", folder / "cache.db")
    with Measured(folder) as shop:
        assert len(shop.reporter.pending()) == METRICS[metric] - 1


def test_law_3_a_lease_that_ends_keeps_the_report_back_and_a_new_one_lets_it_go(tmp_path: Path) -> None:
    with Measured(tmp_path) as shop:
        shop.give(ADA, BEN)
        offer = shop.offer("kiosk_views", closes_in_us=3 * DAY_US)
        request = shop.reporter.on_offer(offer)
        assert request is not None
        (stored,) = shop.reporter.on_tickets(grant(offer, request.subjects))
        shop.clock.advance(us=DAY_US + HOUR_US)
        assert shop.reporter.due(10, ()) == []
        assert len(shop.stored()) == 1
        shop.enrol()  # the server granted another
        assert shop.reporter.due(10, ()) == [], "not looked at again in the same minute"
        shop.reporter.unlocked()
        assert shop.reporter.due(10, ()) == [stored]


def test_a_restriction_keeps_the_report_back_until_it_is_lifted(tmp_path: Path) -> None:
    """Art. 18: one covered subject restricts, and the kiosk's whole sum waits; nothing is dropped."""
    with Measured(tmp_path) as shop:
        shop.give(ADA, BEN)
        (stored,) = shop.answer("kiosk_views")
        assert opened(stored).tickets == sorted(opened(stored).tickets)
        ledger_says(shop, 20, "restricted")
        assert shop.reporter.pending() == []
        assert len(shop.stored()) == 1
        ledger_says(shop, 21, "given")
        assert shop.reporter.pending() == [stored]


def ledger_says(shop: Measured, seq: int, state: str) -> None:
    """Of Ben's measurement, under the grant that his key has here."""
    key = shop.rt._keyring.key(f"user:{BEN}", M)
    assert key is not None
    if not key.grant:
        shop.rt.consent.recorded(key.facts.decision, 9, "recorded", 9)
    name = shop.rt._keyring.pseudonym(f"user:{BEN}")
    shop.rt.consent.apply_lane([LaneEntry(seq, name, M, state, 9, 0)], seq)
