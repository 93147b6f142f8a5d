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

    def take(self, state: str, base: int, seq: int) -> None:
        """One step of the ledger."""
        if state in DENIED:
            self.grant, self.denial, self.restricted = 0, seq, 0
        elif state == "restricted":
            self.restricted = seq
        elif self.denial <= base and self.restricted <= base:
            self.grant, self.restricted = self.grant or seq, 0


@dataclass
class Known:
    """What one device was told or decided itself. A crash takes nothing of it away."""

    entries: dict[Pair, m.LaneEntry] = field(default_factory=dict)
    """The newest lane entry of each pair that was accepted here."""
    denied_here: dict[Pair, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    """Ids of the denials decided here."""
    asked: dict[bytes, int] = field(default_factory=dict)
    """Lease request -> boot time of its sending."""
    leased_until_us: dict[str, int] = field(default_factory=dict)
    """Purpose -> boot time at which the newest lease ends, in this boot and process."""
    enforced: dict[Pair, int] = field(default_factory=dict)
    """Pair -> newest denial that the server says is enforced here."""
    given: dict[Pair, int] = field(default_factory=dict)
    """Pairs with a consent taken or taken up here, -> the lane position that it had seen."""
    lease_end_us: int = 0
    """Boot time at which the newest lease ends, whatever a purpose allows; 0 for none."""
    events: dict[Pair, int] = field(default_factory=dict)
    """Events taken since then."""
    lane: int = 0
    """The newest lane position that was accepted here."""

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
            if entry.denial > self.given.get(pair, NEVER):
                self.close(pair)

    def consents(self, pair: Pair) -> None:
        """A consent was taken, or taken up, on the device."""
        if pair not in self.given:
            self.events[pair] = 0
        entry = self.entries.get(pair)  # a drain that broke off may have told of a grant beyond the position
        self.given[pair] = max(self.lane, 0 if entry is None else entry.grant)

    def close(self, pair: Pair) -> None:
        """Nothing of the pair may be used here until somebody consents anew."""
        self.given.pop(pair, None)
        self.events.pop(pair, None)

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
        """Decision id -> seq in the ledger."""
        self.ledger = 0
        self._marks = 0

    def next_mark(self) -> int:
        """A value that was never published."""
        self._marks += 1
        return self._marks

    def step(self, seq: int, pair: Pair, state: str, base: int, decision: bytes | None) -> None:
        """One more step of the ledger."""
        assert seq == self.ledger + 1, (seq, self.ledger)
        self.ledger = seq
        self.holding[pair].take(state, base, seq)
        self.grants[pair].add(self.holding[pair].grant)
        if state in DENIED:
            self.denials[pair].append(seq)
        if decision is not None:
            self.recorded[decision] = seq

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

    def why_not(self, known: Known, pair: Pair, mark: int, boot_us: int) -> str | None:
        """Why a mark must not be readable on a device; None when it may be."""
        held = self.why_not_held(known, pair, mark)
        if held is not None:
            return held
        entry = known.entries.get(pair)
        if pair not in known.given:
            return "nobody consented on the device since it was denied there"
        if entry is not None and entry.state == "restricted":
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
        denial = self.newest_denial(known, pair)
        if published.grant <= denial:
            return f"published under grant {published.grant}; the device knows denial {denial}"
        return None
