"""What must be so, worked out beside the product: who published which mark, and what each device may read.

It reads the server's ledger step by step and judges it by rules of its own. What a device knows it takes
from the frames which that device accepted, and from what was decided on it, never from the device's database.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_runtime.wire import messages as m

Pair = tuple[str, str]
"""(typed subject, purpose)."""
DENIED = frozenset({"refused", "withdrawn", "revoked", "expired", "objected"})
NEVER = 1 << 62


@dataclass(frozen=True)
class Published:
    """One accepted row."""

    view: str
    entity: str
    pair: Pair | None
    grant: int
    """Under which it was accepted; 0 for a row about nobody."""


@dataclass
class Holding:
    """What holds for a pair by the ledger."""

    grant: int = 0
    denial: int = 0
    restricted: int = 0
    """Seq of the restriction in force; 0 for none."""

    def take(self, state: str, knows: bool, seq: int) -> None:
        """One step of the ledger, whose author knew of every denial and restriction, or did not."""
        if state in DENIED:
            self.grant, self.denial, self.restricted = 0, seq, 0
        elif state == "restricted":
            self.restricted = seq
        elif knows:
            self.grant, self.restricted = self.grant or seq, 0


@dataclass
class Known:
    """What one device was told or decided itself. A crash takes nothing of it away."""

    entries: dict[Pair, m.LaneEntry] = field(default_factory=dict)
    """The newest lane entry of each pair that was accepted here."""
    denied_here: dict[Pair, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    """Ids of the denials decided here."""
    restricted_here: dict[Pair, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    """Ids of the restrictions decided here since the last denial here."""
    asked: dict[bytes, int] = field(default_factory=dict)
    """Lease request -> boot time of its sending."""
    leased_until_us: dict[str, int] = field(default_factory=dict)
    """Purpose -> boot time at which the newest lease ends, in this boot and process."""
    enforced: dict[Pair, int] = field(default_factory=dict)
    """Pair -> newest denial that the server says is enforced here."""
    erased: dict[Pair, int] = field(default_factory=dict)
    """Pair -> newest denial that the server says was answered here."""
    given: dict[Pair, int] = field(default_factory=dict)
    """Pairs with a consent taken or taken up here, -> the lane position that it had seen."""
    lease_end_us: int = 0
    """Boot time at which the newest lease ends, whatever a purpose allows; 0 for none."""
    events: dict[Pair, int] = field(default_factory=dict)
    """Events taken since then."""
    lane: int = 0
    """The newest lane position that was accepted here."""
    follows: dict[Pair, frozenset[bytes]] = field(default_factory=dict)
    """Pair that is given here -> the denials taken here before that."""
    told: dict[bytes, Pair] = field(default_factory=dict)
    """Consents taken here since the last denial that the ledger has not answered."""
    damaged: set[str] = field(default_factory=set)
    """Channels of which a row was lost here on purpose, or that were sent rows of another session."""
    unheard: set[Pair] = field(default_factory=set)
    """Pairs of which the lane brought our own denial, and nobody yet the word on what followed it."""

    def heard_lane(self, lane: m.Lane, pair_of: Callable[[m.LaneEntry], Pair | None]) -> None:
        """The device accepted lane entries."""
        if not lane.more:
            self.lane = max(self.lane, lane.upto)
        for entry in lane.entries:
            pair = pair_of(entry)
            if pair is None:
                continue
            before = self.entries.get(pair)
            if before is None or before.seq < entry.seq:
                self.entries[pair] = entry
                if entry.denial > (0 if before is None else before.denial) and pair not in self.given:
                    self.events[pair] = 0
            if entry.denial <= self.given.get(pair, NEVER):
                continue
            if entry.decision not in self.follows.get(pair, ()):
                self.close(pair)
            elif pair in self.told.values():
                self.unheard.add(pair)

    def heard_ack(self, ack: m.DecisionAck) -> None:
        """The ledger's word on a decision taken here."""
        pair = self.told.pop(ack.id, None)
        if pair is not None and ack.outcome == "superseded":
            if not 0 < ack.grant <= self.given[pair]:  # else it had the grant that lives on
                self.close(pair)
        elif pair is not None:
            self.given[pair] = max(self.given[pair], ack.grant)
            self.unheard.discard(pair)

    def consents(self, pair: Pair, decision: bytes | None = None) -> None:
        """A consent was taken, or taken up, on the device."""
        if pair not in self.given:
            self.events[pair] = 0
            self.follows[pair] = frozenset(self.denied_here.get(pair, ()))
        entry = self.entries.get(pair)  # a drain that broke off may have told of a grant beyond the position
        self.given[pair] = max(self.lane, 0 if entry is None else entry.grant)
        if decision is not None:
            self.told[decision] = pair
            if entry is not None and entry.denial <= self.lane:
                self.unheard.discard(pair)  # given with all of that heard

    def close(self, pair: Pair) -> None:
        """Nothing of the pair may be used here until somebody consents anew."""
        self.given.pop(pair, None)
        self.events.pop(pair, None)
        self.restricted_here.pop(pair, None)
        self.follows.pop(pair, None)
        self.unheard.discard(pair)
        self.told = {id_: other for id_, other in self.told.items() if other != pair}

    def restarted(self) -> None:
        """A lease does not outlive the process."""
        self.asked.clear()
        self.leased_until_us.clear()
        self.lease_end_us = 0


class Oracle:
    """Everything that was published and decided."""

    def __init__(self) -> None:
        self.published: dict[int, Published] = {}
        self.holding: dict[Pair, Holding] = defaultdict(Holding)
        self.denials: dict[Pair, list[int]] = defaultdict(list)
        """Seqs of every denial, in order."""
        self.grants: dict[Pair, set[int]] = defaultdict(set)
        """Every grant that ever stood."""
        self.recorded: dict[bytes, int] = {}
        """Decision id -> seq in the ledger: under its author's name, once it is there."""
        self.knew: dict[bytes, tuple[int, frozenset[bytes], str]] = {}
        """Decision of a device -> the lane position, and the own denials of the pair, that it knew of; its
        author as the ledger names it."""
        self.by_own_denial = self.unproven = 0
        """Consents that stood though the lane had not brought the own denial before them; and such that the
        ledger did not take though their author knew of everything."""
        self.ledger = 0
        self._marks = 0

    def next_mark(self) -> int:
        """A value that was never published."""
        self._marks += 1
        return self._marks

    def step(
        self, seq: int, pair: Pair, state: str, base: int, decision: bytes | None, outcome: str, actor: str
    ) -> str | None:
        """One more step of the ledger; returns what is wrong with it.

        The ledger's own account of what a device had seen is not believed where the device can be asked.
        """
        assert seq == self.ledger + 1, (seq, self.ledger)
        self.ledger = seq
        position, own, author = self.knew.get(decision or b"", (base, frozenset[bytes](), actor))
        seen = {self.recorded.get(id_, 0) for id_ in own}
        holding = self.holding[pair]
        bars = [*self.denials[pair], *([holding.restricted] if holding.restricted else [])]
        knows = all(bar <= position or bar in seen for bar in bars)
        stood = state == "given" and outcome == "recorded"
        if stood and not knows:
            return f"a give at {seq} stands that had seen {position} and {seen}, of {bars}"
        self.by_own_denial += stood and any(bar > position for bar in bars)
        self.unproven += state == "given" and knows and not stood
        holding.take(state, stood, seq)
        self.grants[pair].add(self.holding[pair].grant)
        if state in DENIED:
            self.denials[pair].append(seq)
        # what the proxy took to another device's session stands a second time, as a decision of that device;
        # its author learns of it from the lane, and not as the one it took itself
        if decision is not None and (actor == author or decision not in self.recorded):
            self.recorded[decision] = seq
        return None

    def expected_refusal(self, pair: Pair | None, as_of: int) -> str | None:
        """With which code a row must be refused, its age left out."""
        if pair is None:
            return None
        holding = self.holding[pair]
        if holding.grant == 0 or holding.restricted:
            return "no_permission"
        return "stale_grant" if holding.grant > as_of else None

    def newest_denial(self, known: Known, pair: Pair) -> int:
        """The newest denial of a pair that this device knows; beyond all while one waits to be told."""
        entry = known.entries.get(pair)
        before = bisect_right(self.denials[pair], known.lane)  # its position says that it knows all before it
        told = [self.denials[pair][before - 1]] if before else []
        told += [self.recorded.get(id_, NEVER) for id_ in known.denied_here.get(pair, ())]
        return max([0 if entry is None else entry.denial, *told])

    def restricted(self, known: Known, pair: Pair) -> bool:
        """Whether a device knows a restriction: of the lane, or its own that the lane has not gone past."""
        entry = known.entries.get(pair)
        seq, said = (0, "") if entry is None else (entry.seq, entry.state)
        own = known.restricted_here.get(pair, ())
        return said == "restricted" or any(self.recorded.get(id_, NEVER) > seq for id_ in own)

    def objected(self, known: Known, pair: Pair) -> bool:
        """Whether a device knows that a subject is against what rests on another basis than consent."""
        entry = known.entries.get(pair)
        seq, said = (0, "given") if entry is None else (entry.seq, entry.state)
        own = known.denied_here.get(pair, ())
        return said in DENIED or any(self.recorded.get(id_, NEVER) > seq for id_ in own)

    def why_not(self, known: Known, pair: Pair, mark: int, boot_us: int) -> str | None:
        """Why a mark must not be readable on a device; None when it may be."""
        held = self.why_not_held(known, pair, mark)
        if held is not None:
            return held
        if pair not in known.given:
            return "nobody consented on the device since it was denied there"
        if pair in known.unheard:
            return "the ledger has not said what it makes of the consent after the device's own denial"
        if self.restricted(known, pair):
            return "the device knows a restriction"
        if boot_us >= known.leased_until_us.get(pair[1], 0):
            return "no lease runs on the device"
        enforced = known.enforced.get(pair, 0)
        if self.published[mark].grant <= enforced:
            return f"the server says that denial {enforced} is enforced here"
        return None

    def why_not_held(self, known: Known, pair: Pair, mark: int) -> str | None:
        """Why a mark must not even rest under a living key."""
        published = self.published.get(mark)
        if published is None or published.pair != pair:
            return "it was never published for this subject and purpose"
        erased = known.erased.get(pair, 0)
        if published.grant <= erased:
            return f"published under grant {published.grant}; the server says it erased for denial {erased}"
        denial = self.newest_denial(known, pair)
        if published.grant <= denial:
            return f"published under grant {published.grant}; the device knows denial {denial}"
        return None
