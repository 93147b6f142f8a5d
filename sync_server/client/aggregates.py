"""Rounds and releases, with the types that the server answers in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from sync_server.aggregates.documents import (
    DeclaredMetrics,
    NewRound,
    Releases,
    Round,
    RoundBrief,
    Rounds,
    RoundWithRelease,
)
from sync_server.aggregates.drift.report import DriftReport
from sync_server.aggregates.experiments.report import ExperimentReport
from sync_server.aggregates.health import Health
from sync_server.aggregates.release import Release
from sync_server.aggregates.table import csv_table, parquet_table
from sync_server.client.connection import path_of

T = TypeVar("T")
Page = TypeVar("Page", Rounds, Releases)
AGGREGATES: Final = ("v1", "aggregates")


class Asking(Protocol):
    """What it asks with; see `Client`."""

    def ask(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> bytes: ...

    def patiently(self, attempt: Callable[[], T]) -> T: ...


class AggregatesClient:
    """Ask, look, take home. Raises `Refused`, or `Unreachable` when patience ends.

    Every call is repeated while no answer comes: opening and closing a round again is the same round.
    """

    def __init__(self, client: Asking) -> None:
        self._client = client

    def metrics(self) -> DeclaredMetrics:
        """The metrics of the active catalog, and what a round of each costs."""
        return self._ask("GET", path_of(*AGGREGATES, "metrics"), DeclaredMetrics)

    def health(self) -> Health:
        """How whole and how fresh each view is, from the newest releases."""
        return self._ask("GET", path_of(*AGGREGATES, "health"), Health)

    def open(self, metric: str, *, closes_in_s: float) -> Round:
        """Open a round of `metric`, or find the one that is open: then its closing time stays."""
        path = path_of(*AGGREGATES, metric, "rounds")
        return self._ask("POST", path, Round, msgspec.to_builtins(NewRound(closes_in_s)))

    def round(self, metric: str, round_id: str) -> RoundWithRelease:
        """One round and, once it is closed, its release."""
        return self._ask("GET", path_of(*AGGREGATES, metric, "rounds", round_id), RoundWithRelease)

    def close(self, metric: str, round_id: str) -> Release:
        """Close a round now."""
        return self._ask("POST", path_of(*AGGREGATES, metric, "rounds", round_id, "close"), Release)

    def rounds(self, metric: str | None = None, *, page: int | None = None) -> Iterator[RoundBrief]:
        """Rounds of a metric or of all, newest first; `page` at a time."""
        for found in self._pages("rounds", Rounds, metric, page):
            yield from found.rounds

    def releases(self, metric: str | None = None, *, page: int | None = None) -> Iterator[Release]:
        """Releases of a metric or of all, newest first; `page` at a time."""
        for found in self._pages("releases", Releases, metric, page):
            yield from found.releases

    def uplift(
        self,
        experiment: str,
        *,
        round_id: str | None = None,
        looks: int | None = None,
        alpha: str | None = None,
    ) -> ExperimentReport:
        """What a release says of an experiment: the newest one, or that of a round."""
        path = path_of(*AGGREGATES, experiment, "uplift", round=round_id, looks=looks, alpha=alpha)
        return self._ask("GET", path, ExperimentReport)

    def drift(self, metric: str, *, against: str = "reference") -> DriftReport:
        """How far the newest release is from the `reference`, the `previous` one or that of a round."""
        return self._ask("GET", path_of(*AGGREGATES, metric, "drift", against=against), DriftReport)

    def table(self, form: Literal["csv", "parquet"], metric: str | None = None) -> bytes:
        """Every number of every release as one file, one row each: see `sync_server/aggregates/table.py`.

        Made here, of the JSON of all pages. Raises `MissingExtra` for Parquet without pyarrow.
        """
        found = [*self.releases(metric)]
        return csv_table(found) if form == "csv" else parquet_table(found)

    def _pages(self, what: str, wanted: type[Page], metric: str | None, size: int | None) -> Iterator[Page]:
        after: str | None = None
        while True:
            path = path_of(*AGGREGATES, what, metric=metric, after=after, limit=size)
            found = self._ask("GET", path, wanted)
            yield found
            if (after := found.next) is None:
                return

    def _ask(self, method: str, path: str, wanted: type[T], body: object = None) -> T:
        return msgspec.json.decode(
            self._client.patiently(lambda: self._client.ask(method, path, body)), type=wanted
        )
