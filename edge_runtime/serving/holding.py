"""Makes a `Held` of a row that was just read, where all that it was made of may be kept."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Mapping

from edge_runtime.serving.answer import Vector
from edge_runtime.serving.columns import Plain
from edge_runtime.serving.encodings import AsIs
from edge_runtime.serving.evidence import Evidence
from edge_runtime.serving.explain import Described
from edge_runtime.serving.held import Asked, Held, Keeper, Moving, Tiled
from edge_runtime.serving.reads import Kept, Missing, Reading
from edge_runtime.session.reading import MOVING, Pace


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
        self._joined: set[tuple[int, int]] = set()
        start = 0
        for column in described.columns:
            if any(self._keys[group] is not None for group, _ in column.inputs):
                self._asked.append(Asked(column, start))
            if isinstance(column, Plain):
                self._plain[column.group, column.position].append((start, column))
            else:
                self._joined.update(column.inputs)
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
            for pace in () if isinstance(reading, Missing) else kept.paces.values():
                if pace.hops_us != MOVING:
                    tiled.append(Tiled(pace.until_us(vector.as_of), kept, group, pace))
                elif any((group, position) in self._joined for position in pace.positions):
                    return None
                else:
                    moving.append(self._moving(group, kept, pace, reading))
        return Held(
            described=self._described,
            asked=self._asked,
            request_keys=self._keys,
            evidence=evidence,
            ids=dict(ids),
            readings=readings,
            numbers=array("f", vector.values.tobytes()),
            status=vector.status,
            reason=vector.reason,
            moving=tuple(moving),
            tiled=tuple(self._used(tiled)),
            kept=tuple(sessions.values()),
            permit=permit,
            rows_changes=source.rows_changes,
            from_us=vector.as_of,
            ends_us=evidence.until_us(self._ttls_us, vector.as_of),
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

    def _moving(self, group: int, kept: Kept, pace: Pace, reading: Reading) -> Moving:
        as_is, encoded, absent = [], [], []
        for n, position in enumerate(pace.positions):
            if not isinstance(reading, Missing) and reading[position] is None:
                absent.append(n)
                continue
            for start, column in self._plain[group, position]:
                if isinstance(column.encoder, AsIs):
                    as_is.append((n, start))
                else:
                    encoded.append((n, start, column))
        return Moving(kept, group, pace, tuple(as_is), tuple(encoded), tuple(absent))

    def _used(self, tiled: list[Tiled]) -> list[Tiled]:
        """Those that some column reads."""
        return [
            one
            for one in tiled
            if any((one.group, p) in self._joined or self._plain[one.group, p] for p in one.pace.positions)
        ]
