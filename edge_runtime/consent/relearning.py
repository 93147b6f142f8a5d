"""After a restore of the server: what this device knows of the part of the ledger that was lost.

The server kept the first so many steps. What came after them is told to it; of that, only what takes
permission away counts, and comes back by the lane with a number of its own. Then this device lets go of the
lost part: its own consents are told again, consents that only the lost part knew end, answers to lost numbers
are dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.cache.records import OutboxItem
from edge_runtime.consent.deciding import Deciding
from edge_runtime.consent.erasure import Eraser
from edge_runtime.consent.ledger_side import LedgerSide
from edge_runtime.consent.standing import Standing
from edge_runtime.consent.words import GIVEN
from edge_runtime.keys.datakey import DataKey
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.messages import LaneEntry
from edge_runtime.wire.receipt import Receipt


class Relearning:
    """Carries that out. Thread-safe by the consent room's lock.

    Args:
        expire: erases under every key that the predicate picks.
        on_consent: whether a key rests on consent.
    """

    def __init__(
        self,
        keyring: Keyring,
        database: Database,
        eraser: Eraser,
        standing: Standing,
        ledger: LedgerSide,
        deciding: Deciding,
        expire: Callable[[Callable[[DataKey], bool]], object],
        on_consent: Callable[[DataKey], bool],
        lock: threading.RLock,
    ) -> None:
        self._keyring, self._database, self._eraser = keyring, database, eraser
        self._standing, self._ledger, self._deciding = standing, ledger, deciding
        self._expire, self._on_consent, self._lock = expire, on_consent, lock

    def known_after(self, kept: int) -> tuple[list[LaneEntry], int]:
        """What the ledger said after step `kept`, in order, and the newest position known in any way."""
        with self._lock:
            self._eraser.finish_pending()
            with self._database.read() as tx:
                entries, position = tx.lane_after(kept), tx.lane_position()
            heard = {(e.subject, e.purpose): e.denial for e in entries}
            for denial in self._keyring.denials():
                if denial.seq > max(kept, heard.get(denial.pair, 0)):
                    entries.append(LaneEntry(denial.seq, *denial.pair, denial.state, 0, denial.seq))
            grants = [key.grant for key in self._keyring.every_key()]
        entries.sort(key=lambda entry: entry.seq)
        return entries, max([position, *grants, *(e.seq for e in entries)])

    def restated(self, named: Iterable[LaneEntry], kept_entries: Sequence[LaneEntry]) -> None:
        """What was `named` of the lost part gives way to what the server kept of those pairs.

        What takes permission away stays until the lane brings it back: it is never forgotten in between.
        """
        gone = {(e.subject, e.purpose) for e in named if e.state in GIVEN}
        with self._lock:
            with self._database.write("restated") as tx:
                tx.drop_lane(gone)
                tx.put_lane([e for e in kept_entries if (e.subject, e.purpose) in gone])
            self._standing.learn_anew(gone)

    def let_go(self, kept: int, since: int) -> None:
        """The lost part is told: nothing here rests on it any more.

        Args:
            since: the server lost who answered denials after this step; they are answered again.
        """
        with self._lock:
            self._let_go(kept, since)

    def _let_go(self, kept: int, since: int) -> None:
        self._expire(lambda key: self._taken_up(key) and key.grant > kept)
        for key in list(self._keyring.every_key()):
            if self._on_consent(key) and key.grant > kept and not key.facts.pending:
                facts = key.facts
                self._keyring.renew(
                    *(key, facts.notice, facts.base, facts.decision), pending=True, signals=facts.signals
                )
        self._deciding.queue_pending_gives(compare=True)
        lost = [d for d in self._keyring.denials() if d.seq > kept]
        if lost:  # they get the number that the lane brings
            self._keyring.remember(
                msgspec.structs.replace(d, seq=0, settled=True, taken_here=False) for d in lost
            )
        with self._database.write("let_go") as tx:
            for item in tx.outbox("receipt"):
                if _answers_lost(item, kept):
                    tx.settle(item.id, "receipt")
            answers = [e for e in tx.lane_denied_after(since) if e.denial <= kept]
        self._ledger.answer_again(answers)

    def _taken_up(self, key: DataKey) -> bool:
        """Whether it was made on a backend's word: given elsewhere, so nobody here can tell it again."""
        return self._on_consent(key) and not key.facts.notice


def _answers_lost(item: OutboxItem, kept: int) -> bool:
    """Whether a receipt names a denial that has no such number any more."""
    note = codec.decode(item.payload)
    assert isinstance(note, m.ReceiptNote)
    receipt = msgspec.msgpack.decode(note.receipt, type=Receipt)
    return any(seq > kept for seq in receipt.denials)
