"""Frames of one turn are heard together: one wait for the disk, no answer ahead of it, faults kept apart."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from sync_server.sync.turn import FRAMES, OTHERS, Turn
from tests.support.town import ALICE, Kiosk, P, Session, Town


def lived(town: Town, folder: Path, count: int) -> list[Session]:
    sessions = []
    for n in range(count):
        session = Session(Kiosk(town, folder / f"kiosk{n}"))
        session.settle()
        sessions.append(session)
    return sessions


def waits_for_the_disk(town: Town) -> list[str]:
    """Every statement of the writer from now on, to see what it waits for."""
    said: list[str] = []
    town.store._writer.set_trace_callback(said.append)
    return said


def lease_request(town: Town) -> bytes:
    return codec.encode(m.LeaseRequest(id=bytes(16), upto=town.lane_head(), cold_start="server"))


async def test_law_6_a_turn_waits_for_the_disk_once_and_before_any_answer(town: Town, tmp_path: Path) -> None:
    """Three leases, each of which is durable before it is sent: one flush, after the last of them."""
    sessions, turn = lived(town, tmp_path, 3), Turn(town.node, lasts_s=10)
    said = waits_for_the_disk(town)
    await asyncio.gather(*(turn.hear(s.server, lease_request(town)) for s in sessions))
    assert said.count("PRAGMA synchronous = FULL") == 1
    assert said[-2] == "PRAGMA synchronous = FULL"
    assert "'flushed'" in said[-1]
    assert [s.server.backlog for s in sessions] == [1, 1, 1]


async def test_law_2_a_denial_in_a_turn_is_durable_before_its_keys_are_destroyed(
    town: Town, tmp_path: Path
) -> None:
    """It does not wait for the end of the turn."""
    (session,), turn = lived(town, tmp_path, 1), Turn(town.node, lasts_s=10)
    said = waits_for_the_disk(town)
    denial = m.Decision(bytes(16), town.pseudonym(ALICE), P, "withdrawn", "n", 0, 0)
    await turn.hear(session.server, codec.encode(m.Decisions(decisions=[denial])))
    flushed = next(i for i, text in enumerate(said) if "'flushed'" in text)
    assert flushed < next(i for i, text in enumerate(said) if text.startswith("DELETE FROM key_erasures"))


async def test_one_session_s_fault_is_not_another_s(town: Town, tmp_path: Path) -> None:
    """Garbage ends the one; the others of its turn are heard, also when there are more than fit one turn."""
    (session,), turn = lived(town, tmp_path, 1), Turn(town.node, lasts_s=10)
    frames = [b"\xc1", *[lease_request(town)] * (2 * FRAMES)]
    done = await asyncio.gather(*(turn.hear(session.server, f) for f in frames), return_exceptions=True)
    assert isinstance(done[0], WireFailure)
    assert done[1:] == [None] * (2 * FRAMES)


async def test_law_6_a_disk_that_does_not_take_the_turn_leaves_nobody_answered(
    town: Town, tmp_path: Path
) -> None:
    """The flush fails: every session of the turn fails with it, and the next turn is heard again."""
    sessions, turn = lived(town, tmp_path, 2), Turn(town.node, lasts_s=10)

    def full(action: int, table: str | None, *_: object) -> int:
        writes = action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_DELETE) and table == "meta"
        return sqlite3.SQLITE_DENY if writes else sqlite3.SQLITE_OK

    town.store._writer.set_authorizer(full)
    hearing = (turn.hear(s.server, lease_request(town)) for s in sessions)
    done = await asyncio.gather(*hearing, return_exceptions=True)
    assert [isinstance(d, sqlite3.Error) for d in done] == [True, True]
    town.store._writer.set_authorizer(None)
    await turn.hear(sessions[0].server, lease_request(town))


def acked(town: Town, session: Session) -> int:
    with town.store.read() as tx:
        device = tx.device(session.kiosk.device_id)
    assert device is not None
    return device.lane_acked


async def test_law_2_acknowledgements_of_a_denial_are_taken_before_what_else_waits(
    town: Town, tmp_path: Path
) -> None:
    """Behind more frames than fit two turns come those of everybody; one transaction takes them all."""
    sessions, turn = lived(town, tmp_path, 3), Turn(town.node, lasts_s=10)
    town.decide(ALICE, "withdrawn")
    for session in sessions:
        session.next()
    before, head = town.store.transactions()["lane_ack"], town.lane_head()
    order: list[str] = []

    async def hear(session: Session, frame: bytes, name: str) -> None:
        await turn.hear(session.server, frame)
        order.append(name)

    ack = codec.encode(m.LaneAck(upto=head))
    others = [hear(sessions[0], lease_request(town), "lease") for _ in range(2 * FRAMES)]
    await asyncio.gather(*others, *(hear(session, ack, "ack") for session in sessions))
    assert order[: OTHERS + 3].count("ack") == 3
    assert order.count("lease") == 2 * FRAMES
    assert [acked(town, session) for session in sessions] == [head] * 3
    assert town.store.transactions()["lane_ack"] == before + 1


async def test_law_3_a_lease_counts_what_was_acknowledged_in_its_own_turn(town: Town, tmp_path: Path) -> None:
    """The acknowledgement is in the store before the lease is judged."""
    (session,), turn = lived(town, tmp_path, 1), Turn(town.node, lasts_s=10)
    town.decide(ALICE, "withdrawn")
    session.next()
    ack = codec.encode(m.LaneAck(upto=town.lane_head()))
    await asyncio.gather(turn.hear(session.server, ack), turn.hear(session.server, lease_request(town)))
    answer = codec.decode(session.next() or b"")
    assert isinstance(answer, m.Lease)


async def test_law_2_a_turn_of_slow_frames_ends_in_time_and_takes_all_acknowledgements(
    town: Town, tmp_path: Path
) -> None:
    """However slow the others are: every acknowledgement that is there, and one of the others."""
    sessions, turn = lived(town, tmp_path, 3), Turn(town.node, lasts_s=0)
    town.decide(ALICE, "withdrawn")
    for session in sessions:
        session.next()
    order, said = list[str](), waits_for_the_disk(town)

    async def hear(session: Session, frame: bytes, name: str) -> None:
        await turn.hear(session.server, frame)
        order.append(name)

    ack = codec.encode(m.LaneAck(upto=town.lane_head()))
    others = [hear(sessions[0], lease_request(town), "lease") for _ in range(3)]
    await asyncio.gather(*others, *(hear(session, ack, "ack") for session in sessions))
    assert order == ["ack", "ack", "ack", "lease", "lease", "lease"]
    assert said.count("PRAGMA synchronous = FULL") == 3


async def test_law_2_while_decisions_go_out_others_wait_a_little_and_not_for_ever(
    town: Town, tmp_path: Path
) -> None:
    """Acknowledgements do not wait; a turn goes by; then the others are heard a few at a time."""
    sessions, hurried = lived(town, tmp_path, 2), [True]
    turn = Turn(town.node, lambda: hurried[0], lasts_s=10)
    await turn.hear(sessions[0].server, lease_request(town))
    town.decide(ALICE, "withdrawn")
    for session in sessions:
        session.next()
    ack = codec.encode(m.LaneAck(upto=town.lane_head()))
    others = [asyncio.ensure_future(turn.hear(sessions[0].server, lease_request(town))) for _ in range(9)]
    await turn.hear(sessions[1].server, ack)
    assert [other.done() for other in others] == [False] * 9
    async with asyncio.timeout(10):
        await others[0]  # though it is hurried all the time
    assert sum(other.done() for other in others) == OTHERS
    hurried[0] = False
    await asyncio.gather(*others)


async def test_acknowledgements_are_coming_in_for_a_moment_after_the_last(town: Town, tmp_path: Path) -> None:
    """Nothing else counts as one; and two in one turn tell the revocation that waited for both, once."""
    sessions, turn = lived(town, tmp_path, 2), Turn(town.node, lasts_s=10)
    for session in sessions:
        await turn.hear(session.server, lease_request(town))
    before = turn.answering
    town.decide(ALICE, "withdrawn")
    for session in sessions:
        session.next()
    ack, said = codec.encode(m.LaneAck(upto=town.lane_head())), waits_for_the_disk(town)
    await asyncio.gather(*(turn.hear(session.server, ack) for session in sessions))
    assert (before, turn.answering) == (False, True)
    assert sum("UPDATE revocation_told" in text for text in said) == 1
    async with asyncio.timeout(10):
        while turn.answering:
            await asyncio.sleep(0)


class Noted:
    """A speaker whose number is noted when its frame was heard."""

    gone = False

    def __init__(self, number: int, heard: list[int]) -> None:
        self.number, self.told = number, heard

    def heard(self, failure: object) -> None:
        assert failure is None
        self.told.append(self.number)


async def test_law_2_what_keeps_an_acknowledgement_waiting_goes_before_what_keeps_none(
    town: Town, tmp_path: Path
) -> None:
    """Of one session one frame waits at a time: the last of a long line has its acknowledgement behind it."""
    sessions, heard = lived(town, tmp_path, 1), list[int]()
    turn = Turn(town.node, lambda: True, lasts_s=10)
    await turn.hear(sessions[0].server, lease_request(town))  # the others' turn is over for a while
    last = 2 * FRAMES
    speakers = [Noted(number, heard) for number in range(last + 1)]
    for one in speakers:
        turn.put(sessions[0].server, lease_request(town), one)
    turn.hurry(speakers[-1])
    turn.hurry(Noted(-1, heard))  # nothing of its waits
    async with asyncio.timeout(10):
        while not heard:
            await asyncio.sleep(0)
    assert heard[0] == last


async def test_a_session_owes_an_acknowledgement_from_the_decision_to_its_word(
    town: Town, tmp_path: Path
) -> None:
    (session,) = lived(town, tmp_path, 1)
    seen = [session.server.owes]
    town.decide(ALICE, "withdrawn")
    session.next()
    seen.append(session.server.owes)
    session.server.hear(codec.encode(m.LaneAck(upto=town.lane_head())))
    assert [*seen, session.server.owes] == [False, True, False]


async def test_while_acknowledgements_come_turns_are_a_little_apart(town: Town, tmp_path: Path) -> None:
    """Those that come one after another within a moment are one transaction, and none waits for long."""
    sessions, turn = lived(town, tmp_path, 3), Turn(town.node, lasts_s=10, gathers_s=0.5)
    town.decide(ALICE, "withdrawn")
    for session in sessions:
        session.next()
    ack = codec.encode(m.LaneAck(upto=town.lane_head()))
    await turn.hear(sessions[0].server, ack)
    before = town.store.transactions()["lane_ack"]
    hearing = []
    for session in sessions[1:]:
        hearing.append(asyncio.ensure_future(turn.hear(session.server, ack)))
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await asyncio.gather(*hearing)
    assert town.store.transactions()["lane_ack"] == before + 1
