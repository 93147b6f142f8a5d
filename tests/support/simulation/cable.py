"""The faulty link between one device and the server: two queues of frames, moved one frame at a time.

While it lives the transport keeps order and loses nothing, as a socket does: what fails is the whole link.
What a hostile proxy can do besides, to single frames, is here too; such a session is `tainted`, and ends when
the proxy is gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from edge_runtime.errors import SyncError, SyncRefused
from edge_runtime.sync.backoff import wait_us
from edge_runtime.sync.dialogue import Dialogue
from edge_runtime.sync.lease_renewal import LeaseLost
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import State
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.refusal import CODES
from sync_server.sync.admission import Turned
from sync_server.sync.hints import Subscription
from sync_server.sync.parting import refusal_of
from sync_server.sync.stream import BACKLOG, DeviceSession
from sync_server.sync.wake import Wake
from tests.support.simulation.device import SimDevice
from tests.support.simulation.server import SimServer

IN_FLIGHT: Final = 3
"""Frames that the buffers on the way to a device hold: they can no longer be overtaken."""
SILENCE_US: Final = 90_000_000
"""After so long in one direction without a word both ends take the link for dead."""
REMEMBERED: Final = 40
"""Frames of the past that a hostile proxy keeps."""

Heard = Callable[[m.Message], None]


class Cable:
    """One device's link, whether or not a session is open on it.

    Args:
        heard: told of every message that the device took without refusing it.
        said: told of every message that the device said.
        told: told of every frame that the server gave out, and whether the device was behind in the lane.
    """

    def __init__(
        self,
        device: SimDevice,
        server: SimServer,
        jitter: Callable[[], float],
        heard: Heard,
        said: Heard,
        told: Callable[[bool, m.Message], None],
    ) -> None:
        self.device, self._server, self._jitter = device, server, jitter
        self._heard, self._said, self._told = heard, said, told
        self.dialogue: Dialogue | None = None
        self.session: DeviceSession | None = None
        self._subscription: Subscription | None = None
        self.down: deque[bytes] = deque()
        self.up: deque[bytes] = deque()
        self.blocked: set[str] = set()
        """Directions, `down` or `up`, in which nothing arrives any more."""
        self._blocked_us = self._opened_us = 0
        self.tainted = False
        """Whether somebody meddled with single frames of this session."""
        self.past_down: deque[bytes] = deque(maxlen=REMEMBERED)
        self.past_up: deque[bytes] = deque(maxlen=REMEMBERED)
        self.proxy: Callable[[str, bytes], list[bytes]] = lambda direction, frame: [frame]
        """What somebody on the way makes of each frame."""
        self.refusals: dict[str, int] = {}
        """Code -> how often the device or the server left a session with it."""
        self._failures = 0
        self._away_until_us = 0
        self._lost_before = False
        self._leaving: list[m.Refusal] = []
        """With what the server wants this session to end."""
        self.sessions = 0

    @property
    def open(self) -> bool:
        return self.session is not None

    # ---- beginning and end -------------------------------------------------------------------------------

    def connect(self) -> bool:
        """Begin a session, if the device does not stay away just now."""
        now_us = self.device.boot_us()
        if self.open or now_us < self._away_until_us:
            return False
        node = self._server.node
        self._opened_us = now_us
        try:
            visit = node.knock()
        except Turned as turned:
            self._stay_away(SyncRefused(turned.code, retry_after_us=turned.retry_after_us))
            return False
        self._subscription = node.hints.subscribe()
        self.session = DeviceSession(node, self._subscription, visit)
        visit.part = self._leaving.append
        self.dialogue = self.device.dialogue()
        self.tainted = False
        self.sessions += 1
        return True

    def cut(self, error: SyncError | None = None) -> None:
        """The link breaks; what was under way is lost. The device stays away as it would."""
        if self.session is None or self.dialogue is None or self._subscription is None:
            return
        self.dialogue.close()
        self.session.close()
        self._subscription.close()
        self.session = self.dialogue = self._subscription = None
        self.past_down.extend(self.down)
        self.past_up.extend(self.up)
        self.down.clear()
        self.up.clear()
        self.blocked.clear()
        self._leaving.clear()
        self._stay_away(error)

    def _stay_away(self, error: SyncError | None) -> None:
        settings, now_us = self.device.link._sessions._settings, self.device.boot_us()
        self._failures = 1 if now_us - self._opened_us >= settings.healthy_us else self._failures + 1
        lost = isinstance(error, LeaseLost) and not self._lost_before
        self._lost_before = lost
        asked_us = (error.retry_after_us or 0) if isinstance(error, SyncRefused) else 0
        wait = 0 if lost else wait_us(self._failures, self._jitter(), asked_us, settings)
        self._away_until_us = now_us + wait

    def forget(self) -> None:
        """The device starts anew: nothing is remembered of failures."""
        self._failures, self._away_until_us, self._lost_before = 0, 0, False

    def age(self) -> None:
        """Time has passed: a link that is silent in one direction is dead, and a session grows old."""
        now_us = self.device.boot_us()
        if self.open and self.blocked and now_us - self._blocked_us >= SILENCE_US:
            self.cut(SyncError("silence"))
        if self.open and now_us - self._opened_us >= self._server.settings.session_age_us:
            self._refused_by_server(m.Refusal(code="going_away"))
        if self.open and self._leaving:
            self._refused_by_server(self._leaving[0])

    # ---- frames ------------------------------------------------------------------------------------------

    def pull(self) -> bool:
        """The server hands its next frame to the socket, if there is room and something to say."""
        session, subscription = self.session, self._subscription
        if session is None or subscription is None or len(self.down) >= IN_FLIGHT:
            return False
        behind = session.state is State.LIVE and self._server.node.lane.head > session._lane.drained
        frames = self._next(session, subscription.wake)
        for frame in frames:
            self._told(behind, codec.decode(frame))
            self.down.extend(self.proxy("down", frame))
        return bool(frames)

    def _next(self, session: DeviceSession, wake: Wake) -> list[bytes]:
        """What the pump would write in one turn: the newest change alone, or the session's next frame."""
        step = None if wake.channel is None else session.step(wake.channel)
        if step is not None:
            wake.clear()
            return _unframed(step)
        if wake.is_set():
            wake.clear()
            session.look()
        frame = session.next()
        return [] if frame is None else [frame]

    def deliver_down(self) -> bool:
        """The device hears the next frame."""
        if "down" in self.blocked or not self.down:
            return False
        frame = self.down.popleft()
        self.past_down.append(frame)
        self.hear(frame)
        return True

    def hear(self, frame: bytes) -> None:
        """The device hears `frame`, and answers or leaves."""
        assert self.dialogue is not None
        dialogue = self.dialogue
        try:
            answers = dialogue.hear(frame, self.device.boot_us())
        except WireFailure as failure:
            self._part(failure)
            return
        except SyncError as error:
            self._count(error.code if isinstance(error, SyncRefused) else type(error).__name__)
            self._heard(codec.decode(frame))  # the frame stands: it is the session that cannot go on
            self.cut(error)
            return
        self._heard(codec.decode(frame))
        self._say(answers)

    def tick(self) -> None:
        """The device looks at what is due."""
        if self.dialogue is None:
            return
        try:
            answers = self.dialogue.tick(self.device.boot_us())
        except SyncError as error:
            self._count(type(error).__name__)
            self.cut(error)
            return
        self._say(answers)

    def deliver_up(self) -> bool:
        """The server hears the next frame."""
        session = self.session
        if session is None or "up" in self.blocked or not self.up or session.backlog >= BACKLOG:
            return False
        frame = self.up.popleft()
        self.past_up.append(frame)
        self.hear_up(frame)
        return True

    def hear_up(self, frame: bytes) -> None:
        """The server hears `frame`, with whatever else comes in its turn."""
        assert self.session is not None
        assert self._subscription is not None
        try:
            with self._server.store.together():
                self.session.hear(frame)
        except WireFailure as failure:
            self._refused_by_server(refusal_of(failure))
            return
        self._subscription.wake.set()

    def _say(self, frames: list[bytes]) -> None:
        for frame in frames:
            self._said(codec.decode(frame))
            self.up.extend(self.proxy("up", frame))

    def _part(self, failure: WireFailure) -> None:
        """The device could not let a frame stand: it says why and leaves."""
        self._count(failure.code)
        self.up.append(codec.encode(m.Refusal(code=failure.code)))
        while self.deliver_up():
            pass
        self.cut(SyncError(f"the server's frame was refused: {failure.code}"))

    def _refused_by_server(self, refusal: m.Refusal) -> None:
        """The server ends the session: its last word arrives if the way is open."""
        self._count(refusal.code)
        error: SyncError = SyncError("the server closed the session")
        dialogue = self.dialogue
        if dialogue is not None and "down" not in self.blocked:
            while self.open and self.deliver_down():
                pass
            if not self.open:
                return
            try:
                dialogue.hear(codec.encode(refusal), self.device.boot_us())
            except SyncError as refused:
                error = refused
            except WireFailure:
                pass
        self.cut(error)

    def _count(self, code: str) -> None:
        assert code in CODES or code in ("LeaseLost", "SyncError"), code
        self.refusals[code] = self.refusals.get(code, 0) + 1

    # ---- faults ------------------------------------------------------------------------------------------

    def block(self, direction: str) -> None:
        """From now on nothing arrives in one direction."""
        if not self.open:
            return
        if not self.blocked:
            self._blocked_us = self.device.boot_us()
        self.blocked.add(direction)

    def cut_in_mid_frame(self, keep: int) -> None:
        """The link breaks inside a frame. A socket gives its reader nothing of it; a bad one gives a part."""
        if self.down and "down" not in self.blocked:
            self.tainted = True
            self.hear(self.down.popleft()[: max(keep, 0)])
        self.cut(SyncError("cut"))

    def duplicate(self, direction: str, place: int) -> None:
        """A frame arrives twice."""
        queue = self._queue(direction)
        if queue:
            self.tainted = True
            queue.insert(place % len(queue), queue[place % len(queue)])

    def swap(self, direction: str, place: int) -> None:
        """Two neighbouring frames change places."""
        queue = self._queue(direction)
        if len(queue) > 1:
            at = place % (len(queue) - 1)
            queue[at], queue[at + 1] = queue[at + 1], queue[at]
            self.tainted = True

    def lose(self, direction: str, place: int) -> None:
        """A frame does not arrive although the session goes on."""
        queue = self._queue(direction)
        lanes = [at for at, frame in enumerate(queue) if b"\xa4lane\xa1v" in frame[:16]]
        if queue:  # decisions first: they are what somebody would keep from a device
            del queue[lanes[0] if lanes else place % len(queue)]
            self.tainted = True

    def inject(self, direction: str, frame: bytes) -> None:
        """A frame of another session arrives next."""
        if self.open:
            self._queue(direction).appendleft(frame)
            self.tainted = True

    def _queue(self, direction: str) -> deque[bytes]:
        return self.down if direction == "down" else self.up


def _unframed(wire: bytes) -> list[bytes]:
    """The frames in unmasked binary WebSocket frames."""
    frames = []
    while wire:
        size, start = wire[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(wire[2:start], "big")
        frames.append(wire[start : start + size])
        wire = wire[start + size :]
    return frames
