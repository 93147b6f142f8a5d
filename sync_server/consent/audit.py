"""Walking the ledger: every leaf against its row, every hash, every decision against the rules. Pure.

The walk is told one step after another and answers with the first fault: where it is, what was expected, and
what is there. Nobody is named: a pseudonym that is wrong is only said to be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from edge_runtime.wire.messages import LaneEntry
from edge_runtime.wire.printing import prints_only
from sync_server.consent import ledger, merkle
from sync_server.consent.decisions import API, UNKNOWN, begins_after, judge
from sync_server.store.records import BARS, DENIALS, GIVEN, LOST, STATES, DecisionState, Evidence

Pair = tuple[bytes, str]
_decoder: Final = msgspec.msgpack.Decoder(ledger.Leaf)


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that does not hold."""

    name: str
    """What kind of fault, e.g. `leaf_hash`; see docs/ledger.md."""
    where: str
    """What it is about: a table and column, or a file."""
    seq: int | None
    """The ledger position; None where there is none."""
    expected: str
    found: str


class Found(Exception):
    """The walk ends here."""

    def __init__(self, name: str, where: str, seq: int | None, expected: object, found: object) -> None:
        self.fault = Fault(name, where, seq, _shown(expected), _shown(found))
        super().__init__(name)


@prints_only("size")
@dataclass(slots=True)
class Walk:
    """What was seen so far.

    Attributes:
        fence: gives that saw less are superseded although nothing is known of their pair: what denied them
            was erased with its evidence.
    """

    fence: int = 0
    size: int = 0
    nameless: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Seq -> (purpose, state) of each step whose salt was destroyed."""
    barred: dict[str, int] = field(default_factory=dict)
    """Purpose -> the newest of these that denied or restricted it: perhaps to a pair that was named again."""
    pairs: dict[Pair, tuple[int, DecisionState]] = field(default_factory=dict)
    """Pair -> the step that it changed at last, and what holds since."""
    denied: dict[int, Pair | None] = field(default_factory=dict)
    """Seq of each denial -> whom it denies; None where that was erased."""
    owing: set[int] = field(default_factory=set)
    """Denials that a revocation must name, so that devices answer for them."""
    roots: dict[int, bytes] = field(default_factory=dict)
    """Size -> root, for the sizes that somebody asks about."""
    wanted: frozenset[int] = frozenset()
    edge: merkle.RightEdge = field(default_factory=merkle.RightEdge)

    # ---- steps -------------------------------------------------------------------------------------------

    def take(self, step: Evidence, nodes: Iterator[tuple[int, int, bytes]]) -> None:
        """Judge the next step, and the subtree hashes that it completes; raises `Found`."""
        seq = self.size + 1
        if step.seq != seq:
            raise Found("missing_step", "evidence.seq", seq, seq, step.seq)
        leaf = _opened(step)
        _compare(step, leaf)
        self._hash(step, nodes)
        if step.salt:
            self._open(step, leaf)
            self._replay(step)
        else:
            self._erased(step)
        self.size = seq

    def _hash(self, step: Evidence, nodes: Iterator[tuple[int, int, bytes]]) -> None:
        for made in self.edge.add(step.leaf):
            _same_node(next(nodes, None), made, step.seq)
        if step.seq in self.wanted:
            self.roots[step.seq] = self.edge.root()

    def _open(self, step: Evidence, leaf: ledger.Leaf) -> None:
        if leaf.commitment != ledger.commitment(step.salt, step.subject):
            raise Found("commitment", "evidence.subject", step.seq, "the subject the leaf binds", "another")
        if leaf.v >= 2 and leaf.author != ledger.author(step.salt, step.actor, step.decision):
            raise Found("author", "evidence.actor", step.seq, "actor and decision the leaf binds", "others")

    def _replay(self, step: Evidence) -> None:
        """What the rules make of it now is what was recorded then."""
        seq, pair = step.seq, (step.subject, step.purpose)
        if step.state == LOST:  # a restored server has only its number
            if step.outcome != "superseded" or step.purpose or step.grant:
                raise Found("leaf", "evidence", seq, "nothing but the number of a lost step", "a decision")
            return
        _, before = self.pairs.get(pair, (0, DecisionState(UNKNOWN, 0, 0)))
        if step.state == GIVEN and step.base >= seq:
            raise Found("base_rule", "evidence.base", seq, f"less than {seq}", step.base)
        verdict = judge(before, step.state, step.base, seq)
        fence = self.fence if begins_after(before, self.fence) else 0
        fenced = step.state == GIVEN and step.base < max(fence, self.barred.get(step.purpose, 0))
        if step.outcome != verdict.outcome and not (fenced and step.outcome == "superseded"):
            raise Found("base_rule", "evidence.outcome", seq, verdict.outcome, step.outcome)
        stands = step.outcome == "recorded"
        after = verdict.now if stands and verdict.now is not None else before
        if step.grant != after.grant:
            raise Found("grant", "evidence.grant_seq", seq, after.grant, step.grant)
        if stands:
            self.pairs[pair] = (seq, after)
        if step.state in DENIALS:
            self.denied[seq] = pair
            if step.state != "refused" or before.grant:  # a first refusal waits for nobody
                self.owing.add(seq)

    def _erased(self, step: Evidence) -> None:
        """Nothing in the row may lead to anybody any more."""
        if step.subject or step.decision is not None:
            raise Found("erased", "evidence.subject", step.seq, "none, as its salt was destroyed", "one")
        self.nameless[step.seq] = (step.purpose, step.state)
        if step.state in BARS:
            self.barred[step.purpose] = step.seq
        if step.state in DENIALS:
            self.denied[step.seq] = None

    # ---- after the last ----------------------------------------------------------------------------------

    def end(self, nodes: Iterator[tuple[int, int, bytes]]) -> None:
        """No hash is kept of leaves that are not there; raises `Found`."""
        more = next(nodes, None)
        if more is not None:
            level, place, _ = more
            raise Found("cut_tail", "ledger_nodes", (place + 1) << level, "a leaf", "only its hash")

    def lane(self, entries: Iterable[LaneEntry]) -> None:
        """The lane is exactly what the steps make; raises `Found`."""
        left = dict(self.pairs)
        for entry in entries:
            pair = (entry.subject, entry.purpose)
            seq, state = left.pop(pair, (0, None))
            if state is None:
                self._fenced(entry)
                continue
            made = {"seq": seq, "state": state.state, "grant_seq": state.grant, "denial": state.denial}
            found = {"seq": entry.seq, "state": entry.state, "grant_seq": entry.grant, "denial": entry.denial}
            for name, expected in made.items():
                if name == "denial" and not expected and self._nameless_denial(entry):
                    continue  # the pair came again before its fence was dropped
                if found[name] != expected:
                    raise Found("lane", f"lane.{name}", seq, expected, found[name])
        if left:
            seq = min(seq for seq, _ in left.values())
            raise Found("lane", "lane", seq, "the pair that this step changed", "none")

    def _nameless_denial(self, entry: LaneEntry) -> bool:
        """Whether the newest denial of a pair is a step of the same purpose whose salt was destroyed."""
        purpose, state = self.nameless.get(entry.denial, ("", ""))
        return purpose == entry.purpose and state in DENIALS

    def _fenced(self, entry: LaneEntry) -> None:
        """A pair without evidence may only be one that stays as a fence: its last step, and no grant."""
        if self.nameless.get(entry.seq) != (entry.purpose, entry.state) or entry.grant:
            raise Found("lane", "lane", entry.seq, "no pair that no step made", "one")
        if entry.denial > entry.seq or (entry.state in DENIALS and entry.denial != entry.seq):
            raise Found("lane", "lane.denial", entry.seq, "its newest denial", entry.denial)

    def denials(self, rows: Iterable[tuple[int, str | None, bytes, str]]) -> None:
        """Every denial of a revocation is a step that denies the same; raises `Found`."""
        left = set(self.owing)
        for seq, revocation, subject, purpose in rows:
            left.discard(seq)
            if revocation is None:
                raise Found("denial", "denials.revocation", seq, "a revocation that is there", "none")
            if seq not in self.denied:
                raise Found("denial", "denials.seq", seq, "a step that denies", "another or none")
            pair = self.denied[seq]
            if pair is not None and pair != (subject, purpose):
                raise Found("denial", "denials.subject", seq, "the pair that the step denies", "another")
        if left:
            raise Found("denial", "denials", min(left), "a revocation that names this denial", "none")


def _opened(step: Evidence) -> ledger.Leaf:
    try:
        leaf = _decoder.decode(step.leaf)
    except msgspec.MsgspecError:
        raise Found("leaf", "evidence.leaf", step.seq, "a ledger leaf", "other bytes") from None
    if ledger.leaf_bytes(leaf) != step.leaf and leaf.v >= 2:
        raise Found("leaf", "evidence.leaf", step.seq, "the canonical form of a leaf", "another")
    if leaf.state not in STATES | {LOST}:
        raise Found("leaf", "evidence.leaf", step.seq, "a state of decisions", leaf.state)
    return leaf


def _compare(step: Evidence, leaf: ledger.Leaf) -> None:
    """The leaf says what the row says."""
    actor = "api" if step.actor == API else "device"
    said = {
        "seq": (leaf.seq, step.seq),
        "purpose": (leaf.purpose, step.purpose),
        "state": (leaf.state, step.state),
        "outcome": (leaf.outcome, step.outcome),
        "notice": (leaf.notice, step.notice),
        "base": (leaf.base, step.base),
        "actor": (leaf.actor, actor),
        "at_us": (leaf.at_us, step.at_us),
        "recorded_us": (leaf.recorded_us, step.recorded_us),
        "grant_seq": (leaf.grant, step.grant),
        "notice_hash": (leaf.notice_hash, step.notice_hash),
        "registry": (leaf.registry, step.registry),
        "signals": (tuple(leaf.signals), tuple(step.signals)),
    }
    for name, (hashed, stored) in said.items():
        if hashed != stored:
            raise Found("column", f"evidence.{name}", step.seq, hashed, stored)


def _same_node(kept: tuple[int, int, bytes] | None, made: tuple[int, int, bytes], seq: int) -> None:
    level, place, hash_ = made
    where = f"ledger_nodes {level}:{place}"
    if kept is None or kept[:2] != (level, place):
        raise Found("leaf_hash", where, seq, hash_.hex(), "no such node")
    if kept[2] != hash_:
        raise Found("leaf_hash" if level == 0 else "node_hash", where, seq, hash_.hex(), kept[2].hex())


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
