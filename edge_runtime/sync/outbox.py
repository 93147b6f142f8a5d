"""What waits to be told: decisions first, in order, then receipts. Sent again until acknowledged.

The queue itself is on disk and survives a restart; here is only what is in flight in this session. A flight
that was forgotten is sent again, and the server takes the same thing twice as once.
"""

from __future__ import annotations

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.cache.records import OutboxItem
from edge_runtime.consent.decisions import Consents
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m

_decisions = msgspec.msgpack.Decoder(m.Decision)


class Outbox:
    """The stored outbox, as one session after another empties it."""

    def __init__(self, database: Database, consents: Consents, settings: SyncSettings) -> None:
        self._database, self._consents, self._settings = database, consents, settings
        self._sent_us: dict[bytes, int] = {}
        """id -> boot time of its last sending in this session."""
        self._refused: dict[str, str] = {}
        """hex id -> the code with which the server refused it in this session."""

    @property
    def empty(self) -> bool:
        """Whether nothing waits, except what the server refused in this session."""
        with self._database.read() as tx:
            items = [*tx.outbox("decision", self._reach), *tx.outbox("receipt", self._reach)]
        return all(item.id.hex() in self._refused for item in items)

    @property
    def _reach(self) -> int:
        """How far to look into the queue: past what is in flight and refused, and one batch more."""
        return self._settings.batch + len(self._sent_us) + len(self._refused)

    def due(self, boot_us: int) -> list[m.Message]:
        """What is to be sent now: at most a batch of each kind, not sent yet or not acknowledged in time.

        While more than half a batch is in flight there is nothing: a long queue is emptied in batches.
        """
        late_us = boot_us - self._settings.resend_us
        self._sent_us = {id_: at for id_, at in self._sent_us.items() if at > late_us}
        if len(self._sent_us) > self._settings.batch // 2:
            return []
        with self._database.read() as tx:
            decisions = self._pick(tx.outbox("decision", self._reach))
            receipts = self._pick(tx.outbox("receipt", self._reach))
        for item in (*decisions, *receipts):
            self._sent_us[item.id] = boot_us
        messages: list[m.Message] = []
        if decisions:
            messages.append(m.Decisions(decisions=[_decisions.decode(item.payload) for item in decisions]))
        return messages + [codec.decode(item.payload) for item in receipts]

    def receipts_due(self, boot_us: int) -> list[m.Message]:
        """As `due`, of receipts alone: what a device that was shut out still has to say."""
        late_us = boot_us - self._settings.resend_us
        self._sent_us = {id_: at for id_, at in self._sent_us.items() if at > late_us}
        with self._database.read() as tx:
            receipts = self._pick(tx.outbox("receipt", self._reach))
        self._sent_us.update({item.id: boot_us for item in receipts})
        return [codec.decode(item.payload) for item in receipts]

    @property
    def receipts_wait(self) -> bool:
        """Whether any receipt is not handed in yet."""
        with self._database.read() as tx:
            return bool(tx.outbox("receipt", 1))

    def _pick(self, items: list[OutboxItem]) -> list[OutboxItem]:
        waiting = [i for i in items if i.id not in self._sent_us and i.id.hex() not in self._refused]
        return waiting[: self._settings.batch]

    def decision_acked(self, ack: m.DecisionAck) -> None:
        """The ledger has the decision: the consent room numbers its key, or erases what it superseded."""
        self._consents.recorded(ack.id, ack.seq, ack.outcome, ack.grant)
        self._settle(ack.id, "decision")

    def receipt_acked(self, id: bytes) -> None:
        """The server keeps the receipt."""
        self._settle(id, "receipt")

    def refused(self, about: str, code: str) -> None:
        """The server will not take an item in this session; it stays, and is tried in the next.

        What it cannot take just now (`not_now`) counts as lost on the way: it is sent again after a while.
        """
        if code == "not_now":
            return
        self._refused[about] = code
        self._sent_us = {id_: at for id_, at in self._sent_us.items() if id_.hex() != about}

    def forget_flights(self) -> None:
        """The session is over: nothing is in flight."""
        self._sent_us.clear()
        self._refused.clear()

    def _settle(self, id: bytes, kind: str) -> None:
        with self._database.write("settle") as tx:
            tx.settle(id, "decision" if kind == "decision" else "receipt")
        self._sent_us.pop(id, None)
