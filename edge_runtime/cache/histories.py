"""Since when this database has known each session view, and journalled each kind of event.

A view that a later catalog adds, adds again, or moves to another purpose, did not see what came before: its
states start from the journal, and say so until their windows are whole. In a new database every history is
whole.
"""

from __future__ import annotations

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.session.plan import Plan, ViewPlan

_META = "views"


class _Known(msgspec.Struct, frozen=True, array_like=True):
    views: dict[str, tuple[str, int]]
    """View key -> (purpose, since when it is known without a break)."""
    journalled: dict[str, dict[str, int]]
    """Purpose -> event type -> since when such events are journalled under it."""


class Histories:
    """What the catalog in use may assume of the past; times in microseconds UTC, 0 for always."""

    def __init__(self, database: Database, plan: Plan, now_us: int) -> None:
        with database.read() as tx:
            raw = tx.meta(_META)
        before = None if raw is None else msgspec.msgpack.decode(raw, type=_Known)
        self._known = _followed(before, plan, now_us)
        if self._known != before:
            with database.write("views") as tx:
                tx.set_meta(_META, msgspec.msgpack.encode(self._known))

    def since_us(self, plan: ViewPlan) -> int:
        """Since when this view has been fed."""
        return self._known.views[plan.view.key][1]

    def journalled_us(self, plan: ViewPlan) -> int:
        """Since when every event that feeds this view went to the journal of its purpose."""
        types = self._known.journalled[_purpose(plan)]
        return max((types[kind] for kind in plan.event_types), default=0)


def _followed(before: _Known | None, plan: Plan, now_us: int) -> _Known:
    """The same facts under the catalog in use: what it names for the first time begins now."""
    new_us = 0 if before is None else now_us
    old = _Known({}, {}) if before is None else before
    views: dict[str, tuple[str, int]] = {}
    journalled: dict[str, dict[str, int]] = {}
    for key, view_plan in plan.views.items():
        purpose = _purpose(view_plan)
        stood = old.views.get(key)
        views[key] = stood if stood is not None and stood[0] == purpose else (purpose, new_us)
        types = old.journalled.get(purpose, {})
        journalled.setdefault(purpose, {}).update({k: types.get(k, new_us) for k in view_plan.event_types})
    return _Known(views, journalled)


def _purpose(plan: ViewPlan) -> str:
    return plan.view.purpose or ""
