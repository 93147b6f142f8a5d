"""When evidence is no longer needed: made anonymous after its time, or when the operator says so.

Evidence of a consent is kept while the consent lives and for `evidence_kept_us` after it ended. Then the
salts, pseudonyms and device receipts of the pair are destroyed. The pair's denial stays in the lane, as the
fence of law 2, until every device that could hold something from before it has heard it, or was shut out;
after that one number stands for all that were dropped: what saw less is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from edge_runtime.wire.seal import subject_token
from sync_server.consent.office import ConsentOffice
from sync_server.errors import Problem
from sync_server.settings import DAY_US, Settings
from sync_server.store.protocol import Store, WriteTx


class Forgotten(NamedTuple):
    """What was made anonymous."""

    steps: int
    purposes: tuple[str, ...]


def forget_subject(tx: WriteTx, office: ConsentOffice, subject: bytes) -> Forgotten:
    """Make all evidence about a subject anonymous, now.

    Raises `Problem`, with nothing changed: `consent_live` while any consent of it is in force,
    `not_completed` while a device owes an answer to one of its revocations, or a system an acknowledgement.
    """
    live = tx.forgetting.live(subject)
    if live:
        raise Problem("consent_live", "expected every consent of the subject to be revoked before")
    for name in tx.forgetting.revocations_of(subject):
        row = tx.revocation(name)
        if row is not None and office.progress(tx, row).state not in ("completed", "partially_completed"):
            raise Problem(
                "not_completed", "expected every revocation of the subject to be completed or overdue"
            )
    if tx.forgetting.events_wait(subject):
        raise Problem(
            "not_completed", "expected every event about the subject to be acknowledged, or given up"
        )
    purposes = tx.forgetting.idle(subject)
    steps = sum(tx.forgetting.forget(subject, purpose) for purpose in purposes)
    tx.forgetting.drop_replies_about(subject_token(subject))
    return Forgotten(steps, tuple(purposes))


@dataclass(slots=True)
class Forgetting:
    """The chore: once a day from the first step of the ledger to the last that is old enough, a part at a
    time, and every fence that may have to go."""

    store: Store
    settings: Settings
    _next_us: int = 0
    _after: int = 0
    """How far this day's walk has come."""

    def step(self, now_us: int) -> bool:
        """Make expired evidence anonymous and drop fences that nobody needs; whether more follows."""
        if now_us < self._next_us:
            return False
        limit, before_us = self.settings.write_chunk_rows, now_us - self.settings.evidence_kept_us
        with self.store.write("forget_evidence", durable=False) as tx:
            old = tx.forgetting.old_steps(self._after, before_us, limit)
            pairs = {(subject, purpose) for _, subject, purpose in old}
            over = [pair for pair in sorted(pairs) if tx.forgetting.over(*pair, before_us)]
            for pair in over:
                tx.forgetting.forget(*pair)
                tx.forgetting.drop_events(pair[0], before_us)
            fences = tx.forgetting.drop_fences(before_us, limit)
        if over or fences:
            self.store.scrub()
        self._after = old[-1][0] if old else 0
        if old or fences >= limit:
            return True
        self._next_us = now_us + DAY_US
        return False
