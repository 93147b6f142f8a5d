"""Who gets in, and whose snapshot flows: counters in memory, asked before anything is read from the store.

::

    knock --> OPENING --judge--> IN     all of it; a snapshot flows only while it holds a slot
                          \\---> GUEST  behind in the lane and no room besides: all but rows
    any --leave--> GONE

Three budgets stand apart: sessions that claim a snapshot, sessions that resume, and a reserve for devices
behind in the decision lane, which nobody else can take. Snapshot slots are a fourth; who waits for one waits
in the order of asking. A device that is refused is told when to come back: the refused stand in a line that
moves at the rate at which the node can take them. Pure: the time and chance are handed in.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from sync_server.settings import SECOND_US, Settings


class Kind(StrEnum):
    """What a session claims to need, and so the budget that it draws on."""

    SNAPSHOT = "snapshot"
    RESUME = "resume"
    REVOCATION = "revocation"
    """Decisions that it has not heard yet."""


class Stage(StrEnum):
    """Where a visit stands."""

    OPENING = "opening"
    """A socket that has not said who it is."""
    IN = "in"
    GUEST = "guest"
    """In by the reserve: no rows flow, and it goes soon unless room is found."""
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a Hello says of itself. It is not verified yet: a lie gains a place in a line, and no data."""

    snapshot: bool
    """A channel without a cursor, or with one that is known here to be below its floor or beyond its head."""
    behind: bool
    """Its lane position is before the head."""

    @property
    def kind(self) -> Kind:
        """The budget that its rows draw on."""
        return Kind.SNAPSHOT if self.snapshot else Kind.RESUME


class Turned(WireFailure):
    """Not now: come back after `retry_after_us`."""

    def __init__(self, reason: str, retry_after_us: int) -> None:
        super().__init__("overloaded", reason)
        self.retry_after_us = retry_after_us


class Visit:
    """One session in the eyes of admission. `wake` is set by the session, `part` by what carries it."""

    __slots__ = ("claim", "guest_until_us", "moved_us", "part", "slot_us", "stage", "wake")

    def __init__(self) -> None:
        self.stage = Stage.OPENING
        self.claim = Claim(snapshot=False, behind=False)
        self.slot_us: int | None = None
        """When it was given its snapshot slot; None: it has none."""
        self.moved_us = 0
        """When it last took a frame of its snapshot."""
        self.guest_until_us = 0
        self.wake: Callable[[], None] = _nothing
        """Called when it may go on: a snapshot slot, or room for its rows."""
        self.part: Callable[[m.Refusal], None] = _nothing_to_say
        """Called when it has to go."""


class Line:
    """A rate with a burst, and the line of those who did not get in (the generic cell rate algorithm)."""

    def __init__(self, per_s: int, burst: int, longest_us: int) -> None:
        self._step_us, self._slack_us = SECOND_US // per_s, (burst - 1) * (SECOND_US // per_s)
        self._longest_us = longest_us
        self._due_us = self._end_us = 0

    def take(self, now_us: int) -> bool:
        """Whether one more gets in now."""
        self._due_us = min(max(self._due_us, now_us), now_us + self._slack_us + self._step_us)
        if self._due_us - now_us > self._slack_us:
            return False
        self._due_us += self._step_us
        return True

    def wait_us(self, now_us: int, chance: float) -> int:
        """Stand in line: how long until one's turn. The line moves at the rate, up to its longest."""
        end_us = min(max(self._end_us, now_us), now_us + self._longest_us)
        self._end_us = end_us + self._step_us
        if self._end_us - now_us > self._longest_us:
            return round(self._longest_us * (1 + chance) / 2)
        return self._end_us - now_us

    def spread_us(self, waiting: int) -> int:
        """How long it takes to let in `waiting`."""
        return min(waiting * self._step_us, self._longest_us)


class Admission:
    """The gatekeeper of one node. Every question costs the same however many wait, but for `tick`."""

    def __init__(self, settings: Settings) -> None:
        s, self._settings = settings, settings
        self._lines = {
            Kind.SNAPSHOT: Line(s.snapshot_admissions_per_s, s.admissions_burst, s.retry_longest_us),
            Kind.RESUME: Line(s.resume_admissions_per_s, s.admissions_burst, s.retry_longest_us),
            Kind.REVOCATION: Line(s.revocation_admissions_per_s, s.admissions_burst, s.retry_longest_us),
        }
        self.closing = False
        """The node stops: nobody gets in any more."""
        self._visits: dict[Visit, None] = {}
        self._stages: Counter[Stage] = Counter()
        self._guests: OrderedDict[Visit, None] = OrderedDict()
        self._slots: dict[Visit, None] = {}
        self._waiting: OrderedDict[Visit, None] = OrderedDict()
        self.admitted: Counter[str] = Counter()
        """Sessions let in since the start, by budget."""
        self.refused: Counter[str] = Counter()
        """Sessions sent away since the start, by budget; `opening`: sockets refused before they spoke."""
        self.reclaimed: Counter[str] = Counter()
        """Snapshot slots taken back from holders: `stalled`, or `turn` when others waited too long."""
        self.most_slots = 0
        """Most snapshot slots ever held at once."""

    # ---- getting in --------------------------------------------------------------------------------------

    def knock(self, now_us: int, chance: float) -> Visit:
        """A socket wants to open; raises `Turned` when too many stand there without having said who they are,
        the node is full to its reserve, or stops."""
        full = self._stages[Stage.GUEST] >= self._settings.revocation_sessions and not self._room
        if self.closing or full or self._stages[Stage.OPENING] >= self._settings.openings:
            self.refused[Stage.OPENING] += 1
            raise Turned("too many sessions", self._lines[Kind.RESUME].wait_us(now_us, chance))
        visit = Visit()
        self._visits[visit] = None
        self._stages[Stage.OPENING] += 1
        return visit

    def judge(self, visit: Visit, claim: Claim, now_us: int, chance: float) -> None:
        """The Hello came: let it in or raise `Turned`. Nothing was read for it yet, no signature checked."""
        assert visit.stage is Stage.OPENING
        visit.claim = claim
        if self._take(claim.kind, now_us):
            self._move(visit, Stage.IN)
            self.admitted[claim.kind] += 1
            return
        if claim.behind and self._take_reserve(now_us):
            self._move(visit, Stage.GUEST)
            self.admitted[Kind.REVOCATION] += 1
            self._guests[visit] = None
            visit.guest_until_us = now_us + self._settings.guest_us
            return
        kind = Kind.REVOCATION if claim.behind else claim.kind
        self.refused[kind] += 1
        raise Turned(f"the budget for {kind} is spent", self._lines[kind].wait_us(now_us, chance))

    def leave(self, visit: Visit, now_us: int) -> None:
        """The session ended, however it did; its place and its slot are free."""
        if visit.stage is Stage.GONE:
            return
        self.streamed(visit, now_us)
        self._waiting.pop(visit, None)
        self._guests.pop(visit, None)
        self._visits.pop(visit, None)
        self._move(visit, Stage.GONE)
        visit.wake, visit.part = _nothing, _nothing_to_say

    @property
    def _room(self) -> bool:
        return self._stages[Stage.IN] < self._settings.sessions

    def _take(self, kind: Kind, now_us: int) -> bool:
        if kind is Kind.SNAPSHOT and len(self._waiting) >= self._settings.snapshots_waiting:
            return False
        return self._room and self._lines[kind].take(now_us)

    def _take_reserve(self, now_us: int) -> bool:
        free = self._stages[Stage.GUEST] < self._settings.revocation_sessions
        return free and self._lines[Kind.REVOCATION].take(now_us)

    def _move(self, visit: Visit, stage: Stage) -> None:
        self._stages[visit.stage] -= 1
        self._stages[stage] += 1
        visit.stage = stage

    # ---- rows and snapshots ------------------------------------------------------------------------------

    def may_stream(self, visit: Visit, now_us: int) -> bool:
        """Whether the next frame of a snapshot may go to `visit`; else it stands in line and is woken."""
        if visit.slot_us is None:
            if visit.stage is not Stage.IN:
                return False
            self._waiting.setdefault(visit)
            self._hand_out(now_us, asking=visit)
        visit.moved_us = now_us
        return visit.slot_us is not None

    def streamed(self, visit: Visit, now_us: int) -> None:
        """Its snapshot is sent, or no longer wanted: the slot goes to the next in line."""
        self._waiting.pop(visit, None)
        if visit.slot_us is not None:
            self._take_back(visit)
            self._hand_out(now_us)

    def tick(self, now_us: int) -> None:
        """Once in a while: take slots from who stalls, and find room for guests or end their visit."""
        for visit in [v for v in self._slots if self._waiting]:
            if why := self._overstayed(visit, now_us):
                self.reclaimed[why] += 1
                self._take_back(visit)  # it stands in line again when it moves again
        self._hand_out(now_us)
        while self._guests:
            visit = next(iter(self._guests))
            if self._take(visit.claim.kind, now_us):
                self._guests.pop(visit)
                self._move(visit, Stage.IN)
                visit.wake()
            elif visit.guest_until_us <= now_us:
                self._guests.pop(visit)
                wait_us = self._lines[visit.claim.kind].wait_us(now_us, 0.5)
                visit.part(m.Refusal(code="overloaded", retry_after_us=wait_us))
            else:
                return

    def _overstayed(self, visit: Visit, now_us: int) -> str:
        assert visit.slot_us is not None
        if now_us - visit.moved_us >= self._settings.snapshot_stall_us:
            return "stalled"
        return "turn" if now_us - visit.slot_us >= self._settings.snapshot_turn_us else ""

    def _take_back(self, visit: Visit) -> None:
        del self._slots[visit]
        visit.slot_us = None

    def _hand_out(self, now_us: int, asking: Visit | None = None) -> None:
        while self._waiting and len(self._slots) < self._settings.snapshots:
            visit, _ = self._waiting.popitem(last=False)
            self._slots[visit] = None
            visit.slot_us = visit.moved_us = now_us
            if visit is not asking:
                visit.wake()
        self.most_slots = max(self.most_slots, len(self._slots))

    @property
    def visits(self) -> list[Visit]:
        """Every session at this node, opening ones too, the oldest first."""
        return list(self._visits)

    # ---- what it counts ----------------------------------------------------------------------------------

    def spread_us(self, sessions: int) -> int:
        """How long this node, or one like it, needs to take `sessions` back in."""
        return self._lines[Kind.RESUME].spread_us(sessions)

    def standing(self) -> dict[str, int]:
        """Sessions by stage, slots held and sessions in line for one."""
        stages = {str(s): self._stages[s] for s in (Stage.OPENING, Stage.IN, Stage.GUEST)}
        return {
            **stages,
            "streaming": len(self._slots),
            "streaming_most": self.most_slots,
            "waiting": len(self._waiting),
        }


def _nothing() -> None:
    """Nobody is told."""


def _nothing_to_say(_: m.Refusal) -> None:
    """Nobody is told."""
