"""The one exception of the wire room: bytes or words that cannot be accepted, with their refusal code."""

from __future__ import annotations

from edge_runtime.wire.refusal import CODES


class WireFailure(Exception):
    """A frame, signature or word that is refused. `code` is one of `refusal.CODES`; nothing was changed."""

    def __init__(self, code: str, reason: str) -> None:
        assert code in CODES, code
        self.code, self.reason = code, reason
        super().__init__(f"{code}: {reason}")
