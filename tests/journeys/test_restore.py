"""Restoring last night's backup after a withdrawal, in every way in which it can go."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.aggregates.mechanisms import mechanism_for, question_of
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import State
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.sealed_report import Answered, seal_report
from sync_server.aggregates.intake import bring
from sync_server.aggregates.release import ENDINGS, read_release
from sync_server.consent.forgetting import forget_subject
from sync_server.errors import NotRestored, Problem
from sync_server.restore.rebuild import Sources, restore
from sync_server.settings import Settings
from tests.support.aggregate_ends import closed
from tests.support.night import Night
from tests.support.shop import shop_catalog
from tests.support.town import ALICE, BOB, Kiosk, P, Session


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """Whatever happened: in the end the ledger holds, step for step."""
    made = Night(tmp_path)
    yield made
    assert made.audit().fault is None
    made.close()


@pytest.fixture
def other(night: Night, tmp_path: Path) -> Iterator[Kiosk]:
    """Another device; ask for it before `kiosk`, whose fixture makes the backup."""
    made = Kiosk(night.town, tmp_path / "other")
    night.meet(made).close()
    yield made
    made.close()


@pytest.fixture
def kiosk(night: Night, tmp_path: Path) -> Iterator[Kiosk]:
    """Alice and Bob gave their consent here, and have rows; then the store was backed up."""
    made = Kiosk(night.town, tmp_path / "kiosk")
    for subject in (ALICE, BOB):
        made.give(subject)
    night.meet(made).close()
    for subject in (ALICE, BOB):
        night.town.put_profile(subject)
    night.meet(made).close()
    assert made.sealed_rows(ALICE) > 0
    night.back_up()
    yield made
    made.close()


def given(kiosk: Kiosk, subject: str) -> bool:
    return kiosk.consents.permission(subject, P).allowed


def test_law_2_with_its_journal_the_restored_server_is_the_same_one_step_for_step(
    night: Night, kiosk: Kiosk
) -> None:
    """Neither the consent nor the features come back; the ledger goes on; the device is not bricked."""
    kiosk.consents.withdraw(ALICE, [P])
    night.meet(kiosk).close()
    night.town.decide("user:carol", "given")
    head = night.town.lane_head()
    with night.town.store.read() as tx:
        root = night.town.office.head(tx).root
    night.lose()
    done = night.restore(journals=night.journals)
    assert (done.whole, done.kept, done.lane) == (True, head, head)
    assert (done.steps, done.denials) == (2, 1)
    with night.town.store.read() as tx:
        assert night.town.office.head(tx).root == root
    assert night.state(ALICE, P) == "withdrawn"
    assert (night.rows_of(ALICE), night.payload_keys(ALICE)) == (0, 0)
    assert (night.rows_of(BOB), night.payload_keys(BOB)) == (1, 1)
    session = night.meet(kiosk)
    assert session.device.caught_up
    assert (given(kiosk, ALICE), given(kiosk, BOB)) == (False, True)
    assert kiosk.replica.lane_position() == head
    assert kiosk.sealed_rows(BOB) > 0
    kiosk.give(ALICE)
    session.settle()
    assert given(kiosk, ALICE)
    assert night.state(ALICE, P) == "given"


def test_law_2_without_a_journal_the_devices_tell_what_was_denied(
    night: Night, other: Kiosk, kiosk: Kiosk
) -> None:
    """Closed until they did: no lease, no give, no channel of a subject; then everything works again."""
    kiosk.consents.withdraw(ALICE, [P])
    night.meet(kiosk).close()
    known = kiosk.replica.lane_position()
    night.lose()
    done = night.restore()
    assert not done.whole
    assert night.state(ALICE, P) == "given"  # nobody has told it yet
    first = night.meet(kiosk)
    assert night.state(ALICE, P) == "withdrawn"
    assert (night.rows_of(ALICE), night.payload_keys(ALICE)) == (0, 0)
    assert kiosk.replica.lane_position() == night.town.lane_head() > known
    standing = night.town.node.catching_up.standing()
    assert standing is not None
    assert (standing.closed, standing.waiting) == (True, 1)
    assert not given(kiosk, BOB)  # no lease yet
    kiosk.give("user:dora")
    with pytest.raises(Problem, match="catching_up"):
        night.town.decide(BOB, "given")
    assert night.town.decide(BOB, "objected", "measurement").outcome == "recorded"  # denials always are
    first.settle()
    assert night.state("user:dora", P) == "unknown"
    second = night.meet(other)
    standing = night.town.node.catching_up.standing()
    assert standing is not None
    assert (standing.closed, standing.restore.opened_by) == (False, "devices")
    assert [(one.device_id, one.denials) for one in standing.tellers] == [(kiosk.device_id, 1)]
    night.clock.advance(seconds=60)
    for session in (first, second):
        session.settle()
        assert session.device.caught_up
    assert (given(kiosk, ALICE), given(kiosk, BOB), given(kiosk, "user:dora")) == (False, True, True)
    assert kiosk.sealed_rows(BOB) > 0


def test_law_3_with_every_device_away_it_stays_closed_until_their_leases_have_run_out(
    night: Night, kiosk: Kiosk
) -> None:
    """At latest then, and not before; what a device brings later still holds."""
    kiosk.consents.withdraw(ALICE, [P])
    night.meet(kiosk).close()
    night.lose()
    done = night.restore()
    catching_up = night.town.node.catching_up
    night.clock.set_wall(done.open_at_latest_us - 1)
    catching_up.settle()
    assert catching_up.closed
    night.clock.advance(seconds=1)
    catching_up.settle()
    standing = catching_up.standing()
    assert standing is not None
    assert (standing.closed, standing.restore.opened_by) == (False, "time")
    session = night.meet(kiosk)
    assert session.device.caught_up
    assert night.state(ALICE, P) == "withdrawn"
    assert (night.rows_of(ALICE), given(kiosk, ALICE), given(kiosk, BOB)) == (0, False, True)


def test_an_operator_opens_it_on_his_own_word(night: Night, kiosk: Kiosk) -> None:
    night.lose()
    night.restore()
    catching_up = night.town.node.catching_up
    standing = catching_up.standing()
    assert standing is not None
    assert standing.closed
    catching_up.open_now()
    with pytest.raises(Problem, match="not_restored"):
        catching_up.open_now()
    assert night.meet(kiosk).device.caught_up
    assert given(kiosk, ALICE)


def test_a_consent_given_after_the_backup_is_told_again_and_means_what_it_did(
    night: Night, kiosk: Kiosk
) -> None:
    """The ledger lost its number; the device has its own word still."""
    kiosk.give("user:dora")
    night.meet(kiosk).close()
    night.town.put_profile("user:dora")
    night.meet(kiosk).close()
    night.lose()
    night.restore()
    assert night.state("user:dora", P) == "unknown"
    session = night.meet(kiosk)
    night.clock.advance(seconds=60)
    session.settle()
    assert session.device.caught_up
    assert night.state("user:dora", P) == "given"
    assert given(kiosk, "user:dora")
    key = kiosk.keyring.key("user:dora", P)
    assert key is not None
    with night.town.store.read() as tx:
        assert tx.decision_state(night.town.pseudonym("user:dora"), P).grant == key.grant
    night.town.put_profile("user:dora", "FR")
    night.clock.advance(seconds=60)
    session.settle()
    assert session.device.caught_up


def test_law_2_a_denial_that_others_tell_wins_over_a_consent_told_again(
    night: Night, other: Kiosk, kiosk: Kiosk
) -> None:
    """Dora gave, and withdrew elsewhere, both after the backup; the first to come has not heard of it."""
    kiosk.give("user:dora")
    night.meet(kiosk).close()
    night.town.decide("user:dora", "withdrawn")
    night.meet(other).close()
    night.lose()
    night.restore()
    first = night.meet(kiosk)
    assert night.state("user:dora", P) == "unknown"
    night.town.node.catching_up.open_now()  # too early, as it turns out
    night.clock.advance(seconds=60)
    first.settle()
    assert night.state("user:dora", P) == "given"
    night.meet(other).close()
    assert night.state("user:dora", P) == "withdrawn"
    night.clock.advance(seconds=60)
    first.settle()
    assert not given(kiosk, "user:dora")
    assert kiosk.keyring.key("user:dora", P) is None


def test_the_lane_never_runs_backwards_whoever_comes_first(night: Night, other: Kiosk, kiosk: Kiosk) -> None:
    """A device that is further than everybody before it hears again what was recorded meanwhile."""
    far = other
    kiosk.consents.withdraw(ALICE, [P])
    night.meet(kiosk).close()
    for n in range(9):
        night.town.decide(f"user:p-{n}", "given")
    night.meet(far).close()
    known = far.replica.lane_position()
    night.lose()
    night.restore()
    first = night.meet(kiosk)
    assert night.town.lane_head() < known
    last = night.meet(far)
    assert night.town.lane_head() > known
    first.settle()
    heads = {kiosk.replica.lane_position(), far.replica.lane_position(), night.town.lane_head()}
    assert len(heads) == 1
    with far.database.read() as tx:
        entry = tx.lane_entry(night.town.pseudonym(ALICE), P)
    assert entry is not None
    assert (entry.state, entry.seq > known) == ("withdrawn", True)
    assert last.device.state is State.LIVE


def test_a_restore_of_a_restore_and_a_second_one_from_the_same_backup(night: Night, kiosk: Kiosk) -> None:
    """Each begins another incarnation; a device follows the one that was restored last, and no other."""
    kiosk.consents.withdraw(ALICE, [P])
    night.meet(kiosk).close()
    night.lose()
    old = night._folder / "first.key"
    old.write_bytes((night._folder / "server.key").read_bytes())
    old.chmod(0o600)
    night.restore(journals=night.journals)
    night.meet(kiosk).close()
    night.town.decide(BOB, "withdrawn")
    night.meet(kiosk).close()
    first = night.town
    key = first.settings.key_file.read_bytes()
    (night._folder / "server.key").write_bytes(key)
    done = night.restore(journals=night.journals)  # on from both incarnations' journals
    assert (done.whole, done.kept) == (True, first.lane_head())
    assert (night.state(ALICE, P), night.state(BOB, P)) == ("withdrawn", "withdrawn")
    assert night.meet(kiosk).device.caught_up
    kiosk.town = first  # it was never stopped
    night.town, again = first, night.town
    with pytest.raises(WireFailure, match="older_incarnation"):
        night.meet(kiosk)
    night.town = again
    night.restore(authority=old)  # the same backup, by the key of before any restore, and no journal
    session = night.meet(kiosk)
    assert night.state(BOB, P) == "withdrawn"
    night.clock.advance(seconds=60)
    session.settle()
    assert session.device.caught_up
    assert not given(kiosk, BOB)
    first.close()
    again.close()


def test_a_forged_report_can_only_deny_and_is_named(night: Night, kiosk: Kiosk) -> None:
    """One bad device says whatever it likes of the lost part; it gives nothing to anybody."""
    night.lose()
    night.restore()
    catching_up, bob = night.town.node.catching_up, night.town.pseudonym(BOB)
    nobody = m.LaneEntry(40, bytes(16), P, "given", 40, 0)
    lie = m.LaneEntry(41, bob, P, "withdrawn", 0, 41)
    restated = catching_up.hear(kiosk.device_id, m.Recalled(entries=[nobody, lie], upto=41, more=False))
    assert restated.entries == []
    catching_up.heard(kiosk.device_id, 41)
    with night.town.store.read() as tx:
        assert tx.decision_state(bytes(16), P).state == "unknown"
        assert tx.decision_state(bob, P).state == "withdrawn"
        assert [one.denials for one in tx.restores.told_on_word_of(5)] == [1]
    too_far = m.Recalled(entries=[], upto=10_000_000, more=False)
    with pytest.raises(WireFailure, match="rolled_back"):
        catching_up.hear(kiosk.device_id, too_far)


def test_two_restores_at_once_do_not_meddle_with_each_other(night: Night, kiosk: Kiosk) -> None:
    """The second is refused before it touches what the first is making."""
    night.lose()
    handle = os.open(night._folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # as a restore holds it
        with pytest.raises(NotRestored, match="another restore"):
            night.restore()
    finally:
        os.close(handle)
    assert not list(night._folder.glob("life-*"))
    night.restore()


def test_what_cannot_be_restored_from_says_so_and_leaves_nothing(night: Night, kiosk: Kiosk) -> None:
    night.lose()
    database = night.backup / "server.db"
    raw = database.read_bytes()
    database.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(NotRestored, match="not the file"):
        night.restore()
    database.write_bytes(raw)
    manifest = night.backup / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"size": ', '"size": 1'))
    with pytest.raises(NotRestored, match="not signed"):
        night.restore()
    manifest.write_text(text)
    assert not list(night._folder.glob("life-*"))
    night.restore()


def test_a_device_that_knows_more_than_the_journal_closes_the_server_again(
    night: Night, other: Kiosk, kiosk: Kiosk
) -> None:
    """Its journal seemed whole and was not: an older copy of it. Nobody is served on its word any more."""
    old = night._folder / "old-journal"
    shutil.copytree(night.journals[0], old)
    kiosk.consents.withdraw(ALICE, [P])
    night.meet(kiosk).close()
    night.lose()
    done = night.restore(journals=[old])
    catching_up = night.town.node.catching_up
    assert (done.whole, catching_up.closed) == (True, False)
    assert night.state(ALICE, P) == "given"
    session = night.meet(kiosk)
    assert night.state(ALICE, P) == "withdrawn"
    standing = catching_up.standing()
    assert standing is not None
    assert (standing.closed, standing.waiting) == (True, 1)
    night.meet(other).close()
    night.clock.advance(seconds=60)
    session.settle()
    assert (given(kiosk, ALICE), given(kiosk, BOB)) == (False, True)


def test_law_6_a_restore_that_was_killed_is_run_again(night: Night, kiosk: Kiosk) -> None:
    """Killed at any of its steps it leaves no data directory, and the next one is as the first."""
    kiosk.consents.withdraw(ALICE, [P])
    night.meet(kiosk).close()
    head = night.town.lane_head()
    night.lose()
    data = night._folder / "life-1"
    sources = Sources(
        backup=night.backup, authority=night._folder / "server.key", keys=night.keys, journals=night.journals
    )
    whole = call_count(sources, data.with_name("counted"), night)
    assert whole > 10
    for at in range(1, whole + 1):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException), Dying(at).watching():
                restore(sources, Settings(data_dir=data), night.clock.now_us(), night.town.entropy)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 9
        if data.exists():  # killed after it was moved to its place
            assert (data / "server.key").exists()
            shutil.rmtree(data)
    done = night.restore(journals=night.journals)
    assert (done.whole, done.kept) == (True, head)
    assert night.meet(kiosk).device.caught_up


def call_count(sources: Sources, data: Path, night: Night) -> int:
    """How many entropy draws, renames and syncs one restore makes: the places to die at."""
    counted = Dying(0)
    with counted.watching():
        restore(sources, Settings(data_dir=data), night.clock.now_us(), night.town.entropy)
    shutil.rmtree(data)
    return counted.passed


class Dying:
    """Counts what makes something durable or in place, and dies at one of them as by `kill -9`."""

    def __init__(self, at: int) -> None:
        self._at, self.passed = at, 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patched:
            for name in ("fsync", "open", "unlink", "chmod", "rename", "mkdir"):
                patched.setattr(os, name, self._counted(getattr(os, name)))
            yield

    def _counted(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **more: object) -> object:
            self.passed += 1
            if self.passed == self._at:
                os._exit(9)
            return real(*args, **more)

        return call


def test_what_was_lost_is_told_in_pages_and_again_when_the_session_broke(
    night: Night, other: Kiosk, kiosk: Kiosk
) -> None:
    """Cut anywhere in between: nothing is forgotten, nothing is recorded twice."""
    for n in range(300):
        night.town.decide(f"user:lost-{n}", "withdrawn")
    night.meet(kiosk).close()
    night.lose()
    night.restore()
    kiosk.town = night.town
    frames = 0
    while frames < 8:  # Challenge, Welcome, Recall, Restated, Restated, Lane, …
        session = Session(kiosk)
        for _ in range(frames):
            session.step()
        session.close()
        frames += 1
    session = night.meet(kiosk)
    recalled = [said for said in session.said if isinstance(said, m.Recalled)]
    assert recalled == []  # it was heard, and is not asked again
    with night.town.store.read() as tx:
        assert tx.restores.count_recorded(f"recall:{kiosk.device_id}") == 300
    assert night.state("user:lost-299", P) == "withdrawn"
    assert kiosk.replica.lane_position() == night.town.lane_head()
    assert night.meet(other).device.opened


def test_law_1_an_objection_is_not_forgotten_while_it_is_told(night: Night, kiosk: Kiosk) -> None:
    """A restriction and an objection of the lost part hold on the device all the time, and come back."""
    night.town.decide(ALICE, "restricted")
    night.town.decide(BOB, "objected", "measurement")
    night.meet(kiosk).close()
    night.lose()
    night.restore()
    kiosk.town = night.town
    session = Session(kiosk)
    while session.step():
        assert not given(kiosk, ALICE)
        with kiosk.database.read() as tx:
            entry = tx.lane_entry(night.town.pseudonym(BOB), "measurement")
        assert entry is not None
        assert entry.state == "objected"
    session.settle()
    assert night.state(ALICE, P) == "restricted"
    assert night.state(BOB, "measurement") == "objected"
    night.clock.advance(seconds=60)
    session.settle()
    assert (given(kiosk, ALICE), given(kiosk, BOB)) == (False, True)


def test_what_the_kept_part_said_holds_again_where_the_lost_part_had_lifted_it(
    night: Night, kiosk: Kiosk
) -> None:
    """A restriction from before the backup, lifted after it: the lifting is lost, so it holds again."""
    night.town.decide(ALICE, "restricted")
    night.meet(kiosk).close()
    night.back_up()
    night.town.decide(ALICE, "given")
    night.meet(kiosk).close()
    assert given(kiosk, ALICE)
    night.lose()
    night.restore()
    session = night.meet(kiosk)
    night.clock.advance(seconds=60)
    session.settle()
    assert night.state(ALICE, P) == "restricted"
    assert (given(kiosk, ALICE), given(kiosk, BOB)) == (False, True)


def test_a_device_that_enrolled_after_the_backup_is_no_stranger_to_the_journal(
    night: Night, kiosk: Kiosk, tmp_path: Path
) -> None:
    """It never connected, and denials from before it are forgotten: restored, the server still knows that it
    held nothing of them, and lets it in."""
    town = night.town
    with town.store.write("revoke") as tx:
        town.office.revoke(tx, town.pseudonym(ALICE), [P], "subject", "2026-11")
    town.office.settle()
    night.meet(kiosk).close()
    newcomer = Kiosk(town, tmp_path / "newcomer")
    night.lose()
    night.restore(journals=night.journals)
    town = newcomer.town = night.town
    night.meet(kiosk).close()
    town.node.acks.write()
    with town.store.write("forget") as tx:
        assert forget_subject(tx, town.office, town.pseudonym(ALICE)).steps > 0
        assert tx.forgetting.drop_fences(0, 100) == 1
    assert town.lane_head() > 0
    night.meet(newcomer).close()
    assert newcomer.replica.lane_position() == town.lane_head()
    newcomer.close()


def test_law_9_a_round_open_at_the_backup_ends_and_says_why(night: Night, kiosk: Kiosk) -> None:
    """Which tickets were used since, and what was released, the backup does not know: nobody counts twice."""
    town, purpose = night.town, "measurement"
    town.decide(ALICE, "given", purpose)
    with town.store.write("round") as tx:
        row, _ = town.rounds.open(tx, shop_catalog().model, "visits_band", 3_600_000_000)
        device = tx.device(kiosk.device_id)
        assert device is not None
        request = m.TicketRequest(round_id=row.id, subjects=[town.pseudonym(ALICE)])
        (granted,) = town.rounds.issue_tickets(tx, device, request).granted
    answer = mechanism_for(question_of(shop_catalog().metrics["visits_band"])).randomize(0, lambda n: 0)
    sealed = seal_report(row.collector, row.id, Answered(row.definition, [granted.ticket], answer))
    report = m.Report(round_id=row.id, sealed=[sealed])
    with town.store.write("report") as tx:
        assert bring(tx, town.rounds, kiosk.device_id, report).stored
    night.back_up()
    closed(town.collector, row.id)
    night.lose()
    night.restore(journals=night.journals)
    town = night.town
    with town.store.write("report") as tx:
        assert town.rounds.offers(tx) == []
        assert bring(tx, town.rounds, kiosk.device_id, report).closed
        assert not tx.aggregates.waits(row.id)
    town.collector.step(0)
    with town.store.write("round") as tx:
        body = tx.aggregates.release(row.id)
        fresh, new = town.rounds.open(tx, shop_catalog().model, "visits_band", 3_600_000_000)
    assert body is not None
    assert read_release(body).reason == ENDINGS["restored"]
    assert new
    assert fresh.collector != row.collector, "the key that reports are sealed to is in no backup"
