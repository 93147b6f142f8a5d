"""Chance from a seed, also where the product asks the operating system for it: a run can be replayed."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edge_runtime.keys import secret
from tests.support import leaks


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Until the block ends, keys, nonces and ids come from `seed` and are the same in every run."""
    chance = random.Random(f"chance of {seed}")
    places: list[tuple[Any, str, Callable[..., object]]] = [
        (secrets, "token_bytes", lambda count=32: chance.randbytes(count)),
        (secrets, "token_hex", lambda count=32: chance.randbytes(count).hex()),
        (os, "urandom", chance.randbytes),
        (secret, "_source", lambda: None),
    ]
    before = [getattr(module, name) for module, name, _ in places]
    for module, name, seeded_one in places:
        setattr(module, name, seeded_one)
    try:
        with leaks.keys_from_a_seed():
            yield
    finally:
        for (module, name, _), original in zip(places, before, strict=True):
            setattr(module, name, original)
