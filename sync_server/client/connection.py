"""One request and its reply, over HTTP."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from edge_runtime.wire.printing import prints_only
from sync_server.client.failure import Refused, Unreachable

TIMEOUT_S: Final = 30


@prints_only("url", "timeout_s")
@dataclass(frozen=True, slots=True)
class Connection:
    """Where the server is, and who asks."""

    url: str
    token: str
    timeout_s: float = TIMEOUT_S
    """Longest wait for a sign of life of the server."""

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The body of the reply; raises `Refused`, `Unreachable`, or ValueError for what no header holds."""
        given = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            **(headers or {}),
        }
        for name, value in given.items():
            if not (value.isascii() and value.isprintable()):  # else an error of http.client would quote it
                raise ValueError(f"expected {name} of printable ASCII")
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=given)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as reply:
                found: bytes = reply.read()
                return found
        except urllib.error.HTTPError as error:
            with error:
                refused = Refused(_document(error), error.code, _retry_after_s(error))
        except (OSError, http.client.HTTPException) as error:  # the latter: cut off in the middle of a reply
            raise Unreachable(f"{self.url} does not answer: {error}") from None
        raise refused


def path_of(*parts: str, **query: str | int | None) -> str:
    """A path with its parts and query quoted; parameters that are None are left out."""
    given = {name: value for name, value in query.items() if value is not None}
    tail = f"?{urlencode(given)}" if given else ""
    return "/" + "/".join(quote(part, safe="") for part in parts) + tail


def _document(error: urllib.error.HTTPError) -> Mapping[str, Any]:
    try:
        found = json.loads(error.read())
    except (ValueError, OSError, http.client.HTTPException):
        found = None
    return found if isinstance(found, dict) else {"code": "http", "title": f"status {error.code}"}


def _retry_after_s(error: urllib.error.HTTPError) -> float | None:
    text = error.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None
