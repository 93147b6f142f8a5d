"""Law 4 in a damaged database: a withdrawal is accepted, and erases, whichever page cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.keys.denial import decode
from edge_runtime.wire.receipt import Receipt
from tests.support.damaged import Kiosk, M, P, begun, disagreements, harm

SEED = 20_261_201
TABLES = [
    "denial",
    "denial_open",
    "outbox",
    "meta",
    "lane",
    "trimmed",
    "state",
    "journal_by_handle",
    "personal",
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Kiosk:
    kiosk = begun(tmp_path_factory.mktemp("kiosk") / "original", SEED)
    with kiosk.open() as rt, rt._database.write("report") as tx:  # an erasure looks through what waits
        tx.enqueue("report", bytes(16), b"somebody else's")
    return kiosk


def withdrawn(rt: er.Runtime, subject: str) -> Receipt:
    return rt.consent.withdraw(subject).verify()


@pytest.mark.parametrize("table", TABLES)
def test_law_4_a_withdrawal_destroys_the_keys_whichever_page_is_damaged(
    original: Kiosk, tmp_path: Path, table: str
) -> None:
    kiosk = original.copied(tmp_path / "kiosk")
    with kiosk.open() as rt:
        rt.read("activity:views", user="ann")
        counter = rt.status()["counter"]
        harm(kiosk, rt, *original.pages_of(table))
        for subject in ("ann", "bob"):  # the second does not wait for what the first could not do
            receipt = withdrawn(rt, subject)
            assert receipt.keys_destroyed == 2
            assert receipt.canary_unreadable
            assert rt.read("activity:views", user=subject).status is er.Status.REVOKED
            assert rt.consent.state(subject, P) == "withdrawn"
        assert isinstance(counter, int)
        assert rt.status()["counter"] == counter + 2
        assert rt.status()["damaged"]
    with kiosk.open(rebuild=True) as rt:
        assert rt.consent.state("ann", P) == rt.consent.state("bob", M) == "withdrawn"
        assert rt.consent.state("cid", P) == "given"
        others = [event for event in kiosk.taken if event.entities.get("user") not in ("ann", "bob")]
        assert disagreements(kiosk, rt, others) == []
        with rt._database.read() as tx:
            known = {denial.id: denial for denial in map(decode, tx.denials())}
            handles = tx.handles()
        assert all(denial.evidence is not None for denial in known.values())
        assert {d.id for d in rt._keyring.denials()} <= known.keys()
        living = {key.handle for key in rt._keyring.every_key()} | {rt._keyring.device_key().handle}
        assert handles <= living
