"""Fuzzing the device's side of a session: in every state, whatever somebody in the place of the server says.

Fixed seeds; a long run by hand: `FUZZ_EXAMPLES=100000 python -m pytest tests/edge/test_fuzz_dialogue.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.errors import SyncError, SyncRefused
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import TABLE, Side, State
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.refusal import CODES
from tests.support.frames import EXAMPLES
from tests.support.mutations import EXAMPLES_COUNT, GOLDEN, mutated
from tests.support.state_hash import device_state
from tests.support.town import ALICE, BOB, Kiosk, Session, Town

STATES = (State.CONNECTED, State.GREETED, State.DRAINING, State.LIVE)
fuzzing = settings(
    max_examples=EXAMPLES_COUNT,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Stage:
    """A device in a town; what its server said in a session that is over, and what it said to another."""

    def __init__(self, folder: Path) -> None:
        self.town = Town(folder / "town")
        self.kiosk, self.other = Kiosk(self.town, folder / "one"), Kiosk(self.town, folder / "two")
        self.town.put(3)
        self.others = self._recorded(self.other, BOB)
        self.own = self._recorded(self.kiosk, ALICE)

    def _recorded(self, kiosk: Kiosk, subject: str) -> list[bytes]:
        kiosk.give(subject)
        session = Session(kiosk)
        session.settle()
        self.town.put_profile(subject)
        self.town.put(2, start=1)
        session.settle()
        session.close()
        return [codec.encode(heard) for heard in session.heard]

    def session(self, state: State) -> Session:
        """A new session whose device has come as far as `state`."""
        self.town.clock.advance(seconds=1)
        session = Session(self.kiosk)
        while session.device.state is not state:
            assert session.step()
            if state is State.GREETED and session.device.state is State.DRAINING:
                raise AssertionError("too far")
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
    """Let the device hear `frame` in `state`; returns the code of its refusal, or nothing.

    What is refused changes nothing: no table, no key, no counter.
    """
    session, boot_us = stage.session(state), stage.kiosk.clock.boot_us()
    before = device_state(stage.kiosk)
    code, said_no, answers = "", "going_away", list[bytes]()
    try:
        answers = session.device.hear(frame, boot_us)
    except WireFailure as failure:
        code = failure.code
        assert code in CODES
    except SyncRefused as error:
        assert b"refusal" in frame or b"revoked" in frame  # its last words; of whatever version
        said_no = error.code
    except SyncError as error:
        raise AssertionError("a frame alone loses no lease") from error
    assert said_no in CODES
    refused = [said.code for said in map(codec.decode, answers) if isinstance(said, m.Refusal)]
    assert set(refused) <= CODES.keys()
    if code or refused:
        assert device_state(stage.kiosk) == before, (code, refused)
    session.close()
    return code or "".join(refused[:1])


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in ("lane", "lane_empty")])
def test_every_message_in_every_state_is_judged_or_out_of_turn(stage: Stage, name: str, state: State) -> None:
    """The table says which; nothing of an example is signed by our server, so nothing of it is believed."""
    message = EXAMPLES[name]
    code = offer(stage, state, codec.encode(message))
    if (Side.SERVER, state, type(message)) not in TABLE:
        assert code == "out_of_turn"
    elif isinstance(message, m.Lease | m.Welcome | m.Checkpoint | m.Revoked):
        assert code in ("bad_nonce", "bad_signature", "")


@fuzzing
@given(st.sampled_from(STATES), st.one_of(mutated(GOLDEN), st.binary(max_size=80)))
def test_damaged_golden_frames_change_nothing_that_is_refused(
    stage: Stage, state: State, frame: bytes
) -> None:
    offer(stage, state, frame)


@fuzzing
@given(st.sampled_from(STATES), st.data())
def test_frames_of_older_sessions_and_to_other_devices_are_judged_anew(
    stage: Stage, state: State, data: st.DataObject
) -> None:
    """A Welcome and a Lease answer one nonce of one device: yesterday's and another's open nothing."""
    frame = data.draw(st.sampled_from([*stage.own, *stage.others]))
    message = codec.decode(frame)
    code = offer(stage, state, frame)
    if isinstance(message, m.Welcome | m.Lease):
        assert code in ("bad_nonce", "out_of_turn")


@fuzzing
@given(st.sampled_from(STATES), st.data())
def test_damaged_words_of_a_real_session_change_nothing_that_is_refused(
    stage: Stage, state: State, data: st.DataObject
) -> None:
    """What was signed and no longer verifies is refused too."""
    frame = data.draw(mutated([*stage.own, *stage.others]))
    offer(stage, state, frame)


def test_a_device_that_was_fuzzed_still_converges(stage: Stage) -> None:
    """After all of the above a session with the real server makes it equal again, as a whole."""
    stage.town.clock.advance(seconds=3_700)  # repairs are counted by the hour
    session = Session(stage.kiosk)
    session.settle()
    assert stage.kiosk.stand() == stage.town.head()
    assert session.device.caught_up
    session.close()
