"""Withdrawn and given again without contact: the give stands where it had seen every denial, not else."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from sync_server.consent.decisions import API, Proposal, device_actor, record
from sync_server.store.protocol import WriteTx
from sync_server.store.records import DENIALS
from tests.support.town import ALICE, P, Town

KINDS = {
    "give": 6,
    "deny": 5,
    "tell": 12,
    "hear": 2,
    "image": 2,
    "restore": 2,
    "elsewhere": 1,
    "restrict": 1,
    "replay": 1,
    "steal": 1,
}
WALKS, STEPS = 600, 40


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    made = Town(tmp_path_factory.mktemp("town"))
    yield made
    made.close()


@dataclass
class Copy:
    """One copy of a device: what it knows, whatever the server makes of it."""

    position: int = 0
    """Of the lane, as heard."""
    own: tuple[bytes, ...] = ()
    """Its denials, in its order."""
    waiting: tuple[Proposal, ...] = ()


class Bar(NamedTuple):
    """Something that ended or restricted the permission."""

    seq: int
    decision: bytes | None
    restricts: bool


@dataclass
class Oracle:
    """Judges by what each author knew when it spoke, and by nothing else."""

    bars: list[Bar] = field(default_factory=list)
    """Every denial, and every restriction that nobody lifted."""
    every: list[Bar] = field(default_factory=list)
    """Those as well that somebody lifted."""
    knew: dict[bytes, tuple[int, frozenset[bytes]]] = field(default_factory=dict)
    """Decision -> lane position heard, and own denials taken, before it."""

    def stands(self, id_: bytes) -> bool:
        """Whether a give knew of every bar before it."""
        return self._knew(id_, self.bars)

    def bar(self, *what: Any) -> None:
        """One more."""
        self.bars.append(Bar(*what))
        self.every.append(Bar(*what))

    def provable(self, id_: bytes | None) -> bool:
        """Whether a denial knew of every bar before it, and those of its own that it knew did so, too.

        Else what follows it may be refused, though its author knew of everything: it cannot show that.
        """
        at = [bar.seq for bar in self.every if bar.decision == id_]
        if id_ is None or not at:
            return False
        before = [bar for bar in self.every if bar.seq < at[0]]
        own = [bar.decision for bar in before if bar.decision in self.knew[id_][1]]
        return self._knew(id_, before) and all(map(self.provable, own))

    def _knew(self, id_: bytes, bars: Iterable[Bar]) -> bool:
        position, own = self.knew[id_]
        return all(bar.seq <= position or bar.decision in own for bar in bars)


@pytest.mark.parametrize("part", range(3))
def test_law_2_a_give_stands_exactly_when_its_author_knew_every_denial(town: Town, part: int) -> None:
    """Two devices, images put back, replays, others' ids named: against what each copy could know."""
    told: Counter[str] = Counter()
    for seed in range(part * WALKS, (part + 1) * WALKS):
        rng = random.Random(seed)
        walk = [(kind, rng.randrange(8)) for kind in rng.choices([*KINDS], [*KINDS.values()], k=STEPS)]
        with suppress(_Undone), town.store.write("walk") as tx:
            _walked(tx, town.pseudonym(ALICE), walk, told)
            raise _Undone
    assert told["not provable"] < WALKS // 20
    assert min(told[word] for word in ("stood by its own denial", "superseded", "stood")) > WALKS // 10


class _Undone(Exception):
    pass


def _walked(tx: WriteTx, subject: bytes, walk: list[tuple[str, int]], told: Counter[str]) -> None:
    oracle, live = Oracle(), [Copy(), Copy()]
    images: list[tuple[int, Copy]] = []
    sent: list[Proposal] = []
    for n, (kind, which) in enumerate(walk):
        at, id_ = which % 2, n.to_bytes(16, "big")
        copy = live[at]
        match kind:
            case "give" | "deny":
                state = "given" if kind == "give" else "withdrawn"
                after = copy.own[-1] if copy.own else None
                said = Proposal(
                    subject, P, state, "n", copy.position, 0, device_actor(f"d{at}"), id_, after=after
                )
                oracle.knew[id_] = copy.position, frozenset(copy.own)
                own = copy.own if kind == "give" else (*copy.own, id_)
                live[at] = Copy(copy.position, own, (*copy.waiting, said))
            case "tell" if copy.waiting:
                sent.append(copy.waiting[0])
                told[_tell(tx, oracle, copy.waiting[0])] += 1
                live[at] = Copy(copy.position, copy.own, copy.waiting[1:])
            case "hear":
                live[at] = Copy(tx.lane_head(), copy.own, copy.waiting)
            case "image":
                images.append((at, copy))
            case "restore" if images:
                whose, old = images[which % len(images)]
                live[whose] = old
            case "replay" if sent:
                told[_tell(tx, oracle, sent[which % len(sent)])] += 1
            case "elsewhere" | "restrict":
                state = "withdrawn" if kind == "elsewhere" else "restricted"
                done = record(tx, Proposal(subject, P, state, "n", 0, 0, API), now_us=0, salt=bytes(32))
                oracle.bar(done.seq, None, state == "restricted")
            case "steal" if live[1 - at].own:  # names the other device's denial as its own
                stolen = live[1 - at].own[-1]
                actor = device_actor(f"d{at}")
                said = Proposal(subject, P, "given", "n", copy.position, 0, actor, id_, after=stolen)
                oracle.knew[id_] = copy.position, frozenset()
                told[_tell(tx, oracle, said)] += 1
            case _:
                pass


def _tell(tx: WriteTx, oracle: Oracle, said: Proposal) -> str:
    """Record it, and check what became of it; returns that in a word."""
    assert said.decision is not None
    head, expected = tx.lane_head(), oracle.stands(said.decision)
    by_base = all(bar.seq <= said.base for bar in oracle.bars)
    done = record(tx, said, now_us=0, salt=bytes(32))
    if done.repeated:
        assert tx.lane_head() == head
        return "repeated"
    if said.state in DENIALS:
        oracle.bar(done.seq, said.decision, False)
        return "denied"
    stood = done.outcome == "recorded"
    assert expected or not stood
    if not stood:
        assert not expected or not oracle.provable(said.after)
        return "not provable" if expected else "superseded"
    oracle.bars = [bar for bar in oracle.bars if not bar.restricts]  # lifted by who knew of it
    return "stood" if by_base else "stood by its own denial"
