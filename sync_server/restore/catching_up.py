"""A restored server that lacks something: it hears what its devices know, and serves nobody before it has.

While it is closed, denials are accepted and shared rows flow; it gives no lease, takes no consent, and opens
no channel of a subject. It opens when the journal proved whole, when every device that may still use what was
denied was heard or its lease of before has run out, or when an operator says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from sync_server.catalog.purpose_leases import PurposeLeases
from sync_server.clock import Clock
from sync_server.devices.authority import Authority
from sync_server.devices.entropy import Entropy
from sync_server.errors import Problem, StoreForeign
from sync_server.restore.again import Recorder, bars_of
from sync_server.restore.lost import fill
from sync_server.settings import Settings
from sync_server.store.protocol import Store, WriteTx
from sync_server.store.records import DeviceRow
from sync_server.store.restores import RecalledRow, RestoreRow

RETRY_US: Final = 10_000_000
"""When a device may ask again for what is closed."""
ACTOR: Final = "recall:"
"""Of ledger steps that were recorded on a device's word; its id follows."""
LONGEST: Final = "longest_lease_us"
By = Literal["devices", "time", "operator"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a restored server stands, for a person who asks."""

    restore: RestoreRow
    closed: bool
    waiting: int
    """Devices that may still use what was denied, and were not heard."""
    open_at_latest_us: int
    lost: int
    """Ledger steps of which only the number is left."""
    tellers: tuple[RecalledRow, ...]
    """Devices on whose word most was denied."""


class CatchingUp:
    """What a node knows of its restore; for a server that was never restored nothing is asked of it."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        settings: Settings,
        entropy: Entropy,
        leases: Callable[[], PurposeLeases],
    ) -> None:
        self._leases = leases
        self._store, self._clock, self._settings, self._entropy = store, clock, settings, entropy
        with store.read() as tx:
            self._restore = tx.restores.latest()

    @property
    def closed(self) -> bool:
        """Whether it neither gives nor serves subjects."""
        return self._restore is not None and self._restore.opened_us is None

    # ---- devices -----------------------------------------------------------------------------------------

    def meet(self, device: DeviceRow, lane: int) -> m.Recall | None:
        """A device came that stands at `lane`; what it is asked first, if it was not heard yet.

        Numbers that it knows and the ledger has lost are skipped for ever: the lane never goes back. A device
        that knows more than a journal that seemed whole proves that it was not: the server closes.
        """
        restore = self._restore
        if restore is None:
            return None
        with self._store.read() as tx:
            if tx.restores.was_heard(device.device_id):
                return None
            head, owed = tx.lane_head(), tx.restores.first_owed(device.device_id)
        if lane > head:
            with self._store.write("lost") as tx:
                self._reach(tx, lane)
                if restore.opened_by == "journal":
                    tx.restores.close()
            self._look()
        since = restore.kept if owed is None else min(owed - 1, restore.kept)
        return m.Recall(kept=restore.kept, since=since)

    def hear(self, device_id: str, recalled: m.Recalled) -> m.Restated:
        """Take in a page of what a device knew; what it names and the ledger kept is said as it stands.

        Raises `WireFailure`: `malformed` for what no Recall asked for, `overloaded` for more than one device
        is believed. Nothing was changed.
        """
        restore = self._restore
        assert restore is not None
        if any(not restore.kept < entry.seq <= recalled.upto for entry in recalled.entries):
            raise WireFailure("malformed", f"expected what changed after step {restore.kept}")
        recorder, actor = self._recorder(), ACTOR + device_id
        with self._store.write("recalled") as tx:
            self._reach(tx, recalled.upto)
            for entry in recalled.entries:
                for bar in bars_of(entry, restore.kept, actor):
                    recorder.bar(tx, bar, restore.kept)
            if tx.restores.count_recorded(actor) > self._settings.recalled_denials:
                raise WireFailure("overloaded", "more denials than are believed of one device")
            pairs = dict.fromkeys((entry.subject, entry.purpose) for entry in recalled.entries)
            found = [tx.lane_entry(*pair) for pair in pairs]
        kept = [e for e in found if e is not None and max(e.seq, e.grant, e.denial) <= restore.kept]
        return m.Restated(entries=kept)

    def heard(self, device_id: str, upto: int) -> None:
        """A device told everything, and acknowledged the lane that came of it: it is not asked again."""
        with self._store.write("heard") as tx:
            told = tx.restores.count_recorded(ACTOR + device_id)
            tx.restores.heard(RecalledRow(device_id, self._clock.now_us(), upto, told))
        self.settle()

    def _reach(self, tx: WriteTx, upto: int) -> None:
        if upto - tx.lane_head() > self._settings.lost_steps:
            raise WireFailure("rolled_back", "the device knows of more ledger steps than a restore may lose")
        fill(tx, upto, self._recorder())

    def _recorder(self) -> Recorder:
        now_us, settings = self._clock.now_us(), self._settings
        due_us = now_us + settings.erasure_due_us
        return Recorder(now_us, due_us, self._entropy, self._leases(), settings.lease_bound_us)

    # ---- opening -----------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Open if nothing is missing any more. For every second or so, and after each device."""
        if self._restore is None or not self.closed:
            return
        now_us = self._clock.now_us()
        with self._store.read() as tx:
            waiting, _ = tx.restores.unheard(now_us)
        if waiting == 0:
            self._open("time" if now_us >= self._restore.until_us else "devices")

    def open_now(self) -> None:
        """An operator takes it upon himself. Raises `Problem("not_restored")` when it is open."""
        if not self.closed:
            raise Problem("not_restored")
        self._open("operator")

    def standing(self) -> Standing | None:
        """Where it stands; None for a server that was never restored."""
        if self._restore is None:
            return None
        with self._store.read() as tx:
            waiting, last_us = tx.restores.unheard(self._clock.now_us())
            tellers = tuple(tx.restores.told_on_word_of(10))
            lost = tx.restores.count_lost()
        waiting = waiting if self.closed else 0
        latest_us = self._restore.opened_us or last_us or self._restore.until_us
        return Standing(self._restore, self.closed, waiting, latest_us, lost, tellers)

    def _open(self, by: By) -> None:
        with self._store.write("restore_open") as tx:
            tx.restores.open(self._clock.now_us(), by)
        self._look()

    def _look(self) -> None:
        with self._store.read() as tx:
            self._restore = tx.restores.latest()


def note_lease(store: Store, lease_us: int) -> None:
    """Remember the longest lease ever granted: after a restore one of that length may still run."""
    with store.read() as tx:
        known = int(tx.meta(LONGEST) or b"0")
    if lease_us > known:
        with store.write("longest_lease") as tx:
            tx.set_meta(LONGEST, str(lease_us).encode())


def check_same_restore(store: Store, authority: Authority) -> None:
    """Raise `StoreForeign` for a store and a key file of two incarnations: one was put back by hand."""
    with store.read() as tx:
        restore = tx.restores.latest()
    told = authority.restores[-1].incarnation if authority.restores else None
    if told != (None if restore is None else restore.incarnation):
        raise StoreForeign(
            "server.db and server.key are of two incarnations: one of them was put back by hand. Nothing was"
            " opened; use edge-sync restore"
        )
