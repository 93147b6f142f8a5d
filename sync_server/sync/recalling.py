"""The first words of a restored server to a device: what it asks, page by page, before the lane flows."""

from __future__ import annotations

from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from sync_server.restore.catching_up import CatchingUp


class Recalling:
    """One device being asked. `waits` until it has said everything and heard the last answer."""

    __slots__ = ("_catching_up", "_device_id", "_over", "_upto", "_words")

    def __init__(self, catching_up: CatchingUp, device_id: str, recall: m.Recall) -> None:
        self._catching_up, self._device_id = catching_up, device_id
        self._words: list[m.Message] = [recall]
        self._over = False
        """Whether the device has said everything."""
        self._upto = 0

    @property
    def waits(self) -> bool:
        """Whether nothing else may flow yet."""
        return not self._over or bool(self._words)

    def next(self) -> m.Message | None:
        """What to say now; None while it is the device's turn."""
        return self._words.pop() if self._words else None

    def hear(self, recalled: m.Recalled) -> None:
        """Take in a page; raises `WireFailure`, nothing changed: see `CatchingUp.hear`."""
        if self._words or self._over:
            raise WireFailure("out_of_turn", "expected a page once the one before was answered")
        self._words.append(self._catching_up.hear(self._device_id, recalled))
        self._over, self._upto = not recalled.more, recalled.upto

    def acknowledged(self) -> None:
        """The device enforced the lane, and so everything that was answered here."""
        self._catching_up.heard(self._device_id, self._upto)
