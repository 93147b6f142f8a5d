"""Publishing rows: judged against what is there and against the subject's live grant, then written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edge_runtime.catalog.model import View
from edge_runtime.wire.messages import Row
from sync_server.features.incoming import Incoming
from sync_server.features.membership import SegmentLimits, change_segments, refusal
from sync_server.features.placing import Placing
from sync_server.store.protocol import ReadTx, WriteTx
from sync_server.store.records import DecisionState, Lineage, RowState
from sync_server.sync.hot_set import decayed


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one row: written under `grant`, left as it stands, or refused with a code."""

    code: str | None
    write: bool
    grant: int = 0


def judge(
    incoming: Incoming, standing: RowState | None, decision: DecisionState | None, as_of: int
) -> Verdict:
    """Decide about one row.

    Args:
        standing: what is there of it now.
        decision: what holds for its subject and purpose; None for a row about nobody.
        as_of: the lane position that the publishing job had read.
    """
    grant = 0
    if decision is not None:
        grant = decision.usable
        if grant == 0:
            return Verdict("no_permission", write=False)
        if grant > as_of:  # law 2: computed before this consent, so from data of an older one
            return Verdict("stale_grant", write=False)
    if standing is None:
        return Verdict(None, write=True, grant=grant)
    if incoming.event_time_us < standing.event_time_us:
        return Verdict("older", write=False)
    same = (standing.event_time_us, standing.deleted, standing.values, standing.grant) == (
        *(incoming.event_time_us, incoming.deleted, incoming.values),
        grant,
    )
    return Verdict(None, write=not same, grant=grant)


class Outcome(NamedTuple):
    """What became of one row."""

    code: str | None
    """Why it was refused; None when it stands."""
    unchanged: bool
    """It stood there already, word for word: nothing was written."""


@dataclass(frozen=True, slots=True)
class Publishing:
    """One publish into one view: what all its rows have in common."""

    view: View
    placing: Callable[[], Placing]
    """By the catalog in force when it is asked: another may come between two chunks."""
    limits: SegmentLimits
    as_of: int
    """The lane position that the publishing job had read."""
    now_us: int
    half_life_us: int
    """How fast a publish is forgotten in a row's use."""
    job: Lineage | None = None
    """What wrote the rows; None: not said."""

    def write_rows(self, tx: WriteTx, rows: Sequence[Incoming]) -> list[Outcome]:
        """Write what may stand; returns for each row what became of it.

        A row's event time and created never go back while it stands, deletes included, also when this node's
        clock was set back: a device keeps the newer of two rows by (event time, created, seq), and of one row
        the higher seq must always win there.
        """
        lineage = 0 if self.job is None or not rows else tx.lineage_id(self.job)
        return [self._write(tx, row, lineage) for row in rows]

    def _write(self, tx: WriteTx, incoming: Incoming, lineage: int) -> Outcome:
        view = self.view
        standing = tx.row_state(incoming.entity, view.name, view.version)
        verdict = judge(incoming, standing, self._decision(tx, incoming.subject), self.as_of)
        if verdict.code is not None:
            return Outcome(verdict.code, unchanged=False)
        regrouped = False
        if incoming.segments is not None:
            held = frozenset(tx.segments_of(incoming.entity))
            joined, parted = incoming.segments - held, held - incoming.segments
            code = refusal(tx, held, joined, parted, self.limits)
            if code is not None:
                return Outcome(code, unchanged=False)
            regrouped = change_segments(tx, incoming.entity, joined, parted, self.now_us)
        if verdict.write:
            self._put(tx, standing, incoming, verdict.grant, lineage)
        if regrouped:
            self.placing().move_entity(tx, incoming.entity, self.now_us)
        return Outcome(None, unchanged=not verdict.write and not regrouped)

    def _put(
        self, tx: WriteTx, standing: RowState | None, incoming: Incoming, grant: int, lineage: int
    ) -> None:
        view, now_us = self.view, self.now_us
        created_us = now_us if standing is None else max(now_us, standing.created_us)
        row = Row(
            *(0, incoming.entity, view.name, view.version, incoming.event_time_us, created_us),
            *(grant, incoming.deleted, incoming.values),
        )
        channels = self.placing().of_view(tx, view, incoming.entity, incoming.subject)
        use = 0.0 if incoming.subject is not None else self._use(standing, created_us)
        tx.write_row(standing, row, channels, incoming.subject, view.purpose, lineage=lineage, use=use)

    def _use(self, standing: RowState | None, now_us: int) -> float:
        """One publish more. Of subjects nothing is counted."""
        if standing is None:
            return 1.0
        return 1.0 + decayed(standing.use, standing.used_us, now_us, self.half_life_us)

    def _decision(self, tx: ReadTx, subject: bytes | None) -> DecisionState | None:
        if subject is None:
            return None
        return tx.decision_state(subject, self.view.purpose or "")
