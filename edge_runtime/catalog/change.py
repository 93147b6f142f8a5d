"""One line of a plan: what becomes of one thing when a new catalog takes the place of an old one."""

from __future__ import annotations

from typing import Literal, NamedTuple

Outcome = Literal["kept", "backfilled", "empty", "added", "dropped", "changed", "moved", "reused"]


class Change(NamedTuple):
    """What becomes of one declared thing.

    Outcomes: `kept` (state or contract as it was), `backfilled` (made from the journal), `empty` (starts with
    nothing), `added`, `dropped`, `changed` (a contract with apps or models), `moved` (a bare name means
    another version), `reused` (a version number for another definition).
    """

    place: str
    """As in the catalog: `views.activity@1.features.views_5m`."""
    outcome: Outcome
    detail: str
    loses: bool
    """Whether state is lost, or somebody who relied on a contract must change with it."""
