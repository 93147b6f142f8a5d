"""Makes a `Held` of a row that was just read, where all that it was made of may be kept."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

from edge_runtime.serving.answer import Vector
from edge_runtime.serving.columns import BoundColumn, Plain
from edge_runtime.serving.encodings import AsIs
from edge_runtime.serving.evidence import Evidence
from edge_runtime.serving.explain import Described
from edge_runtime.serving.held import Asked, Held, Keeper, Moving, Part, Places, Told
from edge_runtime.serving.reads import Missing, Reading

if TYPE_CHECKING:
    from edge_runtime.cache.working_set import LiveState

PATTERNS_LIMIT = 256
"""Most patterns of NULLs for which a service's places are noted."""


class Holding:
    """What of one service's rows may be held, known from its columns alone.

    Args:
        ttls_us: of every view of the catalog, by key; 0 for ever.
    """

    def __init__(self, described: Described, ttls_us: Mapping[str, int]) -> None:
        self.described, self._ttls_us = described, ttls_us
        self._keys = [g.view.key if g.view.source == "request" else None for g in described.groups]
        self.asked: list[Asked] = []
        self._plain: dict[tuple[int, int], list[tuple[int, Plain]]] = defaultdict(list)
        self._joined: dict[tuple[int, int], list[tuple[int, BoundColumn]]] = defaultdict(list)
        self._placed: dict[tuple[int, bool, tuple[int, ...]], Places] = {}
        self._used: list[set[int]] = [set() for _ in described.groups]
        start = 0
        for column in described.columns:
            for group, position in column.inputs:
                self._used[group].add(position)
            if any(self._keys[group] is not None for group, _ in column.inputs):
                self.asked.append(Asked(column, start))
            if isinstance(column, Plain):
                self._plain[column.group, column.position].append((start, column))
            else:
                for place in column.inputs:
                    self._joined[place].append((start, column))
            start += column.width

    def hold(
        self,
        source: Keeper,
        evidence: Evidence,
        ids: Mapping[str, str],
        readings: list[Reading],
        vector: Vector,
    ) -> Held | None:
        """The row as one that can be read again; None where some of it is of this read alone."""
        groups = {(g.view.key, g.entity(ids)): n for n, g in enumerate(self.described.groups)}
        t_us, parts, moving = vector.as_of, list[Part](), list[Moving]()
        ends_us = self.ends_us(evidence, t_us)
        for place, found in evidence.sessions.items():
            if found.status:
                continue  # REVOKED: the permit stands for that too
            live, group = found.live, groups.get(place)
            if live is None or group is None:  # a row that a join looked up: its tiles are not watched
                return None
            cells, reading, paces = live.plan.cells_at(live.state, t_us), readings[group], live.plan.paces
            part = Part(group, place, live, cells, live.version, live.state.newest)
            parts.append(part)
            ends_us = min([ends_us, *_ends_us(live, t_us)])
            if isinstance(reading, Missing):
                continue
            part.renewable = cells is live.state.cells and not live.incomplete
            part.embeds = source.resolve(place[0], evidence, t_us) is not None
            part.settled, part.until_us = self.settled(group, live, reading), paces.until_us(t_us)
            positions, read = paces.moving_at(self._used[group])
            values = [reading[position] for position in positions]
            places = self._places(group, True, list(enumerate(positions)), values)
            if places.joined:
                return None  # a join of what moves: none is declared so far
            if positions:
                moving.append(Moving(part, read, positions, places))
        permit = source.permit([*evidence.sessions, *evidence.rows])
        if permit is None or ends_us <= t_us:
            return None
        return Held(
            terms=self,
            told=Told(evidence, dict(ids), readings, {}, self._keys, moving),
            numbers=array("f", vector.values.tobytes()),
            status=vector.status,
            reason=vector.reason,
            parts=parts,
            permit=permit,
            rows_changes=source.rows_changes,
            from_us=t_us,
            ends_us=ends_us,
        )

    def ends_us(self, evidence: Evidence, t_us: int) -> int:
        """When a ttl ends first after `t_us`."""
        return evidence.ends_us(self._ttls_us, t_us)

    def settled(self, group: int, live: LiveState, values: Sequence[object]) -> Places:
        """Where a view's settled values stand when these of them are NULL."""
        moving = live.plan.paces.positions
        pairs = [(n, n) for n in range(len(values)) if n not in moving]
        return self._places(group, False, pairs, values)

    def _places(
        self, group: int, moving: bool, pairs: Sequence[tuple[int, int]], values: Sequence[object]
    ) -> Places:
        """`pairs`: which of `values` stands at which position of the view."""
        absent = tuple([n for n, position in pairs if values[n] is None and self._plain[group, position]])
        found = self._placed.get((group, moving, absent))
        if found is None:
            if len(self._placed) >= PATTERNS_LIMIT:
                self._placed.clear()
            found = self._placed[group, moving, absent] = self._place(group, pairs, absent)
        return found

    def _place(self, group: int, pairs: Sequence[tuple[int, int]], absent: tuple[int, ...]) -> Places:
        as_is, encoded = [], []
        plain: list[tuple[int, BoundColumn]] = []
        for n, position in pairs:
            plain += self._plain[group, position]
            for start, column in self._plain[group, position] if n not in absent else ():
                if isinstance(column.encoder, AsIs):
                    as_is.append((start, n))
                else:
                    encoded.append((n, start, column))
        joined = {at: c for _, position in pairs for at, c in self._joined[group, position]}
        as_is.sort()
        starts, order = [start for start, _ in as_is], [n for _, n in as_is]
        run = None
        if starts and starts == list(range(starts[0], starts[0] + len(starts))):
            in_a_row = order == list(range(order[0], order[0] + len(order)))
            pick = itemgetter(slice(order[0], order[-1] + 1)) if in_a_row else itemgetter(*order)
            run = pick, slice(starts[0], starts[0] + len(starts))
        at = tuple([(n, start) for start, n in as_is])
        return Places(at, run, tuple(encoded), absent, tuple(plain), tuple(joined.items()))


def _ends_us(live: LiveState, t_us: int) -> list[int]:
    """When a waiting event's time comes, and when retention ends what is there now."""
    retention_us, newest_us = live.plan.retention_us, live.state.newest_us
    ends = [event.at_us for event in live.state.waiting]
    if newest_us is not None and retention_us is not None and t_us - newest_us <= retention_us:
        ends.append(newest_us + retention_us + 1)
    return ends
