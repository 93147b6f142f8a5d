"""Golden vectors: these bytes are the protocol. A change of one is a new protocol version."""

from __future__ import annotations

import json
import typing
from pathlib import Path

import pytest

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from tests.support.frames import EXAMPLES, written

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.json"))


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_a_golden_frame_decodes_to_its_message_and_back_to_the_same_bytes(path: Path) -> None:
    """Every vector holds in both directions, against the example and against its written form."""
    vector = json.loads(path.read_text())
    frame, example = bytes.fromhex(vector["frame"]), EXAMPLES[path.stem]
    assert codec.decode(frame) == example
    assert codec.encode(example) == frame
    assert written(codec.decode(frame)) == vector["message"]


def test_every_message_type_has_a_vector() -> None:
    """No message of the protocol is without golden bytes."""
    assert {p.stem for p in VECTORS} == set(EXAMPLES)
    assert {type(example) for example in EXAMPLES.values()} == set(typing.get_args(m.Message))
