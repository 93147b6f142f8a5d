"""What a device refuses in a session it refuses with a code of the gate's table, and with nothing changed."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest

from edge_runtime.errors import SyncRefused
from edge_runtime.sync import gate
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from tests.journeys.test_session import standing, with_alice
from tests.support.frames import EXAMPLES
from tests.support.town import Kiosk, Session, Town

SEED, TRIES = 77, 3_000


def bent(rng: random.Random, message: m.Message) -> m.Message:
    """A message of the same type in which one or two fields say something else that still fits them."""
    fields = {name: getattr(message, name) for name in message.__struct_fields__ if name != "v"}
    for name in rng.sample(sorted(fields), min(len(fields), rng.choice((1, 1, 2)))):
        fields[name] = other(rng, fields[name])
    return type(message)(**fields)


def other(rng: random.Random, value: object) -> object:
    match value:
        case bool():
            return not value
        case int():
            return max(0, value + rng.choice((-1, 1, 1_000_000)))
        case bytes():
            return rng.randbytes(len(value))
        case str():
            return rng.choice(("all", "segment:gold", "~aaaqeayeaudaocajbifqydiob4/personalization", "~x"))
        case list():
            return value[::-1] + value[:1]
        case _:
            return value


def test_law_12_every_refusal_of_a_device_is_in_the_table(tmp_path: Path) -> None:
    """3,000 messages that are well formed and wrong (seed 77), while live: taken, or refused by the table."""
    town = Town(tmp_path / "town")
    kiosk = Kiosk(town, tmp_path / "kiosk")
    town.put(30)
    session = with_alice(town, kiosk)
    heard = [*session.heard, *(e for e in EXAMPLES.values() if not isinstance(e, m.Revoked | m.Lane))]
    session.close()
    rng, codes = random.Random(SEED), defaultdict[type[m.Message], set[str]](set)
    for n in range(TRIES):
        if n % 50 == 0:
            session.close()
            kiosk.clock.advance(seconds=1)
            session = Session(kiosk)
            session.open()
        message = bent(rng, rng.choice(heard))
        if isinstance(message, m.Lane):
            continue  # a legal decision is the server's word, and moves the lane for good
        before = standing(kiosk)
        try:
            session.device.hear(codec.encode(message), kiosk.clock.boot_us())
        except WireFailure as failure:
            assert standing(kiosk) == before, (SEED, message)
            codes[type(message)].add(failure.code)
        except SyncRefused:
            assert standing(kiosk) == before, (SEED, message)
    for kind, found in codes.items():
        allowed = {check.code for check in gate.CHECKS.get(kind, ())} | {"out_of_turn", "malformed"}
        assert found <= allowed, (SEED, kind, found - allowed)
    assert {"stale_delta", "malformed"} & codes[m.Delta]
    assert "bad_signature" in codes[m.Checkpoint]
    assert codes[m.Welcome] == {"out_of_turn"}
    session.close()
    kiosk.close()
    town.close()


def test_a_frame_that_fits_no_message_is_malformed_before_the_gate() -> None:
    """The codec's word, whatever the state."""
    for raw in (b"", b"\x80", msgspec.msgpack.encode({"t": "delta", "v": 1})):
        with pytest.raises(WireFailure, match=r"malformed|unsupported_version"):
            codec.decode(raw)
