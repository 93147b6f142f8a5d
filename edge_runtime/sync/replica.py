"""The device's copy of what the server sent: the one place where the link's words become changes on disk.

Rows, cursor and digest of a frame move in one transaction, after the gate agreed to each row. Decisions go to
the consent room, which erases before the lane position moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from edge_runtime.cache.database import Database
from edge_runtime.cache.records import GAPS, ChannelState
from edge_runtime.cache.room import Room, unlimited
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
from edge_runtime.sync.channel_shelves import ChannelShelves
from edge_runtime.sync.continuity import Continuity
from edge_runtime.sync.fetched import ROWS_LIMIT, ROWS_OF_SUBJECT_LIMIT, FetchedRows
from edge_runtime.sync.fitting import Fitting
from edge_runtime.sync.gate import Match, Personal
from edge_runtime.sync.open_channels import NEVER_US, OpenChannels
from edge_runtime.sync.shelf import Shelf
from edge_runtime.sync.subranges import Member
from edge_runtime.wire import digest, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.digest import RowHasher
from edge_runtime.wire.failure import WireFailure

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
        here_until_us: up to when a typed subject, who gave consent at some time, is here unless it is seen
            again; after that its channels close.
        came: counts those who came or left.
        shut_out: the runtime's, so that its status knows at once; one of its own by default.
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
        here_until_us: Callable[[str, int], int] = lambda subject, asked_us: NEVER_US,
        came: Callable[[], int] = lambda: 0,
        shut_out: ShutOut | None = None,
    ) -> None:
        self._catalog, self._database, self._keyring = catalog, database, keyring
        self._consents, self._changed = consents, changed
        self._room = unlimited() if room is None else room
        self._fitting = Fitting(catalog.model)
        self._shelves = ChannelShelves(database, keyring, consents, clock)
        self.leases = leases
        self.shut_out = shut_out or ShutOut(database, keyring, consents, leases, changed)
        """The end of this enrolment, when the server says so."""
        lent = (catalog, database, keyring, consents, changed, clock, self._room)
        self.fetched = FetchedRows(*lent, rows_limit=fetched_rows, subject_limit=fetched_rows_of_subject)
        """Rows that this device asked for, beside those of channels."""
        purposes = tuple(catalog.purposes.values())  # each may have a shorter lease than the device
        self.open_channels = OpenChannels(
            database,
            keyring,
            self._shelves.may_follow,
            here_until_us,
            moved=lambda: (consents.permits.changes, [*map(leases.live, purposes)], came()),
            now_us=clock.now_us,
            closed=self._doubt,
            fed={v.purpose for v in catalog.views.values() if v.source == "server" and v.purpose is not None},
        )
        """The channels that may be followed now."""
        self.continuity = Continuity(catalog, database, keyring, consents, self.fetched, changed)
        """Whether we and the server are those of the last session."""

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

    @property
    def catalog_key(self) -> str:
        """`name@version` of the catalog in use."""
        return f"{self._catalog.name}@{self._catalog.version}"

    def lane_position(self) -> int:
        """Newest lane position that is enforced here."""
        with self._database.read() as tx:
            return tx.lane_position()

    # ---- channels ----------------------------------------------------------------------------------------

    def stand(self, channel: str) -> tuple[int, int] | None:
        """(cursor, digest); None for a personal channel without a key."""
        state = self._shelves.state(gate.channel_of(channel))
        return None if state is None else state[:2]

    def cursor(self, channel: str) -> int:
        """How far this device is in `channel`; 0 when it holds nothing of it."""
        return (self.stand(channel) or (0, 0))[0]

    def drop_channel(self, channel: str) -> None:
        """Delete a channel's rows and cursor."""
        self._shelves.drop(gate.channel_of(channel))
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
        # before the transaction: no other room's lock is taken inside one
        self._shelves.check_permission(channel)
        with self._database.write("apply_delta") as tx:
            key = self._shelves.key(channel)
            shelf = self._shelves.shelf(tx, channel, key)
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
        cursor, total = self.stand(channel) or (0, 0)
        key = self._digest_key
        found = self._shelves.look(parsed, lambda held: subranges.sums(held, key))
        if sum(found) % digest.MODULUS != total:
            with self._database.write("recount") as tx:
                shelf = self._shelves.shelf(tx, parsed, self._shelves.key(parsed))
                if shelf is not None:
                    shelf.move(cursor, sum(found) % digest.MODULUS)
        return cursor, found

    def apply_patch(self, patch: m.Patch, base: int) -> Applied:
        """Apply a patch whole, digest and all, or raise `WireFailure` with nothing changed.

        Args:
            base: where it has to begin; 0 clears what is held of its sub-range.

        Raises as `apply`; `malformed` for a row of another sub-range.
        """
        channel, key = gate.channel_of(patch.channel), self._digest_key
        self._shelves.check_permission(channel)
        doomed: list[Member] = []
        if base == 0:
            doomed = self._shelves.look(channel, lambda held: subranges.within(held, key, patch.range))
        with self._database.write("apply_patch") as tx:
            data_key = self._shelves.key(channel)
            shelf = self._shelves.shelf(tx, channel, data_key)
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
        state = self._shelves.state(channel)
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
            shelf = self._shelves.shelf(tx, channel, self._shelves.key(channel))
            if shelf is None or shelf.stand() != state[:2]:
                return
            shelf.judge(whole)
        self._changed([(GAPS, channel.name)])

    def left(self, channel: str) -> None:
        """`channel` is not followed any more: what is not in it may be at the server by now (law 7)."""
        parsed = gate.channel_of(channel)
        state = self._shelves.state(parsed)
        if state is not None:
            self._judge(parsed, state, None)

    def _doubt(self, keys: Sequence[DataKey]) -> None:
        """`left`, of subjects' channels that closed, whether a session followed them or not."""
        doubted = self._shelves.doubt(keys)
        names = [seal.personal_channel(self.pseudonym(key.subject), key.purpose) for key in doubted]
        if names:
            self._changed([(GAPS, name) for name in names])

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
