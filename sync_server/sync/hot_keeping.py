"""Keeps every shared channel within its byte budget: reads what belongs there, chooses, and moves, by steps.

What was read may have changed by the time it is moved: each row is looked at again, and what is missed now is
seen the next time. Nothing rests on it but bytes.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from edge_runtime.catalog import Catalog
from edge_runtime.wire.printing import prints_only
from sync_server.settings import Settings
from sync_server.store.protocol import ReadTx, Store
from sync_server.store.records import ChannelSize, HeatRow
from sync_server.sync.hot_set import ORDINARY, Candidate, Cut, Ranked, decayed, rank

_DONE: Final = object()
Fetched = Callable[[str, str, int], float]
"""(view key, entity, now in microseconds) -> how much a row is asked for, as of now."""


@prints_only("view", "version", "hot")
class Move(NamedTuple):
    """One row that changes sides."""

    entity: str
    view: str
    version: int
    hot: bool
    """Whether it comes in."""


class Scene:
    """What candidates are made of besides their rows: ttls, importances, fetches. Of one moment.

    Args:
        catalog: the one in force; a view that it lacks has no ttl.
    """

    def __init__(
        self, tx: ReadTx, catalog: Catalog | None, settings: Settings, fetched: Fetched, now_us: int
    ) -> None:
        views = {} if catalog is None else catalog.model.views
        self._ttl_us = {key: view.ttl_us for key, view in views.items()}
        self._importances, self._fetched = tx.importances(), fetched
        self._half_life_us, self.now_us = settings.publish_half_life_us, now_us

    def candidate(self, row: HeatRow) -> Candidate:
        """A row as the hot set judges it."""
        key, said = f"{row.view}@{row.version}", self._importances
        published = decayed(row.use, row.used_us, self.now_us, self._half_life_us)
        return Candidate(
            entity=row.entity,
            view=key,
            bytes=row.bytes,
            importance=said.get((key, row.entity), said.get((key, ""), ORDINARY)),
            use=published + self._fetched(key, row.entity, self.now_us),
            event_time_us=row.event_time_us,
            ttl_us=self._ttl_us.get(key, 0),
            held=row.held,
        )


class Gathering:
    """Reads what belongs in a channel, a page at a time; each row once, by what was read of it last."""

    def __init__(self, channel: str, page: int) -> None:
        self._channel, self._page, self._after, self._out = channel, page, 0, False
        self._seen: set[int] = set()

    def read(self, tx: ReadTx) -> list[HeatRow] | None:
        """The next page; None when there is none."""
        if not self._out:
            rows = tx.rows_in(self._channel, self._after, self._page)
            if rows:
                return self._new(rows)
            self._out, self._after = True, 0
        rows = tx.rows_kept_out(self._channel, self._after, self._page)
        return self._new(rows) if rows else None

    def _new(self, rows: list[HeatRow]) -> list[HeatRow]:
        self._after = rows[-1].place
        new = [row for row in rows if row.id not in self._seen]
        self._seen.update(row.id for row in new)
        return new


class HotKeeper:
    """A chore: one short step at a time, through every channel that needs it."""

    def __init__(
        self,
        store: Store,
        catalog: Callable[[], Catalog | None],
        settings: Settings,
        fetched: Fetched = lambda view, entity, now_us: 0.0,
    ) -> None:
        self._store, self._catalog, self._settings, self._fetched = store, catalog, settings, fetched
        self._looked_us: int | None = None
        self._work: Iterator[None] = iter(())
        self.moved = {"in": 0, "out": 0}
        """Rows that changed sides since the start."""

    def scene(self, tx: ReadTx, now_us: int) -> Scene:
        """What rows are judged by besides themselves, as of now."""
        return Scene(tx, self._catalog(), self._settings, self._fetched, now_us)

    def step(self, now_us: int) -> bool:
        """Do a little of what there is to do; whether more follows."""
        if next(self._work, _DONE) is not _DONE:
            return True
        if self._looked_us is not None and 0 <= now_us - self._looked_us < self._settings.hot_set_every_us:
            return False
        self._looked_us = now_us
        waiting = self._over()
        self._work = (step for channel in waiting for step in self._keep(channel, now_us))
        return bool(waiting)

    def _over(self) -> list[str]:
        """Channels over their budget, and those with rows that may come back."""
        found, settings = list[ChannelSize](), self._settings
        with self._store.read() as tx:
            while page := tx.shared_channels(settings.page_rows, found[-1].channel if found else ""):
                found += page
        return [c.channel for c in found if c.demoted or c.bytes > settings.hot_channel_bytes]

    def _keep(self, channel: str, now_us: int) -> Iterator[None]:
        with self._store.read() as tx:
            scene = self.scene(tx, now_us)
        pages: list[list[Ranked]] = []
        gathering = Gathering(channel, self._settings.write_chunk_rows)
        while True:
            with self._store.read() as tx:
                rows = gathering.read(tx)
            if rows is None:
                break
            pages.append(sorted((rank(scene.candidate(r), now_us) for r in rows), key=_order))
            yield
        cut, outward, inward = Cut(self._settings.hot_channel_bytes), deque[Move](), deque[Move]()
        for number, ranked in enumerate(heapq.merge(*pages, key=_order), 1):
            hot, candidate = cut.take(ranked).hot, ranked.candidate
            if hot != candidate.held:
                (inward if hot else outward).append(_move_of(candidate, hot=hot))
            if number % self._settings.write_chunk_rows == 0:
                yield
        for moves in (outward, inward):  # room first
            while moves:
                self._move(channel, moves, now_us)
                yield

    def _move(self, channel: str, moves: deque[Move], now_us: int) -> None:
        """Some rows change sides, in one transaction."""
        with self._store.write("hot_set") as tx:
            for _ in range(min(len(moves), self._settings.write_chunk_rows)):
                move = moves.popleft()
                row = tx.row_state(move.entity, move.view, move.version)
                if row is None:
                    continue
                change = tx.promote if move.hot else tx.demote
                self.moved["in" if move.hot else "out"] += change(row, channel, now_us)


def _move_of(candidate: Candidate, *, hot: bool) -> Move:
    name, _, version = candidate.view.rpartition("@")
    return Move(candidate.entity, name, int(version), hot)


def _order(ranked: Ranked) -> tuple[float, int, str, str]:
    return ranked.order
