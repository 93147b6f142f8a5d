"""What the commands speak to a running server with: the API over HTTP, token and address from its files."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

TIMEOUT_S = 30


class Unreachable(Exception):
    """No server answers there."""


class Refused(Exception):
    """The server said no; `document` is its problem document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        super().__init__(f"{document.get('code')}: {document.get('detail') or document.get('title')}")


class Client:
    """The API of one server."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url.rstrip("/"), token

    @classmethod
    def of(cls, data_dir: Path, url: str | None, token: str | None = None) -> Client:
        """The server that runs on `data_dir`, or the one at `url`; with that directory's token unless another
        is given.

        Raises `Unreachable` when the files that are needed are not there.
        """
        try:
            if url is None:
                url = str(json.loads((data_dir / "server.json").read_text())["url"])
            return cls(url, token or (data_dir / "api.token").read_text().strip())
        except (OSError, ValueError, KeyError):
            reason = f"expected server.json and api.token in {data_dir}; is the server running?"
            raise Unreachable(reason) from None

    def call(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The decoded reply; raises `Refused` or `Unreachable`."""
        raw = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=raw, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(_document(error)) from None
        except (urllib.error.URLError, OSError) as error:
            raise Unreachable(f"{self.url} does not answer: {error}") from None


def path_of(*parts: str, **query: str | None) -> str:
    """A path with its parts and query quoted; parameters that are None are left out."""
    given = {name: value for name, value in query.items() if value is not None}
    tail = f"?{urlencode(given)}" if given else ""
    return "/" + "/".join(quote(part, safe="") for part in parts) + tail


def _document(error: urllib.error.HTTPError) -> Mapping[str, Any]:
    try:
        found = json.loads(error.read())
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"code": "http", "title": f"status {error.code}"}
