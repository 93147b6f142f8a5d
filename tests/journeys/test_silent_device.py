"""A real device that falls silent: the server counts it as locked when it is, and never a moment before."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.wire import messages as m
from sync_server.consent.progress import Enforced, enforced
from sync_server.settings import DAY_US, HOUR_US
from tests.support.clock import ManualClock
from tests.support.town import ALICE, BOB, Kiosk, P, Session, Town

SLOW = 0.999
"""Of a device's clock: the slowest that the server allows for (1,000 ppm), nearly."""


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town", leases={P: HOUR_US})
    yield made
    made.close()


def silent(town: Town, folder: Path) -> Kiosk:
    """A device with a lease and alice's consent, whose own catalog leases the purpose for a day."""
    kiosk = Kiosk(town, folder, clock=ManualClock())
    assert kiosk.catalog.purposes[P].lease_us == DAY_US
    kiosk.give(ALICE)
    session = Session(kiosk)
    session.settle()
    session.close()
    assert kiosk.consents.permission(ALICE, P).allowed
    return kiosk


def stopped(town: Town) -> Enforced | None:
    with town.store.read() as tx:
        (row,) = tx.revocations(10)
        (target,) = tx.targets(row.id)
    return enforced(target, town.clock.now_us())


@pytest.mark.parametrize("slow", [1.0, SLOW])
def test_law_3_a_silent_device_is_locked_before_the_server_says_so(
    town: Town, tmp_path: Path, slow: float
) -> None:
    """By the lease's word on the purpose: the device's catalog, which nobody registered, says longer."""
    kiosk = silent(town, tmp_path / "kiosk")
    town.decide(ALICE, "withdrawn")
    said_us, locked_us, step_us = None, None, 1_000_000
    for second in range(2 * 3_600):
        allowed = kiosk.consents.permission(ALICE, P).allowed
        if not allowed and locked_us is None:
            locked_us = second
        if stopped(town) is not None:
            said_us = second
            break
        town.clock.advance(us=step_us)
        kiosk.clock.advance(us=int(step_us * slow))
    assert locked_us is not None
    assert said_us is not None
    assert locked_us <= said_us <= locked_us + 15, "and not much later"
    word = stopped(town)
    assert word is not None
    assert (word.by, word.remark) == ("lease_ended", None)
    kiosk.close()


def test_law_2_withdrawn_and_given_again_without_contact_from_two_copies_of_one_device(
    town: Town, tmp_path: Path
) -> None:
    """Both copies speak in one name; the one that knows of the withdrawal is believed, the other is not."""
    kiosk = silent(town, tmp_path / "kiosk")
    kiosk.close()
    shutil.copytree(tmp_path / "kiosk", tmp_path / "older")
    kiosk = Kiosk(town, tmp_path / "kiosk", clock=ManualClock())
    kiosk.consents.withdraw(ALICE, [P])
    kiosk.give(ALICE)
    Session(kiosk).settle()
    assert kiosk.consents.permission(ALICE, P).allowed
    with town.store.read() as tx:
        assert tx.decision_state(town.pseudonym(ALICE), P).state == "given"
    older = Kiosk(town, tmp_path / "older", clock=ManualClock())
    older.give(ALICE)  # knows of no withdrawal
    Session(older).settle()
    with town.store.read() as tx:
        steps = [(s.state, s.outcome) for s in tx.history(town.pseudonym(ALICE), P, 0, 10)]
    assert steps[-1] == ("given", "superseded")
    assert steps[-2] == ("given", "recorded")
    kiosk.close()
    older.close()


def test_a_device_away_while_two_withdrawals_meet_ends_as_the_ledger_says(town: Town, tmp_path: Path) -> None:
    """Withdrawn here and given again, and withdrawn elsewhere as well: nothing comes back."""
    kiosk = silent(town, tmp_path / "kiosk")
    kiosk.consents.withdraw(ALICE, [P])
    kiosk.give(ALICE)
    town.decide(ALICE, "withdrawn")
    town.decide(BOB, "given")
    Session(kiosk).settle()
    assert not kiosk.consents.permission(ALICE, P).allowed
    assert kiosk.keyring.key(ALICE, P) is None
    with town.store.read() as tx:
        assert tx.decision_state(town.pseudonym(ALICE), P).grant == 0
    kiosk.give(ALICE)
    Session(kiosk).settle()
    assert kiosk.consents.permission(ALICE, P).allowed, "asked again, with all of it seen"
    kiosk.close()


def test_a_purpose_with_a_shorter_lease_does_not_lock_while_the_device_is_connected(
    town: Town, tmp_path: Path
) -> None:
    """It asks again by the half of that, and no more often than that takes."""
    kiosk = Kiosk(town, tmp_path / "kiosk", clock=ManualClock())
    kiosk.give(ALICE)
    session = Session(kiosk)
    session.settle()
    for _ in range(12):
        kiosk.clock.advance(seconds=20 * 60)
        town.clock.advance(seconds=20 * 60)
        session.settle()
        assert kiosk.consents.permission(ALICE, P).allowed
    asked = [said for said in session.said if isinstance(said, m.LeaseRequest)]
    assert 1 + 4 * 60 // 60 <= len(asked) <= 1 + 4 * 60 // 30
    session.close()
    kiosk.close()
