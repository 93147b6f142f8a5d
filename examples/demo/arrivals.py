"""When each edition of the shop window could be read on this kiosk."""

from __future__ import annotations

import edge_runtime as er
from edge_runtime.sync.applying import Applied
from edge_runtime.sync.link import Link
from edge_runtime.wire.messages import Delta
from examples.demo.clock import present_us


class Arrivals:
    """Notes, in the link's own thread, the first moment at which an edition is readable here."""

    def __init__(self, rt: er.Runtime, link: Link) -> None:
        self._rt = rt
        self._seen: dict[int, int] = {}
        link.on_applied = self._applied

    def seen(self) -> dict[int, int]:
        """edition -> microseconds of this machine's clock."""
        return dict(self._seen)

    def _applied(self, delta: Delta, applied: Applied) -> None:
        if any(row.view == "window" for row in delta.rows):
            edition = self._rt.read("window:edition", shop="main").value
            if isinstance(edition, int):
                self._seen.setdefault(edition, present_us())
