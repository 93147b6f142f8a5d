"""One round's answers, made by the device's code and read by the server's."""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.aggregates.chance import system_bits
from edge_runtime.aggregates.mechanisms import Question, mechanism_for


def tally_of(question: Question, inputs: Sequence[int]) -> list[int]:
    """The sums that the collector keeps of these subjects' answers."""
    mechanism = mechanism_for(question)
    tally = [0] * mechanism.cells
    for value in inputs:
        moves = mechanism.moves(mechanism.randomize(value, system_bits))
        assert moves is not None
        for cell, amount in moves:
            tally[cell] += amount
    return tally
