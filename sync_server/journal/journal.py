"""The denial journal of a running server: told after each commit, durable before anybody is answered (law 6).

A journal that fails is left behind, never waited for: denials are accepted all the same (law 2). It is tried
again, and then told whatever it has missed, from the ledger itself. While every journal fails, nothing is
given: what a restore would not know must not be promised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol

from edge_runtime.wire.messages import LedgerHead
from sync_server.errors import JournalAhead
from sync_server.journal.record import Entry, Signed, Step, Upto

log = logging.getLogger(__name__)

BEAT_US: Final = 10_000_000
"""How often a journal says that it is whole."""
RETRY_US: Final = 5_000_000
"""How long a journal that failed is left alone: to catch up it may have to be told a lot."""


class Place(Protocol):
    """Where a journal is kept: a folder (`folder.FolderJournal`), or one day something far away.

    Every call may raise OSError: the journal then is behind until `open` was called again.
    """

    name: str

    def open(self, size: int) -> Upto | None:
        """Ready to append; how far it goes, None when it begins now, at `size`."""
        ...

    def append(self, entries: Sequence[Entry]) -> None:
        """Write `entries`."""
        ...

    def sync(self) -> None:
        """What was written is durable when this returns."""
        ...

    def mark(self, whole_at_us: int | None) -> None:
        """Say when it was seen to be whole; None: something is missing."""
        ...

    def retire(self, size: int) -> int:
        """Forget what happened before ledger step `size`, as far as is easy; returns how many pieces went."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Ledger(Protocol):
    """What the journal asks of the ledger that it copies."""

    def size(self) -> int:
        """How many steps there are."""
        ...

    def begins(self) -> int:
        """Before which step a new journal of this incarnation begins."""
        ...

    def after(self, size: int, *, devices: bool) -> Iterable[Entry]:
        """Every step after the first `size`, the revocations among them; with `devices` all of those too."""
        ...

    def head(self, size: int) -> LedgerHead:
        """The signed head at `size` steps."""
        ...


class Journal:
    """All journals of one server; without any, nothing is asked of it. Calls come under the store's lock.

    Args:
        now_us: the server's clock.
    """

    def __init__(self, places: Sequence[Place], ledger: Ledger, now_us: Callable[[], int]) -> None:
        self._places, self._ledger, self._now_us = tuple(places), ledger, now_us
        self._faults: dict[str, str] = {}
        """Place that is behind -> why."""
        self._again_us: dict[str, int] = {}
        """Place that is behind -> when it is tried again."""
        self._stepped = False
        """Whether a step was told since the last head."""
        self._beat_us = 0
        self.syncs = 0
        """How often the disk was waited for."""

    @property
    def standing(self) -> dict[str, str]:
        """Place -> `whole`, or what it fails with."""
        return {place.name: self._faults.get(place.name, "whole") for place in self._places}

    @property
    def failing(self) -> bool:
        """Whether there is a journal and none of them is whole."""
        return bool(self._places) and len(self._faults) == len(self._places)

    def open(self) -> None:
        """Open every journal and tell it what it has missed. Raises `JournalAhead`; nothing was changed."""
        for place in self._places:
            self._try(place, partial(self._catch_up, place, devices=False))
        self.beat()

    def tell(self, entries: Sequence[Entry]) -> None:
        """What a commit brought. Durable after the next `settle`."""
        if not self._places or not entries:
            return
        self._stepped |= any(isinstance(entry, Step) for entry in entries)
        self._each(lambda place: place.append(entries))

    def settle(self) -> None:
        """Wait for the disk, once for everything told since."""
        if not self._places:
            return
        if self._stepped and not self.failing:
            signed = [Signed(self._ledger.head(self._ledger.size()))]
            self._each(lambda place: place.append(signed))
        self._stepped = False
        self._each(lambda place: place.sync())
        self.syncs += 1

    def beat(self) -> None:
        """Try again what failed, and let the others say that they are whole. For every second or so."""
        now_us = self._now_us()
        for place in self._places:
            wait_us = self._again_us.get(place.name, 0) - now_us
            if place.name in self._faults and not 0 < wait_us <= RETRY_US:
                self._try(place, partial(self._catch_up, place, devices=True))
        if not 0 <= now_us - self._beat_us < BEAT_US:
            self._beat_us = now_us
            self._each(lambda place: place.mark(now_us))

    def retire(self, size: int) -> None:
        """A backup holds the first `size` steps: what only tells of those may go."""
        self._each(lambda place: place.retire(size))

    def close(self) -> None:
        """Let go of every journal."""
        for place in self._places:
            place.close()

    def _catch_up(self, place: Place, *, devices: bool) -> None:
        size, begins = self._ledger.size(), self._ledger.begins()
        upto = place.open(begins)
        if upto is not None:
            self._check(place, upto, size)
        missed = list(self._ledger.after(begins if upto is None else upto.size, devices=devices))
        if missed:
            place.append([*missed, Signed(self._ledger.head(size))])
        place.sync()
        place.mark(self._now_us())
        self._faults.pop(place.name, None)

    def _check(self, place: Place, upto: Upto, size: int) -> None:
        """The journal is of this ledger, and of no more of it; else its store was exchanged."""
        why = ""
        if upto.size > size:
            why = f"knows {upto.size} ledger steps, the store {size}"
        elif upto.head is not None and self._ledger.head(upto.head.size).root != upto.head.root:
            why = f"has another ledger than the store at step {upto.head.size}"
        if why:
            place.close()
            raise JournalAhead(
                f"the journal in {place.name} {why}: another copy of the store was put in its place by hand."
                " Nothing was changed; use edge-sync restore"
            )

    def _each(self, act: Callable[[Place], object]) -> None:
        for place in self._places:
            if place.name not in self._faults:
                self._try(place, partial(act, place))

    def _try(self, place: Place, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            if place.name not in self._faults:
                log.error("the journal in %s is behind from now on: %s", place.name, reason)
            self._again_us[place.name] = self._now_us() + RETRY_US
            self._faults[place.name] = reason
            try:
                place.mark(None)
            except OSError:
                log.warning("the journal in %s cannot be marked as behind", place.name)
