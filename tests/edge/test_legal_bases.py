"""Every legal basis of law 1 on the device: read, compute and store, each against DESIGN's own words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import edge_runtime as er
from edge_runtime.wire.messages import LaneEntry
from tests.support.clock import ManualClock
from tests.support.legal_bases import CASES, Case, allowed, catalog
from tests.support.shop import BASE_US

CATALOG = catalog()


@pytest.fixture(scope="module")
def rt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[er.Runtime]:
    """A runtime in which every subject has reached its state."""
    folder = tmp_path_factory.mktemp("bases")
    clock, key = ManualClock(BASE_US), er.KeyFile(folder / "device.key")
    with er.Runtime.open(folder / "cache.db", catalog=CATALOG, key=key, clock=clock) as opened:
        for case in CASES:
            reach(opened, case)
        clock.advance(seconds=1)
        yield opened


def reach(rt: er.Runtime, case: Case) -> None:
    """What the subject or somebody else said, after a consent where one can go before."""
    if case.state == "unknown":
        return
    if case.state == "refused":
        rt.consent.refuse(case.subject, [case.purpose], notice="n")
        return
    rt.consent.give(case.subject, [case.purpose], notice="n")
    if case.state == "withdrawn":
        rt.consent.withdraw(case.subject, [case.purpose])
    elif case.state != "given":
        seq = 1_000_000 + CASES.index(case)
        denial = 0 if case.state == "restricted" else seq
        pseudonym = rt._keyring.pseudonym(case.subject)
        entry = LaneEntry(seq, pseudonym, case.purpose, case.state, 0, denial)
        rt.consent.apply_lane([entry], seq)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_law_1_every_legal_basis_and_state_on_the_device(rt: er.Runtime, case: Case) -> None:
    """Tracked and counted exactly when allowed; read as REVOKED and stored nowhere when not."""
    may = allowed(case)
    assert rt.consent.permission(case.subject, case.purpose).allowed is may
    kind, name = f"seen_{case.purpose}", case.subject.removeprefix("user:")
    outcome = rt.track(kind, user=name)
    assert outcome is (er.ACCEPTED if may else er.NO_CONSENT)
    rt.flush()
    cell = rt.read(f"counted_{case.purpose}:n", user=name)
    assert (cell.status, cell.value) == ((er.Status.PRESENT, 1) if may else (er.Status.REVOKED, None))
    pushed = rt.read(f"pushed_{case.purpose}:x", user=name).status
    assert pushed is (er.Status.NOT_SYNCED if may else er.Status.REVOKED)
    assert stored(rt, case) == (1 if may else 0)


def stored(rt: er.Runtime, case: Case) -> int:
    """Events at rest under the pair's key."""
    key = rt._keyring.key(case.subject, case.purpose)
    if key is None:
        return 0
    with rt._database.read() as tx:
        return len(tx.events(key.handle))
