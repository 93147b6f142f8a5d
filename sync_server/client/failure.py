"""What can go wrong with a call.

::

    Exception
    ├── Unreachable   nobody answered: what was asked may have been done, or not
    └── Refused       the server said no, and changed nothing
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

PASSING: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class Unreachable(Exception):
    """No server answers there, or its answer did not come whole."""


class Refused(Exception):
    """The server said no.

    Args:
        document: its problem document (RFC 9457).
        status: of the reply.
        retry_after_s: when it may be asked again, where it said so.
    """

    def __init__(
        self, document: Mapping[str, Any], status: int = 0, retry_after_s: float | None = None
    ) -> None:
        self.document, self.status, self.retry_after_s = document, status, retry_after_s
        super().__init__(f"{self.code}: {document.get('detail') or document.get('title')}")

    @property
    def code(self) -> str:
        """The problem's code, as `/docs` lists them."""
        return str(self.document.get("code"))

    @property
    def passes(self) -> bool:
        """Whether the same request may be taken later."""
        return self.status in PASSING or self.code == "request_in_flight"
