"""One device session carried by long polls: each poll hands frames up and waits for what there is to say.

A poll's answer is made once, by a task of the session's own, and kept until the next poll: a reply that was
lost on the way is given again byte for byte, and nothing is heard twice. No request here; see `poll_door.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from edge_runtime.wire import bundle, codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import State
from edge_runtime.wire.failure import WireFailure
from sync_server.errors import Problem
from sync_server.sync.admission import Visit
from sync_server.sync.node import Node
from sync_server.sync.parting import retry_of
from sync_server.sync.stream import BACKLOG, DeviceSession
from sync_server.sync.turn import Turn
from sync_server.sync.wake import Wake


class PollSession:
    """A session between and during its polls.

    Args:
        token: what its polls show.
        visit: its place at this node.
    """

    def __init__(self, node: Node, turn: Turn, token: str, visit: Visit) -> None:
        self.token = token
        self._turn, self._limit_bytes = turn, node.settings.poll_reply_bytes
        self._subscription = node.hints.subscribe()
        self._session = DeviceSession(node, self._subscription, visit)
        visit.part = lambda why: self.end(why.code, why.retry_after_us)
        self._session.carried_by = "poll"
        self._number, self._asked = -1, b""
        self._overtaken = b""
        """What the poll before the newest asked, if it was answered with nothing because the newest ended its
        wait: it is answered so again, should its reply have been lost."""
        self._answer: asyncio.Task[bytes] | None = None
        self._asker: asyncio.Future[None] | None = None
        self._hurry = False
        self._parting: m.Refusal | None = None

    @property
    def greeted(self) -> bool:
        """Whether the device has said who it is."""
        return self._session.state not in (State.CONNECTED, State.CHALLENGED)

    @property
    def ended(self) -> bool:
        """Whether it takes no more polls."""
        return self._parting is not None

    @property
    def kept_bytes(self) -> int:
        """Size of the reply that is kept to be given again."""
        answer = self._answer
        made = answer is not None and answer.done() and not answer.cancelled() and answer.exception() is None
        return len(answer.result()) if answer is not None and made else 0

    async def ask(self, number: int, body: bytes, frames: Sequence[bytes], wait_s: float) -> bytes:
        """The reply to poll `number`. A newer poll ends the wait of the one before, which is then answered.

        Raises `Problem`, and nothing was heard: `poll_out_of_order` when `number` is neither the newest nor
        the next, or comes again with another body; `poll_replaced` when the same poll was asked again
        meanwhile, and is answered there; `session_closed`.
        """
        asked = hashlib.blake2b(body, digest_size=16).digest()
        if number == self._number + 1:
            if self.ended:
                raise Problem("session_closed")
            before, self._number, self._asked = self._asked, number, asked
            self._answer = asyncio.ensure_future(self._make(self._answer, before, frames, wait_s))
        elif number == self._number - 1 and asked == self._overtaken:
            return b""
        elif number != self._number or asked != self._asked:
            raise Problem("poll_out_of_order")
        elif self._asker is not None and not self._asker.done():
            self._asker.set_result(None)
        answer = self._answer
        assert answer is not None
        asker = self._asker = asyncio.get_running_loop().create_future()
        await asyncio.wait({answer, asker}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Problem("poll_replaced")
        return answer.result()

    def end(self, code: str, retry_after_us: int = 0) -> None:
        """Take no more polls; one that waits is answered with why."""
        if self.ended:
            return
        self._parting = m.Refusal(code=code, retry_after_us=retry_after_us)
        self._subscription.wake.set()
        if self._answer is None or self._answer.done():
            self._close()

    async def finished(self) -> None:
        """Return when no answer is being made."""
        if self._answer is not None:
            await asyncio.wait({self._answer})

    # ---- one answer --------------------------------------------------------------------------------------

    async def _make(
        self, before: asyncio.Task[bytes] | None, asked: bytes, frames: Sequence[bytes], wait_s: float
    ) -> bytes:
        self._overtaken = b""
        if before is not None and not before.done():
            self._hurry = True
            self._subscription.wake.set()
            await asyncio.wait({before})
            if before.exception() is None and not before.result():
                self._overtaken = asked
        self._hurry = False
        said: list[bytes] = []
        try:
            await self._hear(frames, said)
            await self._fill(said, wait_s)
        except WireFailure as failure:
            self.end(failure.code, retry_of(failure))
        except BaseException:
            self.end("internal")
            self._close()
            raise
        if self._parting is not None:
            said.append(codec.encode(self._parting))
            self._close()
        return bundle.join(said)

    async def _hear(self, frames: Sequence[bytes], said: list[bytes]) -> None:
        for frame in frames:
            if self.ended:
                return
            await self._turn.hear(self._session, frame)
            self._subscription.wake.set()
            while self._session.backlog >= BACKLOG and not self.ended:
                if not self._has_room(said) or (reply := self._session.next()) is None:
                    raise WireFailure("overloaded", "more to answer than fits one reply")
                said.append(reply)

    async def _fill(self, said: list[bytes], wait_s: float) -> None:
        """Add what there is to say, decisions first, while there is more and room; wait for the first."""
        wake, loop = self._subscription.wake, asyncio.get_running_loop()
        until = loop.time() + wait_s
        while self._has_room(said) and not self.ended:
            frame = self._session.next()
            if frame is not None:
                said.append(frame)
                await asyncio.sleep(0)  # the others' turn
                continue
            if wake.is_set():
                wake.clear()
                self._session.look()
                continue
            if said or self._hurry or loop.time() >= until:
                return
            await _set_by(wake, until - loop.time())

    def _has_room(self, said: list[bytes]) -> bool:
        """Whether any frame still fits: what was taken out of the session must go."""
        used = sum(len(frame) + bundle.LENGTH_BYTES for frame in said)
        return used + codec.FRAME_LIMIT_BYTES + bundle.LENGTH_BYTES <= self._limit_bytes

    def _close(self) -> None:
        self._session.close()
        self._subscription.close()


async def _set_by(event: Wake, wait_s: float) -> None:
    """Return when `event` is set, at the latest after `wait_s` seconds."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiting}, timeout=wait_s)
    finally:
        waiting.cancel()
