"""Tickets: who may answer in a round, each subject once, and what that costs.

The first device that asks gets a subject's ticket. What a subject's tickets cost is debited under a blind tag
when they are issued, so a device that was wiped and enrolled anew finds the same ceiling here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from edge_runtime.aggregates.mechanisms import BUDGET_CEILING_MICROS, DAY_US
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import TicketGrant, TicketRequest, Tickets
from sync_server.aggregates.release import Parameters
from sync_server.clock import Clock
from sync_server.store.aggregates import TicketRow
from sync_server.store.protocol import ReadTx, WriteTx
from sync_server.store.records import BARS, GIVEN, DeviceRow

SUBJECTS: Final = 1_000
"""Most subjects in one ticket request."""


class Issuer:
    """Issues tickets inside the caller's transaction.

    Args:
        entropy: n unpredictable bytes, for the ids of tickets.
        tag_key: 32-byte key of the blind tags.
    """

    def __init__(self, clock: Clock, entropy: Callable[[int], bytes], tag_key: bytes) -> None:
        self._clock, self._entropy, self._tag_key = clock, entropy, tag_key

    def issue(
        self, tx: WriteTx, parameters: Parameters, device: DeviceRow, request: TicketRequest
    ) -> Tickets:
        """Tickets for those subjects who may answer from this device, in a round that is open.

        None for a subject without live permission, whose ticket went to another device or is used, or whose
        budget does not reach. Asking again gives the same tickets. Raises `WireFailure("too_large")` over
        1,000 subjects.
        """
        if len(request.subjects) > SUBJECTS:
            raise WireFailure("too_large", f"expected at most {SUBJECTS} subjects")
        today = self._clock.now_us() // DAY_US
        tx.aggregates.forget_spends(today - parameters.window_days)
        granted = []
        for subject in dict.fromkeys(request.subjects):
            if not permitted(tx, parameters, subject):
                continue
            ticket = self._ticket(tx, request.round_id, parameters, subject, device.device_id)
            if ticket is not None:
                granted.append(TicketGrant(subject, ticket))
        return Tickets(round_id=request.round_id, granted=granted)

    def _ticket(
        self, tx: WriteTx, round_id: bytes, parameters: Parameters, subject: bytes, device_id: str
    ) -> bytes | None:
        tag = self._blind(b"edge-round", round_id + subject)
        known = tx.aggregates.ticket_of(round_id, tag)
        if known is not None:
            return known.ticket if known.device_id == device_id else None
        payer, today = self._blind(b"edge-budget", subject), self._clock.now_us() // DAY_US
        spent = tx.aggregates.spent(payer, today - parameters.window_days + 1)
        if spent + parameters.cost_micros > BUDGET_CEILING_MICROS:
            return None
        tx.aggregates.spend(payer, today, parameters.cost_micros)
        ticket = self._entropy(16)
        tx.aggregates.add_ticket(TicketRow(ticket, round_id, subject, device_id, used=False), tag)
        return ticket

    def _blind(self, person: bytes, body: bytes) -> bytes:
        return hashlib.blake2b(body, digest_size=16, key=self._tag_key, person=person).digest()


def permitted(tx: ReadTx, parameters: Parameters, subject: bytes) -> bool:
    """Law 1 on this side: under consent, given; under another basis, not denied."""
    for purpose in parameters.purposes:
        state = tx.decision_state(subject, purpose.name).state
        if state in BARS or (purpose.consent and state != GIVEN):
            return False
    return True
