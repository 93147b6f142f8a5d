"""Fuzzing a device session at the server: in every state, whatever a stranger or an enrolled device says.

Fixed seeds; a long run by hand: `FUZZ_EXAMPLES=100000 python -m pytest tests/server/test_fuzz_session.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import TABLE, Side, State
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.refusal import CODES
from tests.support.frames import EXAMPLES
from tests.support.mutations import EXAMPLES_COUNT, GOLDEN, mutated
from tests.support.state_hash import server_state
from tests.support.town import ALICE, BOB, Kiosk, Session, Town

STATES = (State.CHALLENGED, State.GREETED, State.DRAINING, State.LIVE)
fuzzing = settings(
    max_examples=EXAMPLES_COUNT,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Stage:
    """A town, a device that talks, another whose words were recorded, and words of an earlier session."""

    def __init__(self, folder: Path) -> None:
        self.town = Town(folder / "town")
        self.kiosk, self.other = Kiosk(self.town, folder / "one"), Kiosk(self.town, folder / "two")
        self.own = self._recorded(self.kiosk, ALICE)
        """What this device said in a session that is over."""
        self.others = self._recorded(self.other, BOB)

    def _recorded(self, kiosk: Kiosk, subject: str) -> list[bytes]:
        self.town.put(3)
        kiosk.give(subject)
        session = Session(kiosk)
        session.settle()
        self.town.put_profile(subject)
        session.settle()
        kiosk.consents.withdraw(subject)
        session.settle()
        session.close()
        return [codec.encode(said) for said in session.said]

    def session(self, state: State) -> Session:
        """A new session of this device that has come as far as `state`."""
        self.town.clock.advance(seconds=1)  # within the budgets of admission
        session = Session(self.kiosk)
        server = session.server
        challenge = session.next()
        assert challenge is not None
        if state is State.CHALLENGED:
            return session
        (hello,) = session.device.hear(challenge, self.kiosk.clock.boot_us())
        server.hear(hello)
        if state is State.GREETED:
            return session
        while server.state is not state:
            frame = session.next()
            assert frame is not None
            for answer in session.device.hear(frame, self.kiosk.clock.boot_us()):
                if server.state is not state:
                    server.hear(answer)
        return session

    def close(self) -> None:
        for one in (self.kiosk, self.other, self.town):
            one.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.close()


def offer(stage: Stage, state: State, frame: bytes) -> str:
    """Let the server hear `frame` in `state`; returns the code of the refusal, or nothing.

    A refusal changes no table; only a frame that the conversation allows is taken at all.
    """
    session = stage.session(state)
    before, waiting = server_state(stage.town.store), len(session.server._replies)
    try:
        session.server.hear(frame)
        code = ""
    except WireFailure as failure:
        code = failure.code
    replies = list(session.server._replies)[waiting:]
    refused = [said.code for said in replies if isinstance(said, m.Refusal)]
    assert {code, *refused} - {""} <= CODES.keys()
    if code or (refused and len(refused) == len(replies)):
        assert server_state(stage.town.store) == before, (code, refused)
    for _ in range(200):  # and it goes on speaking, or ends: nothing it says is without sense
        if code or (said := session.next()) is None:
            break
        codec.decode(said)
    session.close()
    return code or "".join(refused[:1])


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_message_in_every_state_is_heard_or_out_of_turn(stage: Stage, name: str, state: State) -> None:
    """The table says which; what it allows is judged by its own words."""
    message = EXAMPLES[name]
    code = offer(stage, state, codec.encode(message))
    if (Side.DEVICE, state, type(message)) not in TABLE:
        assert code == "out_of_turn"
    else:
        assert code != "out_of_turn" or isinstance(
            message, m.LaneAck | m.Recalled | m.LeaseRequest | m.Repair
        )


@fuzzing
@given(st.sampled_from(STATES), st.one_of(mutated(GOLDEN), st.binary(max_size=80)))
def test_damaged_golden_frames_change_nothing_that_is_refused(
    stage: Stage, state: State, frame: bytes
) -> None:
    offer(stage, state, frame)


@fuzzing
@given(st.sampled_from(STATES), st.data())
def test_frames_of_an_older_session_and_of_another_device_are_judged_anew(
    stage: Stage, state: State, data: st.DataObject
) -> None:
    """Nobody becomes another by saying what that one said; an old Hello answers an old nonce."""
    frame = data.draw(st.sampled_from([*stage.own, *stage.others]))
    code = offer(stage, state, frame)
    if isinstance(codec.decode(frame), m.Hello):
        assert code == ("bad_signature" if state is State.CHALLENGED else "out_of_turn")


@fuzzing
@given(st.sampled_from(STATES), st.data())
def test_damaged_words_of_a_real_session_change_nothing_that_is_refused(
    stage: Stage, state: State, data: st.DataObject
) -> None:
    offer(stage, state, data.draw(mutated([*stage.own, *stage.others])))


def test_another_devices_receipt_is_refused_and_proves_nothing(stage: Stage) -> None:
    """It names its own device, and the other's key does not sign for it."""
    receipts = [f for f in stage.others if isinstance(codec.decode(f), m.ReceiptNote)]
    assert receipts
    for frame in receipts:
        assert offer(stage, State.LIVE, frame) == "bad_signature"


def test_hearing_the_same_thing_twice_is_hearing_it_once(stage: Stage) -> None:
    """Decisions, receipts and acknowledgements of an older session, told again: no table changes."""
    for frame in stage.own:
        if isinstance(codec.decode(frame), m.Decisions | m.ReceiptNote):
            session = stage.session(State.LIVE)
            before = server_state(stage.town.store)
            session.server.hear(frame)
            assert server_state(stage.town.store) == before
            session.close()
