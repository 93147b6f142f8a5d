"""What the key tree holds of one subject: its data keys and the denials that are remembered. Pure.

Encoded, the secrets stand in front in plain places, so that they can be taken out without the rest, and
overwritten: `number of keys (1) || 32 bytes each || msgpack of everything else`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from edge_runtime.keys.datakey import KeyFacts
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.secret import KEY_BYTES, joined, wipe
from edge_runtime.wire.printing import prints_only

PURPOSES: Final = 255
"""Most keys of one subject."""


@prints_only("facts")
class Kept(NamedTuple):
    """One data key at rest."""

    facts: KeyFacts
    secret: bytearray


@prints_only("facts")
class _Told(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An entry without its secrets."""

    subject: str
    facts: tuple[KeyFacts, ...]
    denials: tuple[Denial, ...]


@dataclass(slots=True)
class Entry:
    """One subject. Its id stands here only while it has a key: a denial names it by pseudonym."""

    subject: str = ""
    keys: dict[str, Kept] = field(default_factory=dict)
    """Purpose -> key."""
    denials: tuple[Denial, ...] = ()
    """In this device's order."""

    def __repr__(self) -> str:
        return f"Entry(keys={len(self.keys)}, denials={len(self.denials)})"

    @property
    def empty(self) -> bool:
        """Whether there is nothing to remember."""
        return not self.keys and not self.denials

    def newest(self, purpose: str) -> Denial | None:
        """The newest denial of a purpose."""
        found = [denial for denial in self.denials if denial.purpose == purpose]
        return max(found, key=lambda denial: denial.ordinal, default=None)

    def remember(self, denials: Iterable[Denial]) -> None:
        """Take denials in, replacing what was known of them, and let go of those that are over.

        Kept is every denial that the authority does not have yet, and of each purpose without a key the
        newest.
        """
        known = {denial.id: denial for denial in (*self.denials, *denials)}
        self.denials = tuple(sorted(known.values(), key=lambda denial: denial.ordinal))
        self.denials = tuple(denial for denial in self.denials if self._stands(denial))

    def _stands(self, denial: Denial) -> bool:
        newest = denial is self.newest(denial.purpose)
        return not denial.settled or (newest and denial.purpose not in self.keys)

    def encode(self) -> bytearray:
        """The entry's bytes; the caller wipes them."""
        kept = list(self.keys.values())
        told = _Told(self.subject if kept else "", tuple(k.facts for k in kept), self.denials)
        return joined([bytes([len(kept)]), *(key.secret for key in kept), msgspec.msgpack.encode(told)])

    def wipe(self) -> None:
        """Overwrite the secrets of this copy."""
        for key in self.keys.values():
            wipe(key.secret)


def decode(raw: bytearray) -> Entry:
    """The entry in `raw`, with secrets of its own; raises `msgspec` errors for anything else."""
    start = 1 + raw[0] * KEY_BYTES
    told = msgspec.msgpack.decode(memoryview(raw)[start:], type=_Told)
    places = range(1, start, KEY_BYTES)
    keys = {
        facts.purpose: Kept(facts, raw[place : place + KEY_BYTES])
        for facts, place in zip(told.facts, places, strict=True)
    }
    return Entry(told.subject, keys, told.denials)
