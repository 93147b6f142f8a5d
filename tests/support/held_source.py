"""A source of values held in dictionaries: what a runtime would answer, decided by the test."""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.serving.reads import Missing, ServerRow, SessionValues
from edge_runtime.serving.status import Status

NOT_FOUND = Missing(Status.NOT_FOUND, "no such row")


class HeldSource:
    """Session values and rows by (view key, typed entity); what is not there is NOT_FOUND."""

    def __init__(self) -> None:
        self.sessions: dict[tuple[str, str], SessionValues] = {}
        self.rows: dict[tuple[str, str], ServerRow | Missing] = {}

    def session_values(self, view_key: str, entity: str, t_us: int) -> SessionValues:
        """Values as held; a subject that is not there is revoked."""
        return self.sessions.get((view_key, entity)) or SessionValues((), None, Status.REVOKED, "withdrawn")

    def server_row(self, view_key: str, entity: str) -> ServerRow | Missing:
        """The row as held."""
        return self.rows.get((view_key, entity), NOT_FOUND)

    def server_rows(self, view_key: str, entities: Sequence[str]) -> Sequence[ServerRow | Missing]:
        """Each row as held."""
        return [self.server_row(view_key, entity) for entity in entities]
