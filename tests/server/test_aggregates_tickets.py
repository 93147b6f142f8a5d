"""The issuer: one device for each subject and metric, one ceiling for each subject, whatever happens here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.aggregates.mechanisms import BUDGET_CEILING_MICROS, DAY_US
from sync_server.aggregates.rounds import Rounds
from sync_server.aggregates.tickets import HOME_DAYS, note_restore
from sync_server.store.records import DeviceRow
from sync_server.store.restores import RestoreRow
from tests.support.aggregate_ends import COLLECTOR, HOUR_US, SIGNING, A, B, Office, device, metric_catalog


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    made.catalog = metric_catalog(names=40)
    yield made
    made.store.close()


def granted(office: Office, subject: bytes, number: int, who: DeviceRow = A) -> bool:
    """Whether the device gets the subject's ticket in a round of this number's metric."""
    round_id = office.open(f"countries_{number}")
    found = office.tickets(round_id, [subject], who).granted
    office.close(round_id)
    return bool(found)


def restarted(office: Office) -> None:
    """The process is another one: nothing but the store is left."""
    office.rounds = Rounds(office.clock, office.rng.randbytes, b"k" * 32, SIGNING, COLLECTOR.public_key())


def fill(office: Office, subject: bytes, begin: int = 0) -> None:
    """Four tickets of epsilon one: the ceiling."""
    assert all(granted(office, subject, begin + n) for n in range(4))
    assert not granted(office, subject, begin + 4)


def spent(office: Office) -> int:
    with office.store.read() as tx:
        return int(tx.execute("SELECT coalesce(sum(micros), 0) FROM aggregate_spends").fetchone()[0])


def test_who_gets_no_ticket_is_counted_by_its_reason(office: Office) -> None:
    """So that an operator can tell a spent budget from a device that does not ask."""
    subject, other, denied = office.subjects(3)
    fill(office, subject)
    assert office.rounds.withheld == {"over_budget": 1}
    assert granted(office, other, 20, A)
    assert not granted(office, other, 20, B)
    office.decide(denied, "withdrawn")
    assert not granted(office, denied, 21)
    assert office.rounds.withheld == {"over_budget": 1, "another_device": 1, "no_permission": 1}


# ---- one device -----------------------------------------------------------------------------------------


def test_law_9_one_device_answers_for_a_subject_in_rounds_of_a_metric(office: Office) -> None:
    """The first that got a ticket; another metric may have another device."""
    (subject,) = office.subjects(1)
    assert granted(office, subject, 0, A)
    office.clock.advance(us=DAY_US)
    assert not granted(office, subject, 0, B)
    assert granted(office, subject, 0, A)
    assert granted(office, subject, 1, B)
    office.clock.advance(us=DAY_US)
    assert not granted(office, subject, 1, A)


@pytest.mark.parametrize("window", ["1d", "20d"])
def test_a_device_answers_until_it_has_not_asked_for_long(office: Office, window: str) -> None:
    """Asking keeps it, also where the ceiling leaves no ticket; a longer window counts instead."""
    office.catalog = metric_catalog(window=window, epsilon=0.5)
    (subject,) = office.subjects(1)
    days = max(HOME_DAYS, int(window[:-1]))
    assert granted(office, subject, 0, A)
    for _ in range(3):
        office.clock.advance(us=(days - 1) * DAY_US)
        assert not granted(office, subject, 0, B)
        granted(office, subject, 0, A)
    office.clock.advance(us=(days + 1) * DAY_US)
    assert granted(office, subject, 0, B)
    assert not granted(office, subject, 0, A)


def test_a_device_that_asked_in_vain_becomes_nobodys_device(office: Office) -> None:
    """Only a ticket makes it the one that answers: else it would stand in the way of those who can."""
    (subject,) = office.subjects(1)
    fill(office, subject)
    assert not granted(office, subject, 7, A)
    office.clock.advance(us=DAY_US)
    assert granted(office, subject, 7, B)


def test_law_5_which_device_answers_for_whom_is_kept_blind(office: Office) -> None:
    (subject,) = office.subjects(1)
    assert granted(office, subject, 0)
    with office.store.read() as tx:
        ((tag, home, _),) = tx.execute("SELECT * FROM aggregate_homes").fetchall()
    assert len(tag) == len(home) == 16
    kept = office.everything()
    assert subject not in kept
    assert A.device_id.encode() not in tag + home


# ---- one ceiling ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [1, 6, 400, 4000])
def test_law_9_a_clock_set_ahead_and_back_opens_no_window_and_shuts_none(office: Office, days: int) -> None:
    """T23: while the server runs, the ledger goes by the clock that nobody sets."""
    (subject,) = office.subjects(1)
    fill(office, subject)
    for set_days in (days, -days):
        office.clock.set_wall(office.clock.now_us() + set_days * DAY_US)
        assert not granted(office, subject, 5)
    office.clock.advance(us=DAY_US)
    fill(office, subject, 10)


def test_law_9_a_restart_under_a_wrong_clock_never_opens_a_window_twice(office: Office) -> None:
    """T23: ahead, one window passes; back again none does, and what was shut by it opens as time passes."""
    (subject,) = office.subjects(1)
    fill(office, subject)
    office.clock.set_wall(office.clock.now_us() + 400 * DAY_US)
    restarted(office)
    fill(office, subject, 5)
    for _ in range(3):
        office.clock.set_wall(office.clock.now_us() - 400 * DAY_US)
        restarted(office)
        assert not granted(office, subject, 10)
        office.clock.set_wall(office.clock.now_us() + 400 * DAY_US)
        restarted(office)
        assert not granted(office, subject, 11)
    office.clock.set_wall(office.clock.now_us() - 400 * DAY_US)
    restarted(office)
    granted(office, subject, 12)
    office.clock.advance(us=DAY_US)  # not 400 of them
    fill(office, subject, 20)


def test_law_9_a_catalog_with_a_shorter_window_refills_nothing(office: Office) -> None:
    """T23: also after a restart; then, once the long window's tickets are over, the short one counts."""
    office.catalog = metric_catalog(names=10, window="30d")
    (subject,) = office.subjects(1)
    fill(office, subject)
    office.catalog = metric_catalog(names=40, version=2)
    for day in range(1, 30):
        office.clock.advance(us=DAY_US)
        restarted(office)
        assert not granted(office, subject, 10 + day % 20)
    office.clock.advance(us=DAY_US)
    fill(office, subject, 10)
    office.clock.advance(us=DAY_US)
    fill(office, subject, 20)


def test_law_9_a_longer_window_counts_what_was_spent_under_the_shorter_one(office: Office) -> None:
    (subject,) = office.subjects(1)
    fill(office, subject)
    office.catalog = metric_catalog(names=40, window="5d", version=2)
    for _ in range(4):
        office.clock.advance(us=DAY_US)
        assert not granted(office, subject, 30)
    office.clock.advance(us=DAY_US)
    assert granted(office, subject, 30)


def test_law_9_forgetting_a_subject_leaves_what_it_spent(office: Office) -> None:
    """T23: its tickets are void, its decisions may go; the blind tag stays until the window is over."""
    (subject,) = office.subjects(1)
    fill(office, subject)
    with office.store.write("forget") as tx:
        tx.tickets.void(subject)
        tx.execute("DELETE FROM lane WHERE subject = ?", (subject,))
    assert not granted(office, subject, 6)
    office.decide(subject, "given")
    assert not granted(office, subject, 6, device("new-one"))
    assert spent(office) == BUDGET_CEILING_MICROS


@pytest.mark.parametrize("window", ["1d", "9d"])
def test_law_9_after_a_restore_nothing_is_issued_until_what_was_lost_is_over(
    office: Office, window: str
) -> None:
    """T23: tickets of after the backup are in no copy; any of them may have been issued until the restore."""
    office.catalog = metric_catalog(names=40, window=window)
    known, new = office.subjects(2)
    assert granted(office, known, 0)
    office.clock.advance(us=HOUR_US)
    row = RestoreRow(office.clock.now_us(), b"i" * 16, 5, 5, 0, office.clock.now_us(), "operator")
    with office.store.write("restore") as tx:
        tx.restores.begin(row)
    restarted(office)
    for day in range(int(window[:-1])):
        assert not granted(office, known, 1 + day)
        assert not granted(office, new, 1 + day)
        office.clock.advance(us=DAY_US)
    assert granted(office, known, 20)
    fill(office, new, 21)


def test_law_9_a_restore_waits_for_the_ledgers_day_which_a_clock_once_ahead_has_moved(office: Office) -> None:
    """It is ten days ahead of the wall since: what was lost was issued on its days, not on the wall's."""
    (known,) = office.subjects(1)
    office.clock.advance(us=10 * DAY_US)
    assert granted(office, known, 0)
    office.clock.set_wall(office.clock.now_us() - 10 * DAY_US)
    restarted(office)
    backup_us = office.clock.now_us()
    office.clock.advance(us=DAY_US)
    row = RestoreRow(office.clock.now_us(), b"i" * 16, 5, 5, 0, office.clock.now_us(), "operator")
    with office.store.write("restore") as tx:
        note_restore(tx, backup_us, row.at_us)
        tx.restores.begin(row)
    restarted(office)
    assert not granted(office, known, 1)
    office.clock.advance(us=3 * DAY_US)
    assert granted(office, known, 2)
