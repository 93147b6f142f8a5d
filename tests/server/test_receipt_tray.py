"""Receipts of one turn stand together and are judged apart; a revocation hears of them once."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from sync_server.store.records import RevocationRow
from sync_server.sync.turn import Turn
from tests.support.town import ALICE, Kiosk, Session, Town

KIOSKS = 3


@pytest.fixture
def sessions(town: Town, tmp_path: Path) -> list[Session]:
    """Kiosks that were live when Alice withdrew, and whose receipts are not handed in yet."""
    made = [Session(Kiosk(town, tmp_path / f"kiosk{n}")) for n in range(KIOSKS)]
    for session in made:
        session.settle()
        session.kiosk.give(ALICE)
        session.settle()
    town.decide(ALICE, "withdrawn")
    town.office.settle()
    return made


def notes(session: Session) -> list[m.ReceiptNote]:
    """Let the kiosk hear the denial and the server its acknowledgement; returns the receipts."""
    frame = session.next()
    assert frame is not None
    now_us = session.kiosk.clock.boot_us()
    said = [*session.device.hear(frame, now_us), *session.device.tick(now_us)]
    kept = []
    for frame in said:
        message = codec.decode(frame)
        if isinstance(message, m.ReceiptNote):
            kept.append(message)
        else:
            session.server.hear(frame)
    while session.server.next() is not None:
        pass
    return kept


def answers(session: Session) -> list[m.Message]:
    found = []
    while (frame := session.server.next()) is not None:
        found.append(codec.decode(frame))
    return found


def revocation(town: Town) -> RevocationRow:
    with town.store.read() as tx:
        return tx.revocations(1)[0]


def state(town: Town) -> str:
    with town.store.read() as tx:
        return town.office.progress(tx, tx.revocations(1)[0]).state


async def hand_in(town: Town, said: list[tuple[Session, m.ReceiptNote]]) -> list[BaseException | None]:
    """All in one turn."""
    turn = Turn(town.node, lasts_s=10)
    hearing = (turn.hear(session.server, codec.encode(note)) for session, note in said)
    return await asyncio.gather(*hearing, return_exceptions=True)


async def test_law_6_receipts_of_a_turn_are_one_transaction_and_complete_it_once(
    town: Town, sessions: list[Session]
) -> None:
    """Each is acknowledged by its own id, after the one commit in which the revocation was completed."""
    said = [(session, note) for session in sessions for note in notes(session)]
    assert len(said) == KIOSKS
    assert state(town) == "enforced"
    before = town.store.transactions().get("receipt", 0)
    statements: list[str] = []
    town.store._writer.set_trace_callback(statements.append)
    await hand_in(town, said)
    assert town.store.transactions()["receipt"] == before + 1
    assert sum("UPDATE revocations SET completed_us" in text for text in statements) == 1
    assert state(town) == "completed"
    acks = [[a.id for a in answers(session) if isinstance(a, m.ReceiptAck)] for session in sessions]
    about = revocation(town).id
    with town.store.read() as tx:
        held = {a.device_id: a.receipt for a in tx.answers(about)}
    assert acks == [[held[session.kiosk.device_id]] for session in sessions]


async def test_a_receipt_that_is_refused_leaves_the_others_of_its_turn(
    town: Town, sessions: list[Session]
) -> None:
    """The forged one is named; the honest two stand, and the revocation waits for the third device."""
    said = [(session, note) for session in sessions for note in notes(session)]
    session, note = said[1]
    said[1] = session, m.ReceiptNote(receipt=note.receipt, signature=bytes(64))
    assert await hand_in(town, said) == [None] * KIOSKS
    heard = [answers(one)[-1] for one in sessions]
    assert [type(one) for one in heard] == [m.ReceiptAck, m.Refusal, m.ReceiptAck]
    assert state(town) == "enforced"
    await hand_in(town, [(session, note)])
    assert state(town) == "completed"


async def test_law_6_receipts_that_the_store_does_not_take_are_not_answered(
    town: Town, sessions: list[Session]
) -> None:
    """Every session of the turn fails, nothing of it stands; the same receipts stand when it takes them."""
    said = [(session, note) for session in sessions for note in notes(session)]

    def full(action: int, table: str | None, *_: object) -> int:
        refused = action == sqlite3.SQLITE_INSERT and table == "answers"
        return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK

    town.store._writer.set_authorizer(full)
    done = await hand_in(town, said)
    town.store._writer.set_authorizer(None)
    assert [isinstance(one, sqlite3.Error) for one in done] == [True] * KIOSKS
    assert [answers(session) for session in sessions] == [[]] * KIOSKS
    assert state(town) == "enforced"
    await hand_in(town, said)
    assert state(town) == "completed"


async def test_the_same_receipts_again_are_acknowledged_and_change_nothing(
    town: Town, sessions: list[Session]
) -> None:
    """Twice in one turn, and in a later one."""
    said = [(session, note) for session in sessions for note in notes(session)]
    await hand_in(town, [*said, *said])
    completed = revocation(town).completed_us
    town.clock.advance(seconds=1)
    await hand_in(town, said)
    assert revocation(town).completed_us == completed
    assert [len(answers(session)) for session in sessions] == [3] * KIOSKS
