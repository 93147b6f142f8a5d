"""How reports leave: at a time of their own, alike, naming nobody; and what a withdrawal still stops."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

from edge_runtime.sync.reporting import IN_FLIGHT, together
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.sealed_report import report_id
from tests.support.aggregate_ends import HOUR_US
from tests.support.stands import Stand, close_round, draw, open_round
from tests.support.town import Town

MINUTE_US = 60_000_000


def reports(stand: Stand) -> list[m.Report]:
    return [said for said in stand.session.said if isinstance(said, m.Report)]


def sent(stand: Stand) -> list[bytes]:
    """Every sealed report that the kiosk said."""
    return [sealed for report in reports(stand) for sealed in report.sealed]


def crowd(town: Town, folder: Path, people: int, *, spread_us: int = HOUR_US, name: str = "visitor") -> Stand:
    """A kiosk in session whose people all said yes."""
    stand = Stand(town, folder / "kiosk", 3, spread_us=spread_us)
    for number in range(people):
        stand.give(f"user:{name}-{number:03}")
    stand.session.settle()
    return stand


def test_reports_go_by_the_ticks_alone_each_at_its_time(town: Town, tmp_path: Path) -> None:
    """T27: nothing else happens for half an hour, and still each leaves; meanwhile the link is caught up."""
    stand = crowd(town, tmp_path, 30)
    round_id = open_round(town)
    stand.session.settle()
    assert reports(stand) == []
    assert stand.session.device.caught_up, "what is not due is not owed"
    went = []
    for _ in range(30):
        before = len(sent(stand))
        town.clock.advance(us=MINUTE_US)
        stand.session.settle()
        went.append(len(sent(stand)) - before)
    assert sum(went) == 30
    assert sum(1 for count in went if count) > 12, went
    assert stand.reporter.counts == {"stored": 30, "sent": 30}
    assert close_round(town, round_id).n == 30
    stand.close()


def test_reports_of_one_metric_are_alike_and_name_neither_device_nor_subject(
    town: Town, tmp_path: Path
) -> None:
    """T27 on a real frame: one length, no id of the device, no pseudonym, no ticket, nothing in common."""
    stand = crowd(town, tmp_path, 20, spread_us=0)
    open_round(town)
    stand.session.settle()
    (frame,) = [codec.encode(report) for report in reports(stand)]
    bodies = sent(stand)
    assert len(bodies) == 20
    assert len({len(body) for body in bodies}) == 1
    keyring = stand.kiosk.keyring
    subjects = {grant.subject for t in stand.session.heard if isinstance(t, m.Tickets) for grant in t.granted}
    tickets = {grant.ticket for t in stand.session.heard if isinstance(t, m.Tickets) for grant in t.granted}
    public = keyring.signing_key().public_key().public_bytes_raw()
    assert len(subjects) == len(tickets) == 20
    for secret in (stand.kiosk.device_id.encode(), public, *subjects, *tickets):
        assert secret not in frame
    assert len({body[at : at + 8] for body in bodies for at in range(0, len(body), 8)}) == 20 * 22
    stand.close()


def test_a_kiosks_sum_is_released_and_its_frame_says_how_many_within_a_factor_of_two(
    town: Town, tmp_path: Path
) -> None:
    sizes = []
    for number, people in enumerate((6, 7, 40)):
        stand = crowd(town, tmp_path / str(number), people, spread_us=0, name=f"guest-of-{number}")
        round_id = open_round(town, "kiosk_countries")
        stand.session.settle()
        (frame,) = [codec.encode(report) for report in reports(stand)]
        sizes.append(len(frame))
        release = close_round(town, round_id)
        assert (release.status, release.n) == ("released", people)
        stand.close()
    assert sizes[0] == sizes[1] < sizes[2]


def test_law_11_no_more_reports_than_so_many_are_in_flight(town: Town, tmp_path: Path) -> None:
    """Away until all are due: they go in parts, the next as the server acknowledges."""
    stand = crowd(town, tmp_path, IN_FLIGHT + 20)
    round_id = open_round(town)
    stand.session.settle()
    town.clock.advance(us=HOUR_US // 2 + 1)
    said = stand.session.device.tick(stand.kiosk.clock.boot_us())
    first = [message for message in map(codec.decode, said) if isinstance(message, m.Report)]
    assert [len(message.sealed) for message in first] == [IN_FLIGHT]
    again = map(codec.decode, stand.session.device.tick(stand.kiosk.clock.boot_us()))
    assert not [message for message in again if isinstance(message, m.Report)]
    stand.session.answer(said)
    stand.session.settle()
    assert stand.reporter.counts["sent"] == IN_FLIGHT + 20
    assert close_round(town, round_id).n == IN_FLIGHT + 20
    stand.close()


def test_law_2_a_withdrawal_while_the_report_is_in_flight_is_found_when_it_is_opened(
    town: Town, tmp_path: Path
) -> None:
    """Sent, withdrawn, and only then acknowledged: the collector refuses it, here it counts as dropped."""
    stand = crowd(town, tmp_path, 4)
    round_id = open_round(town)
    stand.session.settle()
    town.clock.advance(us=HOUR_US // 2)
    flying = stand.session.device.tick(stand.kiosk.clock.boot_us())
    stand.kiosk.consents.withdraw("user:visitor-001", ["measurement"])
    stand.session.answer(flying)
    stand.session.settle()
    assert stand.reporter.pending() == []
    assert stand.reporter.counts == {"stored": 4, "sent": 3, "dropped": 1}
    release = close_round(town, round_id)
    assert (release.n, release.refused) == (3, {"no_permission": 1})
    stand.close()


def test_a_round_that_ends_early_drops_what_waits_and_says_how_many(town: Town, tmp_path: Path) -> None:
    """The first report after the end is refused; then nothing of that round is sent any more."""
    stand = crowd(town, tmp_path, 10)
    round_id = open_round(town)
    stand.session.settle()
    close_round(town, round_id)
    for _ in range(40):
        town.clock.advance(us=MINUTE_US)
        stand.session.settle()
    assert len({report_id(sealed) for sealed in sent(stand)}) < 10
    assert stand.reporter.counts == {"stored": 10, "dropped": 10}
    assert stand.reporter.pending() == []
    stand.close()


def test_one_report_that_the_server_does_not_take_costs_the_others_nothing(
    town: Town, tmp_path: Path
) -> None:
    """Law 12, of what goes together: it is named, waits for the next session, and the rest is stored."""
    stand = crowd(town, tmp_path, 5, spread_us=0)
    round_id = open_round(town)
    bad, *_ = [sealed for report in draw(town, stand) for sealed in report.sealed]
    with town.store.write("room for four") as tx:
        tx.aggregates.use_allowance(round_id, stand.kiosk.device_id, 1, len(bad))
    stand.session.settle()
    assert len(sent(stand)) == 5
    assert len(reports(stand)) == 1
    assert stand.reporter.counts == {"stored": 5, "sent": 4}
    assert stand.session.device.caught_up, "no answer is owed to what was refused"
    assert close_round(town, round_id).n == 4
    stand.close()


def test_messages_are_as_few_as_fit_a_frame_and_of_one_round_each() -> None:
    """Whatever is due: every report goes once, in order within its round, the one due first in the first."""
    chance = random.Random(7041)
    for _ in range(200):
        rounds = [chance.randbytes(16) for _ in range(chance.randint(1, 3))]
        lengths = chance.choice([(176,), (176, 1_072), (1_072, 32_816)])
        due = [
            m.Report(round_id=chance.choice(rounds), sealed=[chance.randbytes(chance.choice(lengths))])
            for _ in range(chance.randint(0, IN_FLIGHT))
        ]
        messages = together(due)
        for round_id in rounds:
            mine = [r.sealed for r in messages if r.round_id == round_id]
            assert [sealed for part in mine for sealed in part] == [
                r.sealed[0] for r in due if r.round_id == round_id
            ]
            assert all(_full(part, after[0]) for part, after in pairwise(mine))
        assert [r.sealed[0] for r in messages[:1]] == [r.sealed[0] for r in due[:1]]
        assert all(len(codec.encode(message)) <= codec.FRAME_LIMIT_BYTES for message in messages)
        assert all(message.sealed for message in messages)


def _full(part: list[bytes], following: bytes) -> bool:
    return sum(map(len, part)) + len(following) > 48 * 1024
