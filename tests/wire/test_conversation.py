"""The conversation table, tried whole: every message by every side in every state."""

from __future__ import annotations

import typing

import pytest

from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import TABLE, Side, State, advance
from edge_runtime.wire.failure import WireFailure
from tests.support.frames import EXAMPLES

KINDS = typing.get_args(m.Message)


def test_what_is_not_in_the_table_is_out_of_turn() -> None:
    """Each of the (side, state, message) triples either moves as the table says or is refused."""
    examples = {type(example): example for example in EXAMPLES.values()}
    for side in Side:
        for state in State:
            for kind in KINDS:
                expected = TABLE.get((side, state, kind))
                if expected is not None:
                    assert advance(state, side, examples[kind]) is expected
                    continue
                with pytest.raises(WireFailure, match="out_of_turn"):
                    advance(state, side, examples[kind])


def test_every_message_has_one_speaker_and_a_place() -> None:
    """No message is dead, and only a refusal may come from either side."""
    for kind in KINDS:
        speakers = {side for side, _, said in TABLE if said is kind}
        assert len(speakers) == (2 if kind is m.Refusal else 1), kind


def test_law_2_no_row_and_no_lease_before_the_lane_was_drained() -> None:
    """Rows, leases and checkpoints exist only in LIVE, which only a LaneAck after a Welcome reaches."""
    for kind in (m.Delta, m.Checkpoint, m.Lease, m.DecisionAck):
        assert [state for _, state, said in TABLE if said is kind] == [State.LIVE]
    ways = {(s, k) for (_, s, k), after in TABLE.items() if after is State.LIVE and s is not State.LIVE}
    assert ways == {(State.DRAINING, m.LaneAck)}


def test_nothing_is_said_after_the_end() -> None:
    """CLOSED is the last state."""
    assert not [entry for entry in TABLE if entry[1] is State.CLOSED]
