"""Tickets: who may answer in a round, each subject once, from which device, and what that costs.

The first device that asks gets a subject's ticket, and is from then on the one that answers for the subject
in rounds of this metric: a device remembers what it answered and gives it again, so that eight kiosks that
know a value tell it once, and not eight times. One that has not asked for `HOME_DAYS` gives way to another.

What a subject's tickets cost is debited under a blind tag when they are issued, in full, so a device that was
wiped and enrolled anew finds the same ceiling here. After a restore nobody knows what was issued since the
backup: until that is over, no ticket is.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge_runtime.aggregates.mechanisms import BUDGET_CEILING_MICROS, DAY_US
from edge_runtime.aggregates.mechanisms.windows import (
    LedgerTime,
    decode_windows,
    encode_windows,
    longest,
    noted,
)
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import TicketGrant, TicketRequest, Tickets
from sync_server.aggregates.release import Parameters
from sync_server.clock import Clock
from sync_server.store.aggregate_tickets import TicketRow
from sync_server.store.protocol import ReadTx, WriteTx
from sync_server.store.records import BARS, GIVEN, DeviceRow

SUBJECTS: Final = 1_000
"""Most subjects in one ticket request."""
HOME_DAYS: Final = 7
"""Days without asking after which a device no longer answers for a subject; or the window, if longer."""
NEWEST_DAY: Final = "aggregates.newest_day"
"""In `meta`: the newest day, as the ledger counts them, on which tickets were asked for; 8 bytes."""
RESTORED_DAY: Final = "aggregates.restored_day"
"""In `meta`: up to which day of the ledger tickets may have been lost by the newest restore."""
WINDOWS: Final = "aggregates.windows"
"""In `meta`: under which windows tickets were issued, and until when."""


@dataclass(frozen=True, slots=True)
class _Asking:
    """One request as it is judged: by whom, in which round, on which day, in which window."""

    metric: str
    round: bytes
    parameters: Parameters
    device: DeviceRow
    today: int
    window: int


class Issuer:
    """Issues tickets inside the caller's transaction.

    Args:
        entropy: n unpredictable bytes, for the ids of tickets.
        tag_key: 32-byte key of the blind tags.
    """

    def __init__(self, clock: Clock, entropy: Callable[[int], bytes], tag_key: bytes) -> None:
        self._clock, self._entropy, self._tag_key = clock, entropy, tag_key
        self._time = LedgerTime()
        self.withheld: Counter[str] = Counter()
        """Reason -> subjects asked for who got no ticket, since the start: `no_permission`, `another_device`
        (it answers for them, or did), `over_budget`, `unsure` (after a restore)."""

    def issue(
        self, tx: WriteTx, metric: str, parameters: Parameters, device: DeviceRow, request: TicketRequest
    ) -> Tickets:
        """Tickets for those subjects who may answer from this device, in a round of `metric` that is open.

        None for a subject without live permission, for whom another device answers, whose ticket is used, or
        whose budget does not reach. Asking again gives the same tickets. Raises `WireFailure("too_large")`
        over 1,000 subjects.
        """
        if len(request.subjects) > SUBJECTS:
            raise WireFailure("too_large", f"expected at most {SUBJECTS} subjects")
        today = self._today(tx)
        window = longest(decode_windows(tx.meta(WINDOWS)), parameters.window_days, today)
        tx.tickets.forget_spends(today - window)
        tx.tickets.forget_homes(today - max(window, HOME_DAYS))
        asking = _Asking(metric, request.round_id, parameters, device, today, window)
        granted = []
        for subject in dict.fromkeys(request.subjects):
            if not permitted(tx, parameters, subject):
                self.withheld["no_permission"] += 1
            elif (ticket := self._ticket(tx, asking, subject)) is not None:
                granted.append(TicketGrant(subject, ticket))
        return Tickets(round_id=request.round_id, granted=granted)

    def _today(self, tx: WriteTx) -> int:
        """The ledger's day, noted so that it never goes back."""
        newest = int.from_bytes(tx.meta(NEWEST_DAY) or b"", "big")
        today = self._time.day(newest, self._clock.now_us(), self._clock.boot_us())
        if today > newest:
            tx.set_meta(NEWEST_DAY, today.to_bytes(8, "big"))
        return today

    def _ticket(self, tx: WriteTx, asking: _Asking, subject: bytes) -> bytes | None:
        place = self._blind(b"edge-home", asking.metric.encode() + b"\0" + subject)
        device = self._blind(b"edge-device", asking.device.device_id.encode())
        home = tx.tickets.home(place)
        if home == device:
            tx.tickets.set_home(place, device, asking.today)  # it still asks
        tag = self._blind(b"edge-round", asking.round + subject)
        known = tx.tickets.of(asking.round, tag)
        if known is not None:
            return known.ticket if known.device_id == asking.device.device_id else None
        if home not in (None, device):
            self.withheld["another_device"] += 1
            return None
        if not self._paid(tx, asking, subject):
            return None
        tx.tickets.set_home(place, device, asking.today)
        ticket = self._entropy(16)
        row = TicketRow(ticket, asking.round, subject, asking.device.device_id, used=False)
        tx.tickets.add(row, tag)
        return ticket

    def _paid(self, tx: WriteTx, asking: _Asking, subject: bytes) -> bool:
        """Debit a ticket; False, and nothing changed, where the ceiling would be passed or is not known."""
        payer, micros = self._blind(b"edge-budget", subject), asking.parameters.cost_micros
        first_day = asking.today - asking.window + 1
        if _lost(tx, first_day):
            self.withheld["unsure"] += 1
            return False
        if tx.tickets.spent(payer, first_day) + micros > BUDGET_CEILING_MICROS:
            self.withheld["over_budget"] += 1
            return False
        tx.tickets.spend(payer, asking.today, micros)
        known = decode_windows(tx.meta(WINDOWS))
        windows = noted(known, asking.parameters.window_days, asking.today)
        if windows != known:
            tx.set_meta(WINDOWS, encode_windows(windows))
        return True

    def _blind(self, person: bytes, body: bytes) -> bytes:
        return hashlib.blake2b(body, digest_size=16, key=self._tag_key, person=person).digest()


def note_restore(tx: WriteTx, backup_us: int, at_us: int) -> None:
    """The store is made from a backup: tickets may be lost up to the day that the ledger had come to since.

    That may be later than the wall clock's, where a server once ran under a clock that was ahead.
    """
    newest = int.from_bytes(tx.meta(NEWEST_DAY) or b"", "big")
    reached = max(at_us // DAY_US, newest + 1 + (at_us - backup_us) // DAY_US if newest else 0)
    tx.set_meta(RESTORED_DAY, reached.to_bytes(8, "big"))


def _lost(tx: ReadTx, first_day: int) -> bool:
    """Whether tickets issued on `first_day` or later may be unknown: the store was made from a backup."""
    restored = tx.restores.latest()
    if restored is None:
        return False
    reached = int.from_bytes(tx.meta(RESTORED_DAY) or b"", "big")
    return max(reached, restored.at_us // DAY_US) >= first_day


def permitted(tx: ReadTx, parameters: Parameters, subject: bytes) -> bool:
    """Law 1 on this side: under consent, given; under another basis, not denied."""
    for purpose in parameters.purposes:
        state = tx.decision_state(subject, purpose.name).state
        if state in BARS or (purpose.consent and state != GIVEN):
            return False
    return True
