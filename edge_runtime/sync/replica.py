"""The device's copy of what the server sent: the one place where the link's words become changes on disk.

Rows, cursor and digest of a frame move in one transaction, after the gate agreed to each row. Decisions go to
the consent room, which erases before the lane position moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from edge_runtime.cache.database import Database
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.records import CATALOG, GAPS, ON_DEMAND, ChannelState
from edge_runtime.cache.room import Room, unlimited
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.catalog import Catalog
from edge_runtime.clock import Clock
from edge_runtime.consent.decisions import Consents
from edge_runtime.consent.lease import Leases
from edge_runtime.consent.receipt import ErasureReceipt
from edge_runtime.consent.shut_out import ShutOut
from edge_runtime.errors import NotEnrolled
from edge_runtime.keys.keyring import DataKey, Identity, Keyring
from edge_runtime.sync import gate, subranges
from edge_runtime.sync.applying import Applied, Applying
from edge_runtime.sync.fetched import ROWS_LIMIT, ROWS_OF_SUBJECT_LIMIT, FetchedRows
from edge_runtime.sync.fitting import Fitting
from edge_runtime.sync.gate import Match, Personal
from edge_runtime.sync.shelf import (
    PersonalShelf,
    PlainShelf,
    Shelf,
    personal_stand,
    personal_state,
)
from edge_runtime.sync.subranges import Member
from edge_runtime.wire import digest, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.digest import RowHasher
from edge_runtime.wire.failure import WireFailure

T = TypeVar("T")

INCARNATION = "sync.incarnation"
OFFSET = "sync.counter_offset"

Place = tuple[str | None, str]
"""(view key, entity) of a row that memory may no longer believe; (None, channel): of all rows of a channel;
(`GAPS`, channel): of no row, but of what it means that one is not there."""


class Replica:
    """The copy of one enrolled runtime. The database's own lock guards every call.

    Args:
        leases: whether consented features may be used now.
        changed: called after a commit with (view key, entity) of each row that is new, other or gone; in a
            personal row the subject stands by its typed id. (None, channel): a whole channel changed.
        clock: tells the day on which a row was brought.
        room: says whether values may be kept now; without bounds by default.
        fetched_rows, fetched_rows_of_subject: see `FetchedRows`.
        here: whether a typed subject, who gave consent at some time, is here; else its channels stay closed.
    """

    def __init__(
        self,
        catalog: Catalog,
        database: Database,
        keyring: Keyring,
        consents: Consents,
        leases: Leases,
        changed: Callable[[Sequence[Place]], None],
        clock: Clock,
        room: Room | None = None,
        *,
        fetched_rows: int = ROWS_LIMIT,
        fetched_rows_of_subject: int = ROWS_OF_SUBJECT_LIMIT,
        here: Callable[[str, int], bool] = lambda subject, asked_us: True,
    ) -> None:
        self._catalog, self._database, self._keyring = catalog, database, keyring
        self._consents, self._changed, self._clock = consents, changed, clock
        self._room = unlimited() if room is None else room
        self._fitting = Fitting(catalog.model)
        self.leases, self._here = leases, here
        self.shut_out = ShutOut(database, keyring, consents, leases, changed)
        """The end of this enrolment, when the server says so."""
        lent = (catalog, database, keyring, consents, changed, clock, self._room)
        self.fetched = FetchedRows(*lent, rows_limit=fetched_rows, subject_limit=fetched_rows_of_subject)
        """Rows that this device asked for, beside those of channels."""

    # ---- standing ----------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        """Who this device is; raises `NotEnrolled` before enrolment."""
        identity = self._keyring.identity
        if identity.server_key is None or identity.digest_key is None:
            raise NotEnrolled("no identity at a server yet; enrol first")
        return identity

    @property
    def _digest_key(self) -> bytes:
        key = self.identity.digest_key
        assert key is not None
        return key

    @property
    def consents(self) -> Consents:
        """The consent room."""
        return self._consents

    @property
    def database(self) -> Database:
        """The cache."""
        return self._database

    def pseudonym(self, subject: str) -> bytes:
        """16 bytes that stand for a typed id on the wire."""
        return self._keyring.pseudonym(subject)

    @property
    def keyring(self) -> Keyring:
        """The device's keys."""
        return self._keyring

    def counter(self) -> int:
        """The root slot's counter, as this device tells it: never lower than it was before a rollback."""
        with self._database.read() as tx:
            return self._keyring.counter + _offset(tx)

    @property
    def catalog_key(self) -> str:
        """`name@version` of the catalog in use."""
        return f"{self._catalog.name}@{self._catalog.version}"

    def lane_position(self) -> int:
        """Newest lane position that is enforced here."""
        with self._database.read() as tx:
            return tx.lane_position()

    def incarnation(self) -> bytes | None:
        """The server's incarnation at the last session; None before the first."""
        with self._database.read() as tx:
            return tx.meta(INCARNATION)

    def begin(self, incarnation: bytes, *, restored: bool) -> None:
        """Remember whom we speak to. After a restore of the server every channel starts over."""
        with self._database.write("begin") as tx:
            tx.set_meta(INCARNATION, incarnation)
            if restored:
                self._start_over(tx)
        if restored:
            self._changed([(None, ON_DEMAND)])

    def rolled_back(self, seen: int) -> int:
        """The server has seen counter `seen`, higher than ours: we are an older copy of ourselves.

        What rests on consent is erased: what the newer copy erased must not come back. Returns how many keys
        were erased; from here on we count from `seen`.
        """
        erased = self._consents.rolled_back()
        with self._database.write("rolled_back") as tx:
            behind = seen - self._keyring.counter - _offset(tx)
            tx.set_meta(OFFSET, (_offset(tx) + max(behind, 0)).to_bytes(8, "big"))
        return erased

    def fit_catalog(self) -> None:
        """Start every channel over when the catalog is another one than at the last session.

        What did not fit the old catalog was kept as a stub; a new one may have a place for it.
        """
        mark = self._catalog.fingerprint.encode()
        with self._database.write("fit_catalog") as tx:
            other = tx.meta(CATALOG) not in (None, mark)
            if other:
                self._start_over(tx)
            tx.set_meta(CATALOG, mark)
        if other:
            self._changed([(None, ON_DEMAND)])

    def _start_over(self, tx: WriteTransaction) -> None:
        """Cursors to 0; the rows stay until the replacing snapshot comes. None brings what was asked for."""
        for name in tx.channels():
            tx.set_channel(name, 0, 0)
        keys = self._live_keys()
        self.fetched.forget_all(tx, keys)
        for key in keys:
            shelf = PersonalShelf(tx, key)
            if personal_state(tx, key) not in (None, ChannelState(0, 0)):
                shelf.move(0, 0)

    # ---- channels ----------------------------------------------------------------------------------------

    def allowed_channels(self) -> tuple[str, ...]:
        """The shared channels that enrolment names outright; of a pattern, the app says what it wants."""
        return tuple(p for p in self._keyring.identity.patterns if not set("*?[~") & set(p))

    def shared(self, wanted: Sequence[str]) -> dict[str, int]:
        """Cursors of the shared channels: those held, and those wanted (0 when new)."""
        with self._database.read() as tx:
            held = {name: state.cursor for name, state in tx.channels().items()}
        return {**dict.fromkeys(wanted, 0), **held}

    def personal(self, limit: int, wanted: Collection[str] = ()) -> dict[str, int]:
        """Cursors of the personal channels open now: numbered grants with live permission, newest first.

        Only of subjects who are here: the channel of one who is not closes, and nothing of it is erased.

        Args:
            wanted: typed subjects of whom rows are asked for, so that they need not be here.
        """
        numbered = (key for key in self._live_keys() if key.grant != 0 and self._may_follow(key))
        keys = [key for key in numbered if key.subject in wanted or self._here(key.subject, key.facts.at_us)]
        keys.sort(key=lambda k: k.grant, reverse=True)
        with self._database.read() as tx:
            return {self._channel_of(k): personal_stand(tx, k)[0] for k in keys[:limit]}

    def _live_keys(self) -> list[DataKey]:
        return list(self._keyring.every_key())

    def _may_follow(self, key: DataKey) -> bool:
        return key.resting and self._consents.permission(key.subject, key.purpose).allowed

    def _channel_of(self, key: DataKey) -> str:
        return seal.personal_channel(self._keyring.pseudonym(key.subject), key.purpose)

    def cursor(self, channel: str) -> int:
        """How far this device is in `channel`; 0 when it holds nothing of it."""
        return (self._stand(gate.channel_of(channel)) or (0, 0))[0]

    def _stand(self, channel: gate.Channel) -> tuple[int, int] | None:
        """(cursor, digest); None for a personal channel without a key."""
        state = self._state(channel)
        return None if state is None else state[:2]

    def _state(self, channel: gate.Channel) -> ChannelState | None:
        """How far this device is in it; None for a personal channel without a key."""
        key, nothing = self._key(channel), ChannelState(0, 0)
        with self._database.read() as tx:
            if not isinstance(channel, Personal):
                return tx.channel(channel.name) or nothing
            return None if key is None else personal_state(tx, key) or nothing

    def drop_channel(self, channel: str) -> None:
        """Delete a channel's rows and cursor."""
        parsed = gate.channel_of(channel)
        with self._database.write("drop_channel") as tx:
            key = self._key(parsed)
            if key is not None:
                tx.clear_personal_rows(key.handle, fetched=True)
            else:
                tx.drop_channel(channel)
        self._changed([(None, channel)])

    def holds(self, channel: str) -> bool:
        """Whether a shared channel has a cursor here."""
        with self._database.read() as tx:
            return tx.channel(channel) is not None

    def apply(self, delta: m.Delta) -> Applied:
        """Apply a delta whole, or raise `WireFailure` with nothing changed.

        Raises `stale_delta` unless it starts at our cursor, `lane_behind` when our lane is behind its epoch,
        `no_permission` without a live permission for a personal channel or when a row may never stand in it.
        """
        channel = gate.channel_of(delta.channel)
        self._check_permission(channel)  # before the transaction: no other room's lock is taken inside one
        with self._database.write("apply_delta") as tx:
            key = self._key(channel)
            shelf = self._shelf(tx, channel, key)
            if shelf is None:
                raise WireFailure("no_permission", "no data key for this channel")
            cursor, total = shelf.stand()
            gate.check_delta(delta, cursor, tx.lane_position())
            if delta.replacing:
                shelf.clear()
                total = 0
            applying = self._applying(shelf, channel, key, room=self._room.keeps(tx))
            # what is deleted here may stand elsewhere: the next checkpoint tells
            stays = not (delta.replacing or any(row.deleted for row in delta.rows))
            shelf.move(delta.upto, applying.take(delta.rows, total), stays_whole=stays)
        self._tell(delta, channel, key)
        return applying.applied

    def _applying(self, shelf: Shelf, channel: gate.Channel, key: DataKey | None, *, room: bool) -> Applying:
        grant, hasher = 0 if key is None else key.grant, RowHasher(self._digest_key, channel.name)
        return Applying(shelf, channel, grant, self._catalog.model, self._fitting, hasher, room)

    def sums(self, channel: str) -> tuple[int, list[int]]:
        """(cursor, digest of each sub-range), from the hashes held; the channel's digest becomes their sum.

        Raises `WireFailure("no_permission")` for a personal channel without a key.
        """
        parsed = gate.channel_of(channel)
        cursor, total = self._stand(parsed) or (0, 0)
        key = self._digest_key
        found = self._look(parsed, lambda held: subranges.sums(held, key))
        if sum(found) % digest.MODULUS != total:
            with self._database.write("recount") as tx:
                shelf = self._shelf(tx, parsed, self._key(parsed))
                if shelf is not None:
                    shelf.move(cursor, sum(found) % digest.MODULUS)
        return cursor, found

    def _look(self, channel: gate.Channel, question: Callable[[Iterator[Member]], T]) -> T:
        """What `question` says of the rows that a channel brought."""
        key = self._key(channel)
        with self._database.read() as tx:
            if not isinstance(channel, Personal):
                return question(tx.places_in_channel(channel.name))
            if key is None:
                raise WireFailure("no_permission", "no data key for this channel")
            return question(subranges.personal_members(tx, key))

    def apply_patch(self, patch: m.Patch, base: int) -> Applied:
        """Apply a patch whole, digest and all, or raise `WireFailure` with nothing changed.

        Args:
            base: where it has to begin; 0 clears what is held of its sub-range.

        Raises as `apply`; `malformed` for a row of another sub-range.
        """
        channel, key = gate.channel_of(patch.channel), self._digest_key
        self._check_permission(channel)
        doomed: list[Member] = []
        if base == 0:
            doomed = self._look(channel, lambda held: subranges.within(held, key, patch.range))
        with self._database.write("apply_patch") as tx:
            data_key = self._key(channel)
            shelf = self._shelf(tx, channel, data_key)
            if shelf is None:
                raise WireFailure("no_permission", "no data key for this channel")
            cursor, total = shelf.stand()
            gate.check_patch(patch, base, tx.lane_position(), key)
            for member in doomed:
                total = digest.add(total, removed=shelf.delete(subranges.gone(member)))
            applying = self._applying(shelf, channel, data_key, room=self._room.keeps(tx))
            shelf.move(cursor, applying.take(patch.rows, total))
        self._changed([(None, patch.channel)])
        return applying.applied

    def _check_permission(self, channel: gate.Channel) -> None:
        """Law 1: a personal channel is written only under a live permission of its subject and purpose."""
        key = self._key(channel)
        if isinstance(channel, Personal) and (key is None or not self._may_follow(key)):
            raise WireFailure("no_permission", "no live permission for this channel")

    def _key(self, channel: gate.Channel) -> DataKey | None:
        if not isinstance(channel, Personal):
            return None
        return self._keyring.by_pseudonym(channel.subject, channel.purpose)

    def _shelf(self, tx: WriteTransaction, channel: gate.Channel, key: DataKey | None) -> Shelf | None:
        if not isinstance(channel, Personal):
            return PlainShelf(tx, channel.name, self._clock.now_us())
        return None if key is None else PersonalShelf(tx, key)

    def _tell(self, delta: m.Delta, channel: gate.Channel, key: DataKey | None) -> None:
        """Say after the commit which rows memory may no longer believe."""
        deletes = any(row.deleted for row in delta.rows)
        more: list[Place] = [(GAPS, delta.channel)] if deletes else []
        more += [(None, delta.channel)] if delta.replacing else []
        if not isinstance(channel, Personal) or key is None:
            rows = [(f"{row.view}@{row.version}", row.entity) for row in delta.rows]
        else:
            token, subject = channel.token, key.subject
            rows = [(f"{r.view}@{r.version}", r.entity.replace(token, subject)) for r in delta.rows]
        self._changed([*more, *rows])

    def compare(self, checkpoint: m.Checkpoint) -> Match:
        """Compare a signed checkpoint with what is held; raises `WireFailure("bad_signature")`.

        Where it speaks of our cursor it is remembered what an absent row means from now on (law 7).
        """
        server_key, channel = self.identity.server_key, gate.channel_of(checkpoint.channel)
        assert server_key is not None
        state = self._state(channel)
        cursor, total = (-1, 0) if state is None else state[:2]
        match = gate.check_checkpoint(checkpoint, server_key, cursor, total)
        if state is not None and match is not Match.ELSEWHERE:
            self._judge(channel, state, checkpoint.whole if match is Match.EQUAL else None)
        return match

    def _judge(self, channel: gate.Channel, state: ChannelState, whole: bool | None) -> None:
        """Remember whether the channel is whole, if it still stands where it was compared."""
        if state.whole is whole:
            return
        with self._database.write("whole") as tx:
            shelf = self._shelf(tx, channel, self._key(channel))
            if shelf is None or shelf.stand() != state[:2]:
                return
            shelf.judge(whole)
        self._changed([(GAPS, channel.name)])

    # ---- decisions ---------------------------------------------------------------------------------------

    def apply_lane(self, lane: m.Lane, at: int | None = None) -> Mapping[str, int]:
        """Enforce decisions durably: when this returns, what they deny is unreadable.

        The position moves with the last frame of a drain: before it, a denial that this device has not heard
        of may lie behind a later state of its pair, which is still to come.

        Args:
            at: where the frame before ended in this session; None for none: where this device stands.

        Returns table -> rows deleted. Raises `WireFailure`, nothing changed, when it does not go on from
        there; see `gate.check_lane`.
        """
        position = self.lane_position()
        gate.check_lane(lane, position if at is None else at)
        receipts = self._consents.apply_lane(lane.entries, position if lane.more else lane.upto)
        return _deleted(receipts)


def _deleted(receipts: Sequence[ErasureReceipt]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for receipt in receipts:
        total.update(receipt.receipt.rows_deleted)
    return total


def _offset(tx: ReadTransaction) -> int:
    raw = tx.meta(OFFSET)
    return 0 if raw is None else int.from_bytes(raw, "big")
