"""Rounds and releases, with the types that the server answers in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeVar

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
from sync_server.client.asking import Asking, got, pages
from sync_server.client.connection import path_of

T = TypeVar("T")
AGGREGATES: Final = ("v1", "aggregates")


class AggregatesClient:
    """Ask, look, take home. Raises `Refused`, or `Unreachable` when patience ends.

    Every call is repeated while no answer comes: opening and closing a round again is the same round.
    """

    def __init__(self, client: Asking) -> None:
        self._client = client

    def metrics(self) -> DeclaredMetrics:
        """The metrics of the active catalog, and what a round of each costs."""
        return self._get(DeclaredMetrics, "metrics")

    def health(self) -> Health:
        """How whole and how fresh each view is, from the newest releases."""
        return self._get(Health, "health")

    def open(self, metric: str, *, closes_in_s: float) -> Round:
        """Open a round of `metric`, or find the one that is open: then its closing time stays."""
        return self._post(Round, metric, "rounds", body=msgspec.to_builtins(NewRound(closes_in_s)))

    def round(self, metric: str, round_id: str) -> RoundWithRelease:
        """One round and, once it is closed, its release."""
        return self._get(RoundWithRelease, metric, "rounds", round_id)

    def close(self, metric: str, round_id: str) -> Release:
        """Close a round now."""
        return self._post(Release, metric, "rounds", round_id, "close")

    def rounds(self, metric: str | None = None, *, page: int | None = None) -> Iterator[RoundBrief]:
        """Rounds of a metric or of all, newest first; `page` at a time."""
        for found in pages(self._client, (*AGGREGATES, "rounds"), Rounds, metric=metric, limit=page):
            yield from found.rounds

    def releases(self, metric: str | None = None, *, page: int | None = None) -> Iterator[Release]:
        """Releases of a metric or of all, newest first; `page` at a time."""
        for found in pages(self._client, (*AGGREGATES, "releases"), Releases, metric=metric, limit=page):
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
        return self._get(ExperimentReport, experiment, "uplift", round=round_id, looks=looks, alpha=alpha)

    def drift(self, metric: str, *, against: str = "reference") -> DriftReport:
        """How far the newest release is from the `reference`, the `previous` one or that of a round."""
        return self._get(DriftReport, metric, "drift", against=against)

    def table(self, form: Literal["csv", "parquet"], metric: str | None = None) -> bytes:
        """Every number of every release as one file, one row each: see `sync_server/aggregates/table.py`.

        Made here, of the JSON of all pages. Raises `MissingExtra` for Parquet without pyarrow.
        """
        found = [*self.releases(metric)]
        return csv_table(found) if form == "csv" else parquet_table(found)

    def _get(self, kind: type[T], *parts: str, **query: str | int | None) -> T:
        return got(self._client, path_of(*AGGREGATES, *parts, **query), kind)

    def _post(self, kind: type[T], *parts: str, body: object = None) -> T:
        path = path_of(*AGGREGATES, *parts)
        raw = self._client.patiently(lambda: self._client.ask("POST", path, body))
        return msgspec.json.decode(raw, type=kind)
