"""Makes a `Held` of a row that was just read, where all that it was made of may be kept."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Mapping

from edge_runtime.serving.answer import Vector
from edge_runtime.serving.columns import BoundColumn, Plain
from edge_runtime.serving.encodings import AsIs
from edge_runtime.serving.evidence import FOREVER_US, Evidence
from edge_runtime.serving.explain import Described
from edge_runtime.serving.held import Asked, Held, Keeper, Moving, Places, Tiled, Told
from edge_runtime.serving.reads import Kept, Missing, Reading
from edge_runtime.session.reading import MOVING, Hops, Pace

PATTERNS_LIMIT = 256
"""Most patterns of NULLs for which a service's places are noted."""


class Holding:
    """What of one service's rows may be held, known from its columns alone.

    Args:
        ttls_us: of every view of the catalog, by key; 0 for ever.
    """

    def __init__(self, described: Described, ttls_us: Mapping[str, int]) -> None:
        self._described, self._ttls_us = described, ttls_us
        self._keys = [g.view.key if g.view.source == "request" else None for g in described.groups]
        self._asked: list[Asked] = []
        self._plain: dict[tuple[int, int], list[tuple[int, Plain]]] = defaultdict(list)
        self._joined: dict[tuple[int, int], list[tuple[int, BoundColumn]]] = defaultdict(list)
        self._placed: dict[tuple[int, Hops, tuple[int, ...]], Places] = {}
        start = 0
        for column in described.columns:
            if any(self._keys[group] is not None for group, _ in column.inputs):
                self._asked.append(Asked(column, start))
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
        sessions = self._sessions(evidence, ids)
        permit = None if sessions is None else source.permit([*evidence.sessions, *evidence.rows])
        if sessions is None or permit is None:
            return None
        moving: list[Moving] = []
        tiled: list[Tiled] = []
        for group, kept in sessions.items():
            reading = readings[group]
            if isinstance(reading, Missing):
                continue
            for pace in kept.paces.values():
                places = self._places(group, pace, reading)
                if pace.hops_us != MOVING:
                    if places.plain or places.joined:
                        tiled.append(Tiled(pace.until_us(vector.as_of), kept, group, pace, places))
                elif places.joined:
                    return None  # a join of what moves: none is declared so far
                else:
                    moving.append(Moving(kept, group, pace, places))
        return Held(
            described=self._described,
            told=Told(evidence, dict(ids), tuple(readings), self._keys, tuple(moving)),
            asked=self._asked,
            numbers=array("f", vector.values.tobytes()),
            status=vector.status,
            reason=vector.reason,
            tiled=tiled,
            kept=tuple(sessions.values()),
            permit=permit,
            rows_changes=source.rows_changes,
            from_us=vector.as_of,
            ends_us=evidence.until_us(self._ttls_us, vector.as_of),
            until_us=min([FOREVER_US, *(one.until_us for one in tiled)]),
        )

    def _sessions(self, evidence: Evidence, ids: Mapping[str, str]) -> dict[int, Kept] | None:
        """What each session view's values rest on, by group; None where some may not be kept."""
        kept = evidence.kept()
        if kept is None:
            return None
        places = {(g.view.key, g.entity(ids)): n for n, g in enumerate(self._described.groups)}
        if any(place not in places for place in kept):
            return None  # a row that a join looked up: its tiles are not watched
        return {places[place]: one for place, one in kept.items()}

    def _places(self, group: int, pace: Pace, reading: tuple[object, ...]) -> Places:
        absent = tuple([n for n, position in enumerate(pace.positions) if reading[position] is None])
        found = self._placed.get((group, pace.hops_us, absent))
        if found is None:
            if len(self._placed) >= PATTERNS_LIMIT:
                self._placed.clear()
            found = self._placed[group, pace.hops_us, absent] = self._place(group, pace, absent)
        return found

    def _place(self, group: int, pace: Pace, absent: tuple[int, ...]) -> Places:
        as_is, encoded = [], []
        plain: list[tuple[int, BoundColumn]] = []
        for n, position in enumerate(pace.positions):
            plain += self._plain[group, position]
            for start, column in self._plain[group, position] if n not in absent else ():
                if isinstance(column.encoder, AsIs):
                    as_is.append((n, start))
                else:
                    encoded.append((n, start, column))
        joined = {at: c for position in pace.positions for at, c in self._joined[group, position]}
        first = as_is[0][1] if as_is else 0
        in_a_row = as_is == [(n, first + n) for n in range(len(pace.positions))] and not encoded
        run = slice(first, first + len(as_is)) if in_a_row else None
        return Places(tuple(as_is), run, tuple(encoded), absent, tuple(plain), tuple(joined.items()))
