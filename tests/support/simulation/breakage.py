"""Things broken on purpose, one at a time: a simulation that does not notice them proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from edge_runtime.cache.records import ChannelState
from edge_runtime.consent.lease import Leases
from edge_runtime.consent.ledger_side import LedgerSide
from edge_runtime.consent.standing import Standing
from edge_runtime.keys.keyring import Keyring
from edge_runtime.serving import cache_source
from edge_runtime.serving.cache_source import CacheSource
from edge_runtime.sync import gate, replica
from edge_runtime.sync.applying import Applying
from edge_runtime.sync.continuity import Continuity
from edge_runtime.sync.fitting import Fitting
from edge_runtime.sync.gate import Action, Verdict
from edge_runtime.sync.outbox import Outbox
from edge_runtime.sync.replica import Replica
from edge_runtime.sync.shelf import Change, PersonalShelf, PlainShelf
from edge_runtime.wire import digest
from edge_runtime.wire.conversation import State
from sync_server.consent import decisions, receipts, revocations
from sync_server.features import publish
from sync_server.store.keys import KeyDatabase
from sync_server.store.recipients import RecipientRows
from sync_server.store.records import DecisionState
from sync_server.store.rows import RowWrites
from sync_server.sync.follow import Follow
from sync_server.sync.heads import Heads
from sync_server.sync.lane_tail import LaneTail
from sync_server.sync.stream import DeviceSession

Patch = tuple[Any, str, Callable[[Any], Any]]
"""Where, which name, and what stands there instead, made of what stood there."""


def _cursor_before_rows(put: Any) -> Any:
    """Every ninth row is not there when the cursor says so."""
    count = iter(range(1 << 62))

    def lost(self: Any, rows: Any, hashes: Any) -> Any:
        kept = [pair for pair in zip(rows, hashes, strict=True) if next(count) % 9 != 8]
        placed = put(self, [row for row, _ in kept], [row_hash for _, row_hash in kept])
        lost = set(hashes) - {row_hash for _, row_hash in kept}
        return Change(placed.kept + len(lost), placed.added + digest.total(lost))

    return lost


def _forgets_what_was_there(put: Any) -> Any:
    def wrong(self: Applying, rows: Any, hashes: Any) -> Any:
        before = self.applied.older
        kept, _ = put(self, rows, hashes)
        return Change(kept, 0 if self.applied.older > before else digest.total(hashes))

    return wrong


def _grant_not_judged(judge: Any) -> Any:
    def lax(row: Any, channel: Any, catalog: Any, grant: int) -> Any:
        return judge(row, channel, catalog, row.grant)

    return lax


def _rows_before_the_lane(next_: Any) -> Any:
    def rows_first(self: DeviceSession) -> Any:
        if self.state is State.LIVE and self._lane._told:
            if self._replies:
                return self._say(self._replies.pop(0))
            frame = self._following.next()
            if frame is not None:
                return frame
        return next_(self)

    return rows_first


def _every_frame_moves_the_position(apply: Any) -> Any:
    def hasty(self: Replica, lane: Any, at: int | None = None) -> Any:
        gate.check_lane(lane, self.lane_position() if at is None else at)
        return replica._deleted(self._consents.apply_lane(lane.entries, lane.upto))

    return hasty


def _lease_from_its_answer(granted: Any) -> Any:
    def late(self: Leases, lease: Any) -> None:
        granted(self, lease)
        self._sent_boot_us = self._clock.boot_us()

    return late


def _settled_when_sent(due: Any) -> Any:
    def hasty(self: Outbox, boot_us: int) -> Any:
        told = due(self, boot_us)
        with self._database.read() as tx:
            sent = [i.id for i in tx.outbox("decision") if i.id in self._sent_us]
        for id_ in sent:
            self._settle(id_, "decision")
        return told

    return hasty


def _never_superseded(judge: Any) -> Any:
    def lax(before: DecisionState, state: str, base: int, *rest: int) -> Any:
        return judge(before, state, 1 << 62 if state == "given" else base, *rest)

    return lax


def _keeps_the_position_of_a_partial_frame(read: Any) -> Any:
    """As the lane was before frames said that more follow."""

    def partial(self: LaneTail, position: int) -> Any:
        frame = read(self, position)
        if not frame.more:
            return frame
        from edge_runtime.wire import codec
        from edge_runtime.wire import messages as m

        lane = codec.decode(frame.frame)
        assert isinstance(lane, m.Lane)
        whole = m.Lane(base=lane.base, entries=lane.entries, upto=lane.upto, more=False)
        return frame._replace(frame=codec.encode(whole), more=False)

    return partial


def _floor_ignored(_: Any) -> Any:
    return lambda follow, floor, head: follow.floor is None and follow.cursor == 0


def _instead(value: object) -> Callable[[Any], Any]:
    """A function that does nothing and answers `value`."""
    return lambda _: lambda *args, **more: value


_WHOLE: Final = ChannelState(1, 0, whole=True)

BREAKS: Final[dict[str, tuple[Patch, ...]]] = {
    "a cursor moves before its rows are there": ((PlainShelf, "put", _cursor_before_rows),),
    "the digest keeps what a row replaced": ((Applying, "_put", _forgets_what_was_there),),
    "rows before decisions": ((DeviceSession, "next", _rows_before_the_lane),),
    "every lane frame moves the position on the device": (
        (Replica, "apply_lane", _every_frame_moves_the_position),
    ),
    "a partial lane frame counts as whole on the server": (
        (LaneTail, "_read", _keeps_the_position_of_a_partial_frame),
    ),
    "a gap in the lane is not noticed": ((gate, "check_lane", _instead(None)),),
    "acknowledged before it is erased": ((LedgerSide, "_denial_of", _instead(None)),),
    "a row is not judged by its grant": (
        (gate, "judge", _grant_not_judged),
        (Fitting, "keeps", _instead(False)),
    ),
    "a delete is kept": (
        (
            gate,
            "judge",
            lambda judge: (
                lambda row, *more: Verdict(Action.STUB, b"", "kept") if row.deleted else judge(row, *more)
            ),
        ),
        (PlainShelf, "delete", _instead(0)),
    ),
    "a channel's floor is ignored": ((Follow, "must_replace", _floor_ignored),),
    "a snapshot does not replace": (
        (PlainShelf, "clear", _instead(None)),
        (PersonalShelf, "clear", _instead(None)),
    ),
    "a lease has no end": ((Leases, "_elapsed_us", lambda _: lambda self: 0 if self._duration_us else None),),
    "a lease counts from its answer": ((Leases, "granted", _lease_from_its_answer),),
    "a restriction is not minded": ((Standing, "_judge", _instead(None)),),
    "a purpose's own lease is not minded": (
        (Leases, "_granted_us", lambda _: lambda self, duration_us, purpose: duration_us),
    ),
    "a silent device counts as enforced at once": ((revocations, "longest_us", _instead(0)),),
    "the recipient is not waited for": ((RecipientRows, "ask", _instead(None)),),
    "a denied key lives on": (
        (Keyring, "destroy", lambda _: lambda self, denials, step=None: self.remember(denials) or [*denials]),
    ),
    "the outbox forgets what it has sent": ((Outbox, "due", _settled_when_sent),),
    "memory believes rows that changed": ((CacheSource, "changed", _instead(None)),),
    "what is not here is not found, whatever is still to come": (
        (cache_source, "_absent", lambda absent: lambda channel, fits: absent(channel and _WHOLE, fits=True)),
    ),
    "no channel is ever whole": ((Replica, "_judge", _instead(None)),),
    "a new catalog starts nothing over": ((Continuity, "fit_catalog", _instead(None)),),
    "the poll does not look at the lane": ((Heads, "poll", _instead(0)),),
    "a give stands against a later denial": ((decisions, "judge", _never_superseded),),
    "a row of an older grant is published": (
        (
            publish,
            "judge",
            lambda judge: lambda row, standing, decision, as_of: judge(row, standing, decision, 1 << 62),
        ),
    ),
    "the server keeps rows that were denied": ((RowWrites, "drop_personal", _instead(0)),),
    "the server keeps keys that were denied": ((KeyDatabase, "destroy", _instead(0)),),
    "receipts answer nothing": ((receipts, "_answered", _instead([])),),
}
"""What is broken -> the patches that break it."""


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Break one thing until the block ends."""
    before: list[tuple[Any, str, Any]] = []
    try:
        for place, attribute, make in BREAKS[name]:
            stood = place.__dict__[attribute]
            before.append((place, attribute, stood))
            setattr(place, attribute, make(stood))
        yield
    finally:
        for place, attribute, stood in reversed(before):
            setattr(place, attribute, stood)
