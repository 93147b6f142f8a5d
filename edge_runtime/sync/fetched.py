"""Rows that this device asked for, from the server's answer to the cache: judged as a delta's are.

They belong to no channel, so neither cursor nor digest knows of them. A subject's rest under its data key and
die with it. What an answer leaves out is remembered as not there, for as long as a row would be usable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.cache.records import ABSENT, BEFORE_ALL_US, LET_GO, ON_DEMAND
from edge_runtime.cache.room import Room
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.catalog import Catalog, View
from edge_runtime.clock import Clock
from edge_runtime.consent.decisions import Consents
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.sync import gate, personal_rows
from edge_runtime.sync.fetch_places import Place
from edge_runtime.sync.gate import Action, Personal, Plain, Verdict
from edge_runtime.sync.shelf import DAY_US, order
from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.printing import prints_only

NO_HASH: Final = bytes(16)
"""These rows are part of no digest."""
ROWS_LIMIT: Final = 50_000
ROWS_OF_SUBJECT_LIMIT: Final = 1_024

Changed = Callable[[Sequence[tuple[str | None, str]]], None]
Gone = tuple[str | None, str]
"""(view key, entity) of a row that went; (None, "") for any number of them."""


@prints_only("view", "channel")
@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the server in one request, and under which consent."""

    view: View
    channel: Plain | Personal
    grant: int
    """Of the key under which the answer may rest; 0 for rows about nobody."""
    places: dict[str, Place]
    """Key on the wire -> the row."""


@prints_only("absent", "failed")
@dataclass(slots=True)
class Came:
    """What became of one answer."""

    here: list[Place] = field(default_factory=list)
    absent: list[Place] = field(default_factory=list)
    failed: str = ""
    """Code of why the rest of the question has no answer; empty when it may still come."""


class FetchedRows:
    """Takes in answers. The database's own lock guards every call; arguments as in `Replica`.

    Args:
        rows_limit: most rows about nobody kept; the coldest go.
        subject_limit: most rows kept under one key of a subject; the oldest go.
    """

    def __init__(
        self,
        catalog: Catalog,
        database: Database,
        keyring: Keyring,
        consents: Consents,
        changed: Changed,
        clock: Clock,
        room: Room,
        rows_limit: int = ROWS_LIMIT,
        subject_limit: int = ROWS_OF_SUBJECT_LIMIT,
    ) -> None:
        self._catalog, self._database, self._keyring = catalog, database, keyring
        self._consents, self._changed, self._clock, self._room = consents, changed, clock, room
        self._rows_limit, self._subject_limit = rows_limit, subject_limit

    # ---- asking ----------------------------------------------------------------------------------------

    def channel(self, subject: str, purpose: str) -> str:
        """The channel that must be followed before rows of a subject can be asked for."""
        return seal.personal_channel(self._keyring.pseudonym(subject), purpose)

    def grant(self, subject: str, purpose: str) -> int | None:
        """The numbered grant under which rows of a subject may come now; 0 while that must wait, None when
        nothing of the pair can be kept here."""
        key = self._keyring.key(subject, purpose)
        if key is None or not key.resting:
            return None
        return key.grant if self._consents.permission(subject, purpose).allowed else 0

    def question(self, places: list[Place]) -> Question:
        """One request for rows of one view, about nobody or about one subject."""
        first = places[0]
        view = self._catalog.views[first.view_key]
        if first.subject is None or first.purpose is None:
            return Question(view, Plain(ON_DEMAND), 0, {place.entity: place for place in places})
        pseudonym = self._keyring.pseudonym(first.subject)
        channel = Personal(seal.personal_channel(pseudonym, first.purpose), pseudonym, first.purpose)
        grant = self.grant(first.subject, first.purpose) or 0
        return Question(view, channel, grant, {place.on_wire(channel.token): place for place in places})

    # ---- the answer ------------------------------------------------------------------------------------

    def apply(self, question: Question, fetched: m.Fetched) -> Came:
        """Take in a part of the answer whole; takes out of `question.places` what it settles.

        Raises `WireFailure` with nothing changed: `lane_behind`, `malformed` for a row that was not asked
        for, `no_permission` without a live permission, or for a row that may never stand here.
        """
        self._check_permission(question)  # before the transaction: no other room's lock is taken inside one
        came = Came()
        with self._database.write("apply_fetched") as tx:
            waited = question.places
            gate.check_fetched(fetched, question.view, waited.keys(), tx.lane_position())
            shelf = self._shelf(tx, question)
            if shelf is None:
                return Came(failed="stale_grant")
            for row in fetched.rows:
                verdict = gate.judge(row, question.channel, self._catalog.model, question.grant)
                self._put(shelf, question, row, verdict, came)
            if not fetched.more:
                named = {row.entity for row in fetched.rows}
                for entity, place in waited.items():
                    if entity not in named:
                        shelf.absent(_absent(question.view, entity, self._clock.now_us()))
                        came.absent.append(place)
            gone = shelf.trim()
        self._tell(question, came, gone)
        return came

    def forget_all(self, tx: WriteTransaction, keys: list[DataKey]) -> None:
        """Let everything go that was asked for: it was another server's, or fitted another catalog."""
        tx.clear_channel(ON_DEMAND)
        for key in keys:
            tx.clear_fetched(key.handle)

    def _check_permission(self, question: Question) -> None:
        """Law 1: as for a personal channel."""
        channel = question.channel
        if isinstance(channel, Personal):
            key = self._keyring.by_pseudonym(channel.subject, channel.purpose)
            if key is None or not self._consents.permission(key.subject, key.purpose).allowed:
                raise WireFailure("no_permission", "no live permission for what was asked for")

    def _shelf(self, tx: WriteTransaction, question: Question) -> _Shelf | None:
        """Where the rows go; None when the consent they were asked under is not the live one any more."""
        channel = question.channel
        values = self._room.keeps(tx)
        if not isinstance(channel, Personal):
            day = self._clock.now_us() // DAY_US
            return _PlainShelf(tx, day, self._rows_limit, keeps_values=values)
        key = self._keyring.by_pseudonym(channel.subject, channel.purpose)
        if key is None or not key.grant or key.grant != question.grant:
            return None
        return _SealedShelf(tx, key, self._subject_limit, keeps_values=values)

    def _put(self, shelf: _Shelf, question: Question, row: m.Row, verdict: Verdict, came: Came) -> None:
        """Put one row where the gate says it goes."""
        place = question.places[row.entity]
        match verdict.action:
            case Action.KEEP:
                shelf.put(msgspec.structs.replace(row, values=verdict.values))
                came.here.append(place)
            case Action.DELETE:
                shelf.absent(_absent(question.view, row.entity, self._clock.now_us()))
                came.absent.append(place)
            case Action.STUB:  # of another grant: neither there nor known not to be there
                came.failed = "stale_grant"

    def _tell(self, question: Question, came: Came, gone: list[Gone]) -> None:
        """Say after the commit which rows memory may no longer believe, and what is settled."""
        settled = {*came.here, *came.absent}
        self._changed([*((place.view_key, place.entity) for place in settled), *gone])
        for wire in [wire for wire, place in question.places.items() if place in settled]:
            del question.places[wire]


def _absent(view: View, entity: str, asked_us: int) -> m.Row:
    """What stands for a row that is not there: older than any row that is."""
    return m.Row(0, entity, view.name, view.version, BEFORE_ALL_US, asked_us, 0, False, ABSENT)


class _Shelf(Protocol):
    """Where rows rest that were asked for, inside one write transaction."""

    def put(self, row: m.Row) -> None:
        """Keep `row` unless what is held there is newer."""
        ...

    def absent(self, row: m.Row) -> None:
        """Keep `row`, which stands for one that is not there, instead of what is held there."""
        ...

    def trim(self) -> list[Gone]:
        """Keep to the limit; returns what went and may be in memory."""
        ...


class _PlainShelf:
    """Rows about nobody, under the page key alone."""

    def __init__(self, tx: WriteTransaction, day: int, limit: int, *, keeps_values: bool) -> None:
        self._tx, self._day, self._limit, self._keeps_values = tx, day, limit, keeps_values

    def put(self, row: m.Row) -> None:
        self._tx.put_row(ON_DEMAND, _fitting(row, self._keeps_values), NO_HASH, self._day)

    def absent(self, row: m.Row) -> None:
        self._tx.delete_row(ON_DEMAND, row.entity, row.view, row.version)
        self._tx.put_row(ON_DEMAND, row, NO_HASH, self._day)

    def trim(self) -> list[Gone]:
        gone = self._tx.trim_fetched(self._limit)
        return [(f"{view}@{version}", entity) for entity, view, version in gone]


class _SealedShelf:
    """A subject's rows for one purpose, each sealed under the data key, outside the channel's."""

    def __init__(self, tx: WriteTransaction, key: DataKey, limit: int, *, keeps_values: bool) -> None:
        self._tx, self._key, self._limit, self._keeps_values = tx, key, limit, keeps_values

    def put(self, row: m.Row) -> None:
        slot = self._slot(row)
        sealed = self._tx.personal_row(self._key.handle, slot)
        if sealed is not None:
            held = personal_rows.open_delivered(self._key, slot, sealed).row
            if order(held) > order(row):
                return
        self._seal(slot, max(row.event_time_us, 0) // DAY_US, _fitting(row, self._keeps_values))

    def absent(self, row: m.Row) -> None:
        # Day 0: asking is no activity of the subject, so it does not prolong retention.
        self._seal(self._slot(row), 0, row)

    def trim(self) -> list[Gone]:
        went = self._tx.trim_fetched_of(self._key.handle, self._limit)
        return [(None, "")] if went else []

    def _slot(self, row: m.Row) -> bytes:
        return personal_rows.fetched_slot(self._key, f"{row.view}@{row.version}", row.entity)

    def _seal(self, slot: bytes, day: int, row: m.Row) -> None:
        sealed = personal_rows.seal_row(self._key, slot, row, NO_HASH)
        self._tx.put_personal_row(self._key.handle, slot, day, sealed)


def _fitting(row: m.Row, keeps_values: bool) -> m.Row:
    """The row as there is room for it."""
    if keeps_values or len(row.values) <= len(LET_GO):
        return row
    return msgspec.structs.replace(row, values=LET_GO)
