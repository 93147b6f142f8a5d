"""What names a subject on a device, and under which key it rests: see decision record 0038."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.wire import seal
from tests.support.forensics import bytes_of
from tests.support.town import ALICE, BOB, Kiosk, P, Session, Town

EVIDENCE = {"lane", "denial", "outbox"}
"""Tables under the page key that name subjects, by pseudonym alone: what must outlive the subjects' keys."""


@pytest.fixture
def kiosk(town: Town, tmp_path: Path) -> Iterator[Kiosk]:
    """With everything that can stand on one: rows, a withdrawal told, one untold, a restriction."""
    made = Kiosk(town, tmp_path / "kiosk")
    for subject in (ALICE, BOB):
        made.give(subject)
    Session(made).settle()
    town.put_profile(ALICE)
    Session(made).settle()
    made.consents.withdraw(BOB, [P])
    Session(made).settle()
    made.consents.withdraw("user:carol", [P])
    made.consents.restrict(ALICE, [P])
    yield made
    made.close()


def cells(kiosk: Kiosk) -> Iterator[tuple[str, bytes]]:
    """(table, content) of every cell: all that somebody with disk and page key can read."""
    with kiosk.database.read() as tx:
        names = [n for (n,) in tx._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            for row in tx._connection.execute(f'SELECT * FROM "{name}"'):
                for cell in row:
                    yield name, cell if isinstance(cell, bytes) else str(cell).encode()


def names_of(kiosk: Kiosk, subject: str) -> list[bytes]:
    """Every form in which a subject is named by its pseudonym."""
    pseudonym = kiosk.keyring.pseudonym(subject)
    return [pseudonym, seal.subject_token(pseudonym).encode()]


def test_law_5_under_the_page_key_alone_no_id_rests_and_pseudonyms_only_as_evidence(kiosk: Kiosk) -> None:
    assert kiosk.sealed_rows(ALICE) > 1
    found = {
        table
        for table, content in cells(kiosk)
        for subject in (ALICE, BOB, "user:carol")
        if any(name in content for name in names_of(kiosk, subject))
    }
    assert found == EVIDENCE
    ids = [subject.split(":")[1].encode() for subject in (ALICE, BOB, "user:carol")]
    assert not [table for table, content in cells(kiosk) if any(id_ in content for id_ in ids)]


def test_law_5_with_the_tenants_keys_but_not_the_page_key_nothing_can_be_looked_up(kiosk: Kiosk) -> None:
    """The tenant's keys make the pseudonym of whoever is asked for; no file holds it in plain."""
    subjects = (ALICE, BOB, "user:carol")
    names = [name for s in subjects for name in (*names_of(kiosk, s), s.encode())]
    kiosk.close()
    for file, content in bytes_of(kiosk.folder).items():
        assert not [name for name in names if name in content], file


def test_law_4_of_who_withdrew_nothing_but_evidence_is_left_to_link(kiosk: Kiosk) -> None:
    """Bob's handle is gone with his key: no row can be told to have been his."""
    assert kiosk.keyring.key(BOB, P) is None
    living = {key.handle for key in kiosk.keyring.every_key()} | {kiosk.keyring.device_key().handle}
    with kiosk.database.read() as tx:
        assert set(tx.handles()) <= living
