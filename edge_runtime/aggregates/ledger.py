"""The ledger as reports are charged to it: which tags, on which day, in which window, for how much."""

from __future__ import annotations

from edge_runtime.aggregates.budget import (
    Charge,
    Verdict,
    forget_before,
    judge,
    newest_day,
    note_day,
    pay,
    round_tag,
    subject_tag,
)
from edge_runtime.aggregates.mechanisms import DAY_US, budget_window_days, cost_micros
from edge_runtime.aggregates.mechanisms.windows import LedgerTime
from edge_runtime.aggregates.rounds_in_hand import Round
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.catalog import Catalog
from edge_runtime.clock import Clock
from edge_runtime.keys.keyring import Keyring


class Ledger:
    """What the subjects of one runtime have spent, at the controller that it is enrolled with now."""

    def __init__(self, catalog: Catalog, keyring: Keyring, clock: Clock) -> None:
        self._keyring, self._clock, self._time = keyring, clock, LedgerTime()
        self._window_days = budget_window_days(catalog.metrics.values())
        self._swept_day = 0
        """When old windows were forgotten last, in this process."""

    def payable(self, tx: ReadTransaction, round_: Round, subject: str) -> bool:
        """Whether the subject did not answer in this round, and its budget reaches; no value is looked at."""
        return judge(tx, self._charge(round_, subject), self._day(tx)) is Verdict.PAID

    def pay(self, tx: WriteTransaction, round_: Round, subject: str) -> Verdict:
        """Debit the subject's report and mark the round, or change nothing and say why."""
        charge, day = self._charge(round_, subject), self._day(tx)
        verdict = pay(tx, charge, day)
        if verdict is Verdict.PAID and day != self._swept_day:
            self._swept_day = day
            forget_before(tx, charge, day)
        return verdict

    def behind(self, tx: ReadTransaction) -> bool:
        """Whether something was debited here, and the ledger has not seen today."""
        return 0 < newest_day(tx) < self._day(tx)

    def note_day(self, tx: WriteTransaction) -> None:
        """Let the ledger see today: a device that runs leaves a window, whatever the wall clock says."""
        note_day(tx, self._day(tx))

    def _day(self, tx: ReadTransaction) -> int:
        return self._time.day(newest_day(tx), self._clock.now_us(), self._clock.boot_us())

    def _charge(self, round_: Round, subject: str) -> Charge:
        controller = self._keyring.identity.pseudonym_key
        return Charge(
            subject=subject_tag(controller, subject),
            round=round_tag(controller, round_.offer.round_id, subject),
            closes_day=round_.offer.closes_at_us // DAY_US,
            window_days=self._window_days,
            micros=cost_micros(round_.metric),
        )
