"""`/v1/subject-data`: everything that is held on one subject, a page at a time, as JSON or MessagePack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from edge_runtime.catalog import Catalog
from edge_runtime.wire import codec, seal
from edge_runtime.wire.printing import prints_only
from sync_server.api.asked import LIMIT, asked, page_limit
from sync_server.api.consents import shown, state_now
from sync_server.api.replies import json_reply, subject_of
from sync_server.api.rooms import CLOCK, OFFICE, REGISTRY, SETTINGS, STORE
from sync_server.api.route import Query, Route
from sync_server.consent.documents import ConsentRecord
from sync_server.consent.office import ConsentOffice
from sync_server.consent.subject_data import (
    DenialHeld,
    PurposeHeld,
    RowHeld,
    RowSource,
    SubjectData,
)
from sync_server.store.protocol import ReadTx
from sync_server.store.records import Denial, RowState

PATH: Final = "/v1/subject-data"
MSGPACK: Final = "application/msgpack"
_FEW: Final = 16
"""Rows that are opened before the page's bytes are looked at again."""
PARTS: Final = ("decisions", "rows", "denials")
After = Annotated[str, msgspec.Meta(pattern=r"^(decisions|rows|denials):[0-9]{1,18}$")]


async def export(request: web.Request) -> web.Response:
    """A page of everything; signed in nobody's name, since what matters is signed where it stands."""
    subject, limit = subject_of(request, asked(request, "subject", "")), page_limit(request)
    part, _, place = asked(request, "after", f"{PARTS[0]}:0").partition(":")
    catalog = request.app[REGISTRY].active
    with request.app[STORE].read() as tx:
        budget = request.app[SETTINGS].export_page_bytes
        page = _Page(tx, request.app[OFFICE], catalog, subject, limit, budget)
        after = page.fill(part, int(place))
        purposes = page.purposes()
    found = SubjectData(
        subject=seal.subject_token(subject),
        exported_at=request.app[CLOCK].now_us(),
        purposes=purposes,
        decisions=page.decisions,
        rows=page.rows,
        denials=page.denials,
        next=after,
    )
    return _as_asked(request, found)


@prints_only("room")
@dataclass
class _Page:
    """Fills a page from one part after another until it holds as much as it may."""

    tx: ReadTx
    office: ConsentOffice
    catalog: Catalog
    subject: bytes
    room: int
    """Items that it may still hold."""
    budget_bytes: int
    """Bytes of rows after which it ends."""
    decisions: list[ConsentRecord] = field(default_factory=list)
    rows: list[RowHeld] = field(default_factory=list)
    denials: list[DenialHeld] = field(default_factory=list)

    def fill(self, part: str, place: int) -> str | None:
        """Go on after `place` of `part`; returns where the next page goes on, None at the end."""
        takers: dict[str, Callable[[int], list[int]]] = {
            "decisions": self._decisions,
            "rows": self._rows,
            "denials": self._denials,
        }
        for name in PARTS[PARTS.index(part) :]:
            taken = takers[name](place)
            self.room -= len(taken)
            if self.room == 0 or self.budget_bytes <= 0:
                return f"{name}:{taken[-1] if taken else place}"
            place = 0
        return None

    def purposes(self) -> dict[str, PurposeHeld]:
        """What holds for every purpose that the subject decided on, or that is declared."""
        states = self.tx.states(self.subject)
        names = sorted({*states, *self.catalog.purposes})
        unknown = {name: self.tx.decision_state(self.subject, name) for name in names if name not in states}
        return {
            name: PurposeHeld(
                state=state_now((states | unknown)[name]),
                legal_basis=self._basis(name),
                portable=self._portable(name),
            )
            for name in names
        }

    def _basis(self, purpose: str) -> str | None:
        declared = self.catalog.purposes.get(purpose)
        return None if declared is None else declared.legal_basis

    def _portable(self, purpose: str) -> bool:
        declared = self.catalog.purposes.get(purpose)
        return declared is not None and declared.portable

    def _decisions(self, after: int) -> list[int]:
        steps = self.tx.history(self.subject, None, after, self.room)
        self.decisions += [shown(self.office, step) for step in steps]
        return [step.seq for step in steps]

    def _rows(self, after: int) -> list[int]:
        taken: list[int] = []
        while self.budget_bytes > 0 and len(taken) < self.room:
            few = min(_FEW, self.room - len(taken))
            found = self.tx.rows_of_subject(self.subject, taken[-1] if taken else after, few)
            self.rows += [self._row(row) for row in found]
            taken += [row.id for row in found]
            self.budget_bytes -= sum(row.stored_bytes for row in found)
            if len(found) < few:
                break
        return taken

    def _row(self, row: RowState) -> RowHeld:
        assert row.purpose is not None
        values: Any = codec.unpack(row.values, codec.FRAME_LIMIT_BYTES)
        job = self.tx.lineage(row.lineage)
        return RowHeld(
            entity=row.entity,
            view=row.view,
            version=row.version,
            purpose=row.purpose,
            channel=seal.personal_channel(self.subject, row.purpose),
            event_time=row.event_time_us,
            created=row.created_us,
            grant=row.grant,
            portable=self._portable(row.purpose),
            source=None
            if job is None
            else RowSource(who=job.who, name=job.name, run=job.run, code_version=job.code_version),
            values=values,
        )

    def _denials(self, after: int) -> list[int]:
        found = self.tx.denials_of_subject(self.subject, after, self.room)
        self.denials += [self._denial(denial) for denial in found]
        return [denial.seq for denial in found]

    def _denial(self, denial: Denial) -> DenialHeld:
        row = self.tx.revocation(denial.revocation)
        assert row is not None
        return DenialHeld(
            seq=denial.seq,
            purpose=denial.purpose,
            revocation=row.id,
            accepted_at=row.accepted_us,
            server_erased_at=row.server_erased_us,
            completed_at=row.completed_us,
        )


def _as_asked(request: web.Request, found: SubjectData) -> web.Response:
    """JSON, or MessagePack for a caller that names it in `Accept`."""
    if MSGPACK in request.headers.get("Accept", ""):
        return web.Response(body=msgspec.msgpack.encode(found), content_type=MSGPACK)
    return json_reply(found)


ROUTES = (
    Route(
        "GET",
        PATH,
        export,
        "Everything held on a subject (GDPR Art. 15, and what is `portable` for Art. 20), a page at a time.",
        "consent",
        scope="consent",
        query=(
            Query("subject", "id of the subject", required=True),
            Query("after", "`next` of the page before", type=After),
            LIMIT,
        ),
        headers=(Query("Accept", "`application/msgpack` for MessagePack; JSON otherwise"),),
        replies={200: "the page"},
        returns={200: SubjectData},
        gives={200: MSGPACK},
        problems=("invalid_id", "no_catalog"),
    ),
)
