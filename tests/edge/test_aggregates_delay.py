"""Reports go at a random time: spread, durable, bounded, and no clock that is set holds them (T27)."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager

import pytest

from edge_runtime.aggregates.budget import ROUND_LIMIT_US
from edge_runtime.aggregates.waiting import LOOK_AGAIN_US
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.wire.messages import Report, RoundOffer
from edge_runtime.wire.sealed_report import report_id
from tests.support.aggregate_ends import HOUR_US, Kiosk

MINUTE_US = 60_000_000


def drawn(subjects: int, spread_us: int, *, closes_in_us: int = 4 * HOUR_US) -> tuple[Kiosk, RoundOffer]:
    """A kiosk with its answers stored."""
    kiosk = Kiosk(subjects, spread_us=spread_us)
    offer = kiosk.offer(closes_in_us=closes_in_us)
    assert kiosk.answer(offer) == []
    return kiosk, offer


def sent_until(kiosk: Kiosk, minutes: int) -> list[tuple[int, Report]]:
    """(minute, report) of what a tick in every minute finds, each once, for so many minutes."""
    found: list[tuple[int, Report]] = []
    for minute in range(minutes + 1):
        flying = {report_id(report.sealed[0]) for _, report in found}
        found += [(minute, report) for report in kiosk.reporter.due(1_000, flying)]
        kiosk.clock.advance(us=MINUTE_US)
    return found


def test_reports_of_many_subjects_are_spread_over_the_setting_and_not_in_their_order() -> None:
    """200 in an hour: some in each ten minutes, within what a uniform draw gives, and all of them."""
    kiosk, _ = drawn(200, HOUR_US)
    with kiosk.database.read() as tx:
        stored = [item.id for item in tx.outbox("report")]
    found = sent_until(kiosk, 60)
    minutes = [minute for minute, _ in found]
    assert len(found) == 200
    parts = [sum(10 * part <= minute - 1 < 10 * part + 10 for minute in minutes) for part in range(6)]
    assert all(18 <= count <= 50 for count in parts), parts  # 33 +- 3 standard deviations
    assert [report_id(report.sealed[0]) for _, report in found] != stored


@pytest.mark.parametrize("closes_in_us", [6 * MINUTE_US, 30 * MINUTE_US, HOUR_US])
def test_no_delay_goes_past_the_middle_of_what_remains_of_the_round(closes_in_us: int) -> None:
    """Spread over a day in a round that is open for less: the second half is left to whoever was away."""
    kiosk, _ = drawn(60, 24 * HOUR_US, closes_in_us=closes_in_us)
    found = sent_until(kiosk, closes_in_us // 2 // MINUTE_US)
    assert len(found) == 60
    assert len({minute for minute, _ in found}) > 1


def test_a_delay_outlives_a_restart_as_it_was_drawn() -> None:
    """Restarted every minute, each report goes in the same minute as it would have."""
    times = []
    for restarts in (False, True):
        kiosk, _ = drawn(40, HOUR_US)
        found: set[bytes] = set()
        went = []
        for _ in range(61):
            if restarts:
                kiosk.clock.reboot()
                kiosk.restart()
            due = kiosk.reporter.due(1_000, found)
            found |= {report_id(report.sealed[0]) for report in due}
            went.append(len(due))
            kiosk.clock.advance(us=MINUTE_US)
        times.append(went)
    assert sum(times[0]) == 40
    assert times[0] == times[1]


@pytest.mark.parametrize("set_to_us", [-365 * 24 * HOUR_US, -2 * HOUR_US, 0, HOUR_US, 3 * HOUR_US])
def test_a_clock_that_is_set_delays_nothing_beyond_the_spread(set_to_us: int) -> None:
    """Back or ahead, in one process: boot time counts. All go within the hour, none at once for it."""
    kiosk, _ = drawn(30, HOUR_US)
    kiosk.clock.set_wall(kiosk.clock.now_us() + set_to_us)
    if set_to_us < -ROUND_LIMIT_US // 2:
        # a year back this device believes in no round that is open so long
        sent_until(kiosk, 60)
        assert kiosk.reporter.counts["dropped"] == 30
        return
    assert len(kiosk.reporter.due(1_000, ())) < 5
    assert len(sent_until(kiosk, 60)) == 30


@pytest.mark.parametrize("back_us", [1, HOUR_US, 5 * HOUR_US])
def test_a_clock_set_back_over_a_restart_sends_at_once_or_within_the_spread(back_us: int) -> None:
    """Set back before the drawing, nothing is known of the delay but its limit: it is over."""
    kiosk, _ = drawn(30, HOUR_US)
    kiosk.clock.set_wall(kiosk.clock.now_us() - back_us)
    kiosk.clock.reboot()
    kiosk.restart()
    assert len(kiosk.reporter.due(1_000, ())) == 30


def test_after_the_close_nothing_is_sent_and_everything_is_counted() -> None:
    """A clock set behind the round's end: dropped when their time comes, none lost silently, none sent."""
    kiosk, _ = drawn(30, HOUR_US)
    kiosk.clock.set_wall(kiosk.clock.now_us() + 4 * HOUR_US)
    assert sent_until(kiosk, 60) == []
    assert kiosk.reporter.counts == {"stored": 30, "dropped": 30}


def test_a_round_that_the_server_closed_early_drops_what_still_waits_and_counts_it() -> None:
    kiosk, offer = drawn(30, HOUR_US)
    kiosk.reporter.on_closed(offer.round_id)
    assert kiosk.reporter.counts == {"stored": 30, "dropped": 30}
    assert sent_until(kiosk, 60) == []


def test_a_tick_on_which_nothing_is_due_reads_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 11: a link looks every second; only the first look and a due report cost a read."""
    kiosk, _ = drawn(5, HOUR_US)
    kiosk.reporter.due(10, ())
    reads, seen, read = Counter[str](), 0, kiosk.database.read

    def counted() -> AbstractContextManager[ReadTransaction]:
        reads["read"] += 1
        return read()

    monkeypatch.setattr(kiosk.database, "read", counted)
    for _ in range(3_600):
        seen += len(kiosk.reporter.due(10, ()))
        kiosk.clock.advance(seconds=0.001)
    assert reads["read"] == seen


def test_at_most_so_many_are_handed_out_and_those_in_flight_are_left_out() -> None:
    """The one that is due first goes first; the next as acknowledgements come."""
    kiosk, _ = drawn(20, HOUR_US)
    kiosk.clock.advance(us=HOUR_US)
    everything = kiosk.reporter.due(100, ())
    first = kiosk.reporter.due(8, ())
    assert first == everything[:8]
    flying = {report_id(report.sealed[0]) for report in first}
    assert kiosk.reporter.due(8, flying) == everything[8:16]


def test_a_locked_report_waits_a_minute_between_two_looks() -> None:
    """A permission that comes back without a word is found a minute later."""
    kiosk, _ = drawn(1, MINUTE_US)
    kiosk.clock.advance(us=MINUTE_US)
    kiosk.permissions.denied.add(("user:u0", "measurement"))
    assert kiosk.reporter.due(1, ()) == []
    kiosk.permissions.denied.clear()
    assert kiosk.reporter.due(1, ()) == []
    kiosk.clock.advance(us=LOOK_AGAIN_US)
    assert len(kiosk.reporter.due(1, ())) == 1
