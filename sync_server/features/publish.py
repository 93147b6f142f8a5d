"""Publishing rows: judged against what is there and against the subject's live grant, then written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_runtime.catalog.model import View
from edge_runtime.wire import seal
from edge_runtime.wire.messages import Row
from sync_server.features.incoming import Incoming
from sync_server.store.protocol import ReadTx, WriteTx
from sync_server.store.records import DecisionState, RowState

SHARED = "all"
"""The channel of every row that is about nobody."""


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


def write_rows(
    tx: WriteTx, view: View, rows: Sequence[Incoming], *, as_of: int, now_us: int
) -> list[str | None]:
    """Write what may stand; returns for each row its refusal code, or None when it stands.

    A row's event time and created never go back while it stands, deletes included, also when this node's
    clock was set back: a device keeps the newer of two rows by (event time, created, seq), and of one row
    the higher seq must always win there.
    """
    return [_write(tx, view, row, as_of, now_us) for row in rows]


def channel_of(view: View, subject: bytes | None) -> str:
    """The channel that a row of this view belongs to."""
    if subject is None or view.purpose is None:
        return SHARED
    return seal.personal_channel(subject, view.purpose)


def _write(tx: WriteTx, view: View, incoming: Incoming, as_of: int, now_us: int) -> str | None:
    standing = tx.row_state(incoming.entity, view.name, view.version)
    verdict = judge(incoming, standing, _decision(tx, view, incoming.subject), as_of)
    if verdict.write:
        created_us = now_us if standing is None else max(now_us, standing.created_us)
        row = Row(
            *(0, incoming.entity, view.name, view.version, incoming.event_time_us, created_us),
            *(verdict.grant, incoming.deleted, incoming.values),
        )
        tx.write_row(standing, row, (channel_of(view, incoming.subject),), incoming.subject, view.purpose)
    return verdict.code


def _decision(tx: ReadTx, view: View, subject: bytes | None) -> DecisionState | None:
    if subject is None:
        return None
    return tx.decision_state(subject, view.purpose or "")
