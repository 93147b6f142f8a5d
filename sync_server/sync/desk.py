"""What a device hands up and what it gets for it: decisions, aggregate reports. Receipts: `receipt_tray`.

Each is taken in by the room it belongs to, in one transaction; the answer is made only after its commit.
Taking in the same thing twice gives the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from sync_server.aggregates.intake import bring
from sync_server.aggregates.rounds import Rounds
from sync_server.clock import Clock
from sync_server.consent.decisions import Proposal, device_actor, repeated
from sync_server.consent.office import ConsentOffice
from sync_server.consent.signals import SIGNALS
from sync_server.errors import Problem
from sync_server.restore.catching_up import RETRY_US
from sync_server.settings import HOUR_US, Settings
from sync_server.store.protocol import Store, WriteTx
from sync_server.store.records import GIVEN, STATES, DeviceRow

RETRY_AFTER_US: Final = 60_000_000
"""When a device may bring again what was refused."""

HandedUp = m.Decisions | m.TicketRequest | m.Report


class Desk:
    """Takes in what devices hand up."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        store: Store,
        rounds: Rounds,
        office: ConsentOffice,
    ) -> None:
        self._settings, self._clock, self._store = settings, clock, store
        self._rounds, self._office = rounds, office
        self.on_reports: Callable[[], object] = lambda: None
        """Called when there is something for the collector."""

    def take(self, device_id: str, message: HandedUp) -> list[m.Message]:
        """The answers to one message of a known device. A refused item is named and the others stand."""
        match message:
            case m.Decisions():
                return [self._decision(device_id, decision) for decision in message.decisions]
            case m.TicketRequest():
                return [self._tickets(device_id, message)]
            case m.Report():
                return self._report(device_id, message)

    def offers(self) -> list[m.Message]:
        """The aggregate rounds that are open."""
        with self._store.read() as tx:
            return [*self._rounds.offers(tx)]

    # ---- decisions ---------------------------------------------------------------------------------------

    def _decision(self, device_id: str, decision: m.Decision) -> m.Message:
        """Record a decision; a denial is always accepted, erases here and names its targets (law 2)."""
        proposal = Proposal(
            subject=decision.subject,
            purpose=decision.purpose,
            state=decision.state,
            notice=decision.notice,
            base=decision.base,
            at_us=decision.at_us,
            actor=device_actor(device_id),
            decision=decision.id,
            signals=decision.signals,
            after=decision.after,
        )
        try:
            with self._store.write("device_decision") as tx:
                _live_device(tx, device_id)
                self._check(tx, proposal)
                done = self._office.decide(tx, proposal)
        except WireFailure as failure:
            return m.Refusal(code=failure.code, about=decision.id.hex(), retry_after_us=RETRY_AFTER_US)
        except Problem:
            return m.Refusal(code="not_now", about=decision.id.hex(), retry_after_us=RETRY_US)
        return m.DecisionAck(id=decision.id, seq=done.seq, outcome=done.outcome, grant=done.grant)

    def _check(self, tx: WriteTx, proposal: Proposal) -> None:
        if proposal.state not in STATES:
            raise WireFailure("malformed", "expected a state that a subject can decide on")
        if not set(proposal.signals) <= SIGNALS:
            raise WireFailure("malformed", f"expected signals of {' '.join(SIGNALS)}")
        if proposal.state == GIVEN and repeated(tx, proposal) is None:
            self._check_rate(tx, proposal.actor, self._clock.now_us())

    def _check_rate(self, tx: WriteTx, actor: str, now_us: int) -> None:
        """A device records so many consents an hour: a stolen key cannot open every channel at once."""
        if tx.count_gives(actor, now_us - HOUR_US) >= self._settings.device_gives_per_hour:
            raise WireFailure("overloaded", "too many decisions from one device")

    # ---- reports -----------------------------------------------------------------------------------------

    def _tickets(self, device_id: str, request: m.TicketRequest) -> m.Message:
        try:
            with self._store.write("tickets") as tx:
                return self._rounds.issue_tickets(tx, _live_device(tx, device_id), request)
        except WireFailure as failure:
            return m.Refusal(code=failure.code, about=request.round_id.hex())

    def _report(self, device_id: str, report: m.Report) -> list[m.Message]:
        """What is stored for the collector, and what is not. Nothing is opened here."""
        try:
            with self._store.write("report") as tx:
                _live_device(tx, device_id)
                brought = bring(tx, self._rounds, device_id, report)
        except WireFailure as failure:
            return [m.Refusal(code=failure.code, about=report.round_id.hex())]
        if brought.closed:
            return [m.Refusal(code="round_closed", about=report.round_id.hex())]
        self.on_reports()
        ack = brought.ack()
        refused = [m.Refusal(code=code, about=name.hex()) for name, code in brought.refused.items()]
        return [*([] if ack is None else [ack]), *refused]


def _live_device(tx: WriteTx, device_id: str) -> DeviceRow:
    device = tx.device(device_id)
    if device is None:
        raise WireFailure("unknown_device", "no such device is enrolled")
    if device.revoked:
        raise WireFailure("device_revoked", "the device was revoked")
    return device
