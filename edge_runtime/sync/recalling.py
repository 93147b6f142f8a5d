"""What a restored server asks first: the part of the ledger that it has lost, page by page."""

from __future__ import annotations

from typing import Final

from edge_runtime.consent.relearning import Relearning
from edge_runtime.sync import gate
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.seal import canonical

ROOM_BYTES: Final = codec.FRAME_LIMIT_BYTES - 4 * 1024
"""What the entries of one page may take."""
PAGE: Final = 256
"""Most entries of one page."""


class Recalling:
    """The answers of one session to one Recall."""

    def __init__(self, relearning: Relearning) -> None:
        self._relearning = relearning
        self._recall: m.Recall | None = None
        self._waiting: list[m.LaneEntry] = []
        """What is still to be told, in order."""
        self._named: list[m.LaneEntry] = []
        """What the last page named; its answer is still to come."""
        self._upto = 0

    def asked(self, recall: m.Recall, welcome: m.Welcome) -> m.Recalled:
        """The first page; raises `WireFailure`, see `gate.check_recall`."""
        gate.check_recall(recall, welcome)
        self._waiting, self._upto = self._relearning.known_after(recall.kept)
        self._recall = recall
        return self._page()

    def restated(self, restated: m.Restated) -> m.Recalled | None:
        """Take in the answer to a page; the next page, or None when everything was told and let go of.

        Raises `WireFailure`, nothing changed: see `gate.check_restated`.
        """
        kept = -1 if self._recall is None else self._recall.kept
        gate.check_restated(restated, {(e.subject, e.purpose) for e in self._named}, kept)
        self._relearning.restated(self._named, restated.entries)
        self._named = []
        if self._waiting:
            return self._page()
        if self._recall is not None:
            self._relearning.let_go(self._recall.kept, self._recall.since)
            self._recall = None
        return None

    def _page(self) -> m.Recalled:
        count = used = 0
        for entry in self._waiting[:PAGE]:
            used += len(canonical(entry))
            if used > ROOM_BYTES:
                break
            count += 1
        self._named, self._waiting = self._waiting[:count], self._waiting[count:]
        return m.Recalled(entries=self._named, upto=self._upto, more=bool(self._waiting))
