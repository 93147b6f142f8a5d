"""Rows on demand: what a device asks for in views that are not pushed, answered from what stands now.

A request is a list of names until its frame is built, so nothing of a subject waits in memory for a slow
device. Each frame is read in one snapshot with its epoch, and a subject's permission is asked in that same
snapshot: a denial that lands between two frames ends the answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.model import View
from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.printing import prints_only
from sync_server.clock import Clock
from sync_server.settings import SECOND_US, Settings
from sync_server.store.protocol import ReadTx, Store
from sync_server.sync.lane_tail import ROOM_BYTES
from sync_server.sync.rate import DeviceRate
from sync_server.sync.use import Use

Pair = tuple[bytes, str]
"""(pseudonym, purpose)."""
Followed = Callable[[str], int | None]
"""Channel -> the grant under which this session follows it; None when it does not."""


@dataclass(frozen=True, slots=True)
class OnDemand:
    """What every session of a node shares to answer with.

    Attributes:
        catalog: the one in force; None before the first is registered.
        use: counts what is asked for, for whoever chooses what is pushed.
    """

    settings: Settings
    clock: Clock
    store: Store
    catalog: Callable[[], Catalog | None]
    rate: DeviceRate
    use: Use


@prints_only("epoch")
class Part(NamedTuple):
    """The next part of an answer, read when the lane stood at `epoch`; a refusal ends it."""

    message: m.Fetched | m.Refusal
    epoch: int
    taken: int
    """How many of the names that were asked for it answers."""


@prints_only("view", "version")
@dataclass(slots=True)
class _Request:
    id: bytes
    view: str
    version: int
    left: deque[tuple[str, Pair | None]]
    """Names still to be answered, each with the pair of its subject."""


class Answers:
    """The requests of one session, answered in order.

    Args:
        followed: what this session follows; a subject's rows are sent under that channel's grant alone.
    """

    __slots__ = ("_followed", "_requests", "_shared")

    def __init__(self, shared: OnDemand, followed: Followed) -> None:
        self._shared, self._followed = shared, followed
        self._requests: list[_Request] = []

    @property
    def waiting(self) -> bool:
        """Whether a request waits for its answer."""
        return bool(self._requests)

    def ask(self, device_id: str, fetch: m.Fetch) -> m.Refusal | None:
        """Take in a request; the refusal to answer it with when it may not stand. The same again is one."""
        about = fetch.id.hex()
        if any(request.id == fetch.id for request in self._requests):
            return None
        shared = self._shared
        if len(self._requests) >= shared.settings.fetches_waiting:
            return m.Refusal(code="overloaded", about=about, retry_after_us=SECOND_US)
        now_us = shared.clock.now_us()
        wait_us = shared.rate.take(device_id, len(fetch.entities), now_us)
        if wait_us:
            return m.Refusal(code="overloaded", about=about, retry_after_us=wait_us)
        try:
            view, subject_at = self._view(fetch)
            names = dict.fromkeys(fetch.entities)
            pairs = {name: self._pair(view, subject_at, name) for name in names}
        except WireFailure as failure:
            return m.Refusal(code=failure.code, about=about)
        if subject_at is None:
            shared.use.note(view.key, names, now_us)
        self._requests.append(_Request(fetch.id, view.name, view.version, deque(pairs.items())))
        return None

    def next(self) -> Part | None:
        """The next part, if any; it stands until `sent` says that it was. Asked again, it is read again."""
        if not self._requests:
            return None
        request = self._requests[0]
        with self._shared.store.read() as tx:  # one snapshot: rows, permission and epoch belong together
            epoch = tx.lane_head()
            try:
                rows, taken = self._rows(tx, request)
            except WireFailure as failure:
                refusal = m.Refusal(code=failure.code, about=request.id.hex())
                return Part(refusal, epoch, len(request.left))
        more = taken < len(request.left)
        return Part(m.Fetched(id=request.id, epoch=epoch, more=more, rows=rows), epoch, taken)

    def sent(self, part: Part) -> None:
        """`part`, which `next` returned, was handed to the socket."""
        request = self._requests[0]
        for _ in range(part.taken):
            request.left.popleft()
        if not request.left:
            self._requests.pop(0)

    def _view(self, fetch: m.Fetch) -> tuple[View, int | None]:
        """The view asked for, and where in its keys the subject stands."""
        catalog = self._shared.catalog()
        view = None if catalog is None else catalog.views.get(f"{fetch.view}@{fetch.version}")
        if catalog is None or view is None or view.source != "server" or view.tier == "cold":
            raise WireFailure("not_on_demand", "no server view of tier warm or hot in the active catalog")
        places = [n for n, kind in enumerate(view.entity) if catalog.entities[kind].personal]
        return view, places[0] if places else None

    def _pair(self, view: View, subject_at: int | None, name: str) -> Pair | None:
        """The pair of a name's subject; None for a name of nobody's."""
        if subject_at is None:
            return None
        parts = name.split("|")
        tokens = [part for part in parts if part.startswith("~")]
        if len(tokens) != 1 or parts.index(tokens[0]) < subject_at:
            raise WireFailure("no_permission", "expected the token of one subject in each key")
        return seal.token_subject(tokens[0]), view.purpose or ""

    def _rows(self, tx: ReadTx, request: _Request) -> tuple[list[m.Row], int]:
        """As many rows as fit one frame, and how many names they answer; at least one is."""
        settings, used, taken = self._shared.settings, 0, 0
        rows: list[m.Row] = []
        grants: dict[Pair | None, int] = {None: 0}
        for name, pair in request.left:
            if pair is not None and pair not in grants:
                grants[pair] = self._grant(tx, pair)
            for row in _standing(tx, request, name, grants[pair]):
                used += len(seal.canonical(row))
                if taken and (used > ROOM_BYTES or len(rows) >= settings.frame_rows):
                    return rows, taken
                rows.append(row)
            taken += 1
        return rows, taken

    def _grant(self, tx: ReadTx, pair: Pair) -> int:
        """The live grant of a pair, under which its channel is followed here."""
        grant = tx.decision_state(*pair).usable
        if not grant or grant != self._followed(seal.personal_channel(*pair)):
            raise WireFailure("no_permission", "no channel of the subject is followed under a live consent")
        return grant


def _standing(tx: ReadTx, request: _Request, name: str, grant: int) -> Iterator[m.Row]:
    """The row under a name, if it is there and of this grant (0: of nobody's)."""
    state = tx.row_state(name, request.view, request.version)
    if state is not None and not state.deleted and state.grant == grant:
        times = (state.event_time_us, state.created_us)
        # no seq: a row belongs to channels, and to none here
        yield m.Row(0, name, request.view, request.version, *times, grant, False, state.values)
