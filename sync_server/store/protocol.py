"""The two doors to the store: `read()` and `write(name)`, each handing out a typed transaction.

A transaction is made of chapters, one for each subject matter (`channels.py`, `placements.py`, `rows.py`,
`heat.py`, `segments.py`, `lineage.py`, `lane.py`, `revocations.py`, `devices.py`, `doors.py`); the records
that they speak in are in `records.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from sync_server.journal.journal import Journal
from sync_server.store.devices import DeviceReads, DeviceWrites
from sync_server.store.doors import DoorReads, DoorWrites
from sync_server.store.heat import HeatReads, HeatWrites
from sync_server.store.lane import LaneReads, LaneWrites
from sync_server.store.lineage import LineageReads, LineageWrites
from sync_server.store.records import Committed
from sync_server.store.revocations import RevocationReads, RevocationWrites
from sync_server.store.segments import SegmentReads, SegmentWrites

Listener = Callable[[Committed], None]


class ReadTx(HeatReads, SegmentReads, LineageReads, LaneReads, RevocationReads, DeviceReads, DoorReads):
    """One snapshot: every answer is of the same moment."""


class WriteTx(
    ReadTx, HeatWrites, SegmentWrites, LineageWrites, LaneWrites, RevocationWrites, DeviceWrites, DoorWrites
):
    """All or nothing: what was written stands when the `with` block ends, and not at all if it raises."""


Witness = Callable[[WriteTx], Callable[[], None]]
"""Sees a transaction that changed something, just before it commits; what it returns is called once that
stands."""


class Store(Protocol):
    """What the rooms ask of a store."""

    def read(self) -> AbstractContextManager[ReadTx]:
        """One snapshot for questions. Short; no `await` inside."""
        ...

    def write(self, name: str, *, durable: bool = True) -> AbstractContextManager[WriteTx]:
        """One named transaction; durable when the block ends.

        Args:
            name: what it is for, as it stands in the metrics.
            durable: False for what costs only a repeat when power is lost (contact, acknowledgements).
        """
        ...

    def together(self) -> AbstractContextManager[None]:
        """Durable writes inside wait for the disk once, at the end; a denial's still waits by itself.

        For one turn of the event loop: nothing may be answered, and nothing awaited, before it ends. A raise
        at its end means that what was written may not last.
        """
        ...

    def flush(self) -> None:
        """Wait for the disk for everything that was committed, durably or not: before it is vouched for."""
        ...

    def attach(self, journal: Journal) -> None:
        """Open `journal`, and tell it from now on what every commit brought, before the write returns.

        Inside `together` it is waited for at the end. Raises `JournalAhead`; see `Journal.open`.
        """
        ...

    def scrub(self) -> None:
        """What was deleted stands nowhere in the files any more, the log neither, when this returns."""
        ...

    def listen(self, listener: Listener) -> None:
        """Call `listener` after each commit that moved the lane or a channel."""
        ...

    def witness(self, witness: Witness) -> None:
        """Call `witness` at the end of each transaction that changed something; its writes stand with it."""
        ...

    def transactions(self) -> dict[str, int]:
        """name -> committed write transactions since the start."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...
