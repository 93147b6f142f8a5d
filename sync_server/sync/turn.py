"""What arrives in one turn of the event loop is heard together and made durable together.

Five hundred receipts after a revocation then wait for the disk a few times, not five hundred times. No answer
is ahead of the disk: nobody is told that a frame was heard before everything of its turn is durable.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.printing import prints_only
from sync_server.sync.node import Node
from sync_server.sync.stream import DeviceSession

FRAMES: Final = 64
"""Most frames heard in one go; then others, with a denial perhaps, get their turn."""
LASTS_S: Final = 0.004
"""After so long no more is heard in this go but acknowledgements of the lane: more of them may have come."""

OTHERS: Final = 4
"""Most frames of other kinds heard in one go with acknowledgements of the lane."""
PAUSE_S: Final = 0.05
"""While decisions are on their way out, others are heard once in this time."""
GATHERS_S: Final = 0.002
"""While decisions go out or are acknowledged, turns are so far apart: many acknowledgements in one cost
less."""
ANSWERING_S: Final = 0.01
"""Acknowledgements are coming in while the last was heard no longer ago than this."""
_ACK: Final = b"lane_ack"
"""How a frame begins that may be one; a guess that costs nothing but its place in the line."""

Failure = WireFailure | sqlite3.Error | None
"""What the hearing of a frame failed with."""


class Speaker(Protocol):
    """Who brought a frame and waits until it was heard."""

    @property
    def gone(self) -> bool:
        """Whether it waits no more: its frame is not heard then."""
        ...

    def heard(self, failure: Failure) -> None:
        """What that frame wrote is durable, or it failed. It must not raise."""
        ...


@prints_only()
class _Said(NamedTuple):
    session: DeviceSession
    frame: bytes
    speaker: Speaker


class Turn:
    """The frames that wait to be heard, of every session of this node.

    Args:
        hurried: whether decisions are on their way out to devices.
        lasts_s: after so long others get their turn.
        gathers_s: how far turns are apart while decisions go out or are acknowledged.
    """

    def __init__(
        self,
        node: Node,
        hurried: Callable[[], bool] = lambda: False,
        *,
        lasts_s: float = LASTS_S,
        gathers_s: float = GATHERS_S,
    ) -> None:
        self._node, self._hurried = node, hurried
        self._lasts_s, self._gathers_s = lasts_s, gathers_s
        self._heard_s = self._acks_s = self._others_s = -math.inf
        """When anything, acknowledgements, and others were heard, by the loop's clock."""
        self._urgent: deque[_Said] = deque()
        """Acknowledgements of the lane: until they are taken, nobody knows that a denial is enforced."""
        self._waiting: dict[Speaker, _Said] = {}
        """In the order in which they came; a speaker waits for one frame at a time."""
        self._due = False

    @property
    def answering(self) -> bool:
        """Whether acknowledgements of the lane are coming in."""
        return asyncio.get_running_loop().time() < self._acks_s + ANSWERING_S

    def put(self, session: DeviceSession, frame: bytes, speaker: Speaker) -> None:
        """Let `session` hear `frame` and tell `speaker`."""
        said = _Said(session, frame, speaker)
        if _ACK in frame[:16]:
            self._urgent.append(said)
        else:
            self._waiting[speaker] = said
        if not self._due:
            self._due = True
            self._plan()

    def hurry(self, speaker: Speaker) -> None:
        """An acknowledgement of `speaker` waits behind this frame of its: hear it before the others."""
        said = self._waiting.pop(speaker, None)
        if said is not None:
            self._urgent.append(said)

    async def hear(self, session: DeviceSession, frame: bytes) -> None:
        """Let `session` hear `frame`; what that wrote is durable when this returns.

        Raises what `DeviceSession.hear` raises, and `sqlite3.Error` when the store does not answer.
        """
        one = _Waiter(asyncio.get_running_loop().create_future())
        self.put(session, frame, one)
        await one.done

    def _plan(self) -> None:
        """Hear what waits soon: at once, or when some more may have come."""
        loop = asyncio.get_running_loop()
        gathers = len(self._urgent) < FRAMES and (self.answering or self._hurried())
        if gathers and loop.time() < self._heard_s + self._gathers_s:
            loop.call_at(self._heard_s + self._gathers_s, self._hear_some)
        else:
            loop.call_soon(self._hear_some)

    def _hear_some(self) -> None:
        batch: list[_Said] = []
        failures: list[Failure] = []
        try:
            node = self._node
            with node.store.together(), node.receipts.gathered(), node.acks.gathered():
                for said in self._in_order():
                    batch.append(said)
                    failures.append(None if said.speaker.gone else _heard(said))
        except sqlite3.Error as error:  # not durable: nobody may be answered
            failures = [error] * len(batch)
        finally:
            missing = sqlite3.InternalError("a fault in the same turn")
            failures += [missing] * (len(batch) - len(failures))
            self._due = bool(self._urgent or self._waiting)
            if self._due:
                self._plan()
            for said, failure in zip(batch, failures, strict=True):
                if not said.speaker.gone:
                    said.speaker.heard(failure)

    def _in_order(self) -> Iterator[_Said]:
        """Acknowledgements first, as many as there are; of the rest few while acknowledgements come.

        While decisions go out even those few wait: the first devices' receipts are no reason for the last
        device to hear of a denial later.
        """
        now = asyncio.get_running_loop().time
        self._heard_s = began_s = now()
        until_s = began_s + self._lasts_s
        if self._urgent:
            self._acks_s = began_s
        room = OTHERS if self.answering or self._hurried() else FRAMES
        for _ in range(min(FRAMES, len(self._urgent))):
            yield self._urgent.popleft()
        if self._hurried() and began_s < self._others_s + PAUSE_S:
            return
        self._others_s = began_s
        while room and self._waiting:
            yield self._waiting.pop(next(iter(self._waiting)))
            room = 0 if now() >= until_s else room - 1


def _heard(said: _Said) -> Failure:
    """What one session's frame failed with; the others of the turn are heard all the same."""
    try:
        said.session.hear(said.frame)
    except (WireFailure, sqlite3.Error) as failure:
        return failure
    return None


class _Waiter:
    """A speaker that awaits `done`; it is gone when it was cancelled."""

    __slots__ = ("done",)

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done

    @property
    def gone(self) -> bool:
        return self.done.done()

    def heard(self, failure: Failure) -> None:
        if failure is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(failure)
