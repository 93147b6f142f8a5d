"""The API of one server."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sync_server.client.aggregates import AggregatesClient
from sync_server.client.connection import Connection
from sync_server.client.consent import ConsentClient
from sync_server.client.failure import Unreachable
from sync_server.client.patience import Patience, again_and_again
from sync_server.clock import SystemWaiter, Waiter

T = TypeVar("T")


class Client:
    """The API of one server. It may be used from several threads.

    Args:
        url: where it listens, `https://sync.example`.
        token: a bearer token with the scopes of what is asked.
        patience: how calls that may be repeated are repeated while nobody answers.
        waiter: what it waits with.
        rng: what spreads the waiting.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience: Patience | None = None,
        waiter: Waiter | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._connection = Connection(url.rstrip("/"), token.strip())
        self._patience = Patience() if patience is None else patience
        self.waiter: Waiter = SystemWaiter() if waiter is None else waiter
        self._rng = random.SystemRandom() if rng is None else rng

    @classmethod
    def of(
        cls,
        data_dir: Path,
        url: str | None,
        token: str | None = None,
        *,
        patience: Patience | None = None,
    ) -> Client:
        """The server that runs on `data_dir`, or the one at `url`; with that directory's token unless another
        is given.

        Raises `Unreachable` when the files that are needed are not there.
        """
        try:
            if url is None:
                url = str(json.loads((data_dir / "server.json").read_text())["url"])
            shown = token or (data_dir / "api.token").read_text().strip()
            return cls(url, shown, patience=patience)
        except (OSError, ValueError, KeyError):
            reason = (
                f"expected server.json and api.token in {data_dir}: start the server there, or name its"
                " directory with --data, or its url with --url and a token with --token-file"
            )
            raise Unreachable(reason) from None

    @property
    def url(self) -> str:
        """Where the server listens."""
        return self._connection.url

    @property
    def token(self) -> str:
        """The bearer token that it shows."""
        return self._connection.token

    @property
    def consent(self) -> ConsentClient:
        """Decisions and revocations."""
        return ConsentClient(self)

    @property
    def aggregates(self) -> AggregatesClient:
        """Rounds and releases."""
        return AggregatesClient(self)

    def call(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The decoded reply to one request, None if it has none; raises `Refused` or `Unreachable`."""
        raw = self.ask(method, path, body, headers=headers)
        return json.loads(raw) if raw else None

    def ask(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """As `call`, and the reply as it came."""
        raw = None if body is None else json.dumps(body).encode()
        return self._connection.ask(method, path, raw, headers)

    def patiently(self, attempt: Callable[[], T]) -> T:
        """Do what may be done twice, again while nobody answers or the server asks to come back."""
        return again_and_again(attempt, self._patience, self.waiter, self._rng)
