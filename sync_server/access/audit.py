"""Who did what, when, and what came of it: gathered here, written with the change or a moment later.

A call that changes something writes its row in the transaction of its change: both stand, or neither. Calls
that changed nothing wait in memory, those alike in one row, and a crash may lose them: reads of a second,
refusals of `audit_gather_us`. A row names a route, never a path, and never a body or a subject.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal

from sync_server.access.caller import NOBODY, Caller
from sync_server.access.chain import AuditEntry
from sync_server.api.route import Route
from sync_server.clock import Clock
from sync_server.settings import Settings
from sync_server.store.protocol import Store, WriteTx

Outcome = Literal["changed", "answered", "refused", "failed"]
AT_THE_DOOR: Final = frozenset(
    {"unauthorized", "missing_scope", "other_team", "other_destination", "beyond_own", "rate_limited"}
)
"""Refusals for who is asking: recorded on every route."""
_RESOURCE: Final = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
_current: ContextVar[Call | None] = ContextVar("call", default=None)


@dataclass(slots=True)
class Call:
    """One request, while it is answered."""

    route: Route
    at_us: int
    caller: Caller = NOBODY
    resource: str = ""
    code: str = ""
    """Of the problem that answers it."""
    written: bool = False
    """Its row stands, together with what it changed."""
    over: bool = False
    """It was answered: what a task that it left behind changes is not its doing any more."""

    def entry(self, outcome: Outcome, status: int) -> AuditEntry:
        """What the log keeps of it."""
        caller, route = self.caller, self.route
        who, what = (caller.actor, caller.name), (route.method, route.path)
        return AuditEntry(
            *(self.at_us, self.at_us, 1, *who, *what), outcome, status, self.code, self.resource
        )


def about(resource: str) -> None:
    """Say what the present call is about: the id of a revocation, device, token. Never a subject.

    Said inside the transaction of the change, it stands in the row that is written with it.
    """
    call = _current.get()
    if call is not None and _RESOURCE.fullmatch(resource):
        call.resource = resource


def present_caller() -> Caller:
    """Who makes the present call; outside of one, nobody."""
    call = _current.get()
    return NOBODY if call is None else call.caller


class Audit:
    """Hears of every call, and owns what waits to be written."""

    def __init__(self, store: Store, clock: Clock, settings: Settings) -> None:
        self._store, self._clock, self._settings = store, clock, settings
        self._reads: dict[AuditEntry, AuditEntry] = {}
        self._refusals: dict[AuditEntry, AuditEntry] = {}
        """Entry without times and count -> the whole; `_reads` are due at once, `_refusals` when gathered."""
        self._gathering_us = 0
        store.witness(self._write_with)

    @contextmanager
    def during(self, route: Route) -> Generator[Call]:
        """The call of one request. Transactions inside that change something write its row with them."""
        call = Call(route, self._clock.now_us())
        mark = _current.set(call)
        try:
            yield call
        finally:
            call.over = True
            _current.reset(mark)

    def ended(self, call: Call, status: int) -> None:
        """What came of it; kept unless its row stands already, or it is none that is kept."""
        failed = status >= HTTPStatus.BAD_REQUEST
        if call.written and not failed:
            return
        if not (call.route.audited or call.code in AT_THE_DOOR):
            return
        if not failed:
            self._gather(self._reads, call.entry("answered", status))
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._gather(self._reads, call.entry("failed", status))
        else:
            self._gather(self._refusals, call.entry("refused", status))

    def step(self, now_us: int) -> bool:
        """Write what is due; see `Chore`."""
        if self._reads:
            self._write(self._reads)
        if self._refusals and now_us - self._gathering_us >= self._settings.audit_gather_us:
            self._write(self._refusals)
        return False

    def flush(self) -> None:
        """Write everything that waits."""
        for waiting in (self._reads, self._refusals):
            if waiting:
                self._write(waiting)

    def _write_with(self, tx: WriteTx) -> Callable[[], None]:
        call = _current.get()
        if call is None or call.over or call.written:
            return _nothing
        if not call.route.audited or call.route.method == "GET":
            return _nothing
        tx.audit.append([call.entry("changed", min(call.route.replies))])

        def stands() -> None:
            call.written = True

        return stands

    def _gather(self, waiting: dict[AuditEntry, AuditEntry], entry: AuditEntry) -> None:
        """Count it with those alike; one row together for all further when too many wait."""
        if waiting is self._refusals and not waiting:
            self._gathering_us = entry.at_us
        key = entry._replace(at_us=0, last_us=0, calls=0)
        if key not in waiting and len(waiting) >= self._settings.audit_waiting:
            key = key._replace(actor="many", name="", method="", route="", code="", resource="")
        before = waiting.get(key)
        if before is None:
            waiting[key] = key._replace(at_us=entry.at_us, last_us=entry.last_us, calls=1)
        else:
            waiting[key] = before._replace(last_us=entry.last_us, calls=before.calls + 1)

    def _write(self, waiting: dict[AuditEntry, AuditEntry]) -> None:
        """All in one transaction; what could not be written goes on waiting."""
        with self._store.write("audit", durable=False) as tx:
            tx.audit.append(waiting.values())
        waiting.clear()


def _nothing() -> None:
    """Nothing of ours was written."""
