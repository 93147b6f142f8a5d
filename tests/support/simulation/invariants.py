"""What must hold after every step, and what must hold once nothing fails any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

import edge_runtime as er
from edge_runtime.cache.records import LET_GO
from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from tests.support.simulation import shops
from tests.support.simulation.cable import Cable
from tests.support.simulation.device import Look, Seen, SimDevice

if TYPE_CHECKING:
    from tests.support.simulation.world import World

_values = msgspec.msgpack.Decoder(dict[str, object]).decode


class Broken(AssertionError):
    """A promise does not hold."""


class Watch:
    """What is remembered of one device from step to step."""

    def __init__(self) -> None:
        self.lane = 0
        self.stands: dict[tuple[str, bytes], int] = {}
        self.replaced: set[str] = set()
        """Channels whose rows the protocol replaced in this step; `*` for all that start over."""
        self.coming: set[str] = set()
        """Channels of which a snapshot began and no checkpoint where it ends was heard yet."""


# ---- after every step ----------------------------------------------------------------------------------


def check_reads(world: World, name: str) -> None:
    """Laws 1, 2 and 3 on one device: nothing readable that the oracle does not allow."""
    device, known, oracle = world.devices[name], world.known[name], world.oracle
    left_us = device.rt._leases.remaining_us()
    if left_us > max(known.lease_end_us - device.boot_us(), 0):
        raise Broken(f"{name}: {left_us} of its lease are left, it ends at {known.lease_end_us}")
    looks = list(device.looked())
    if not world.hostile:  # who takes rows out of frames is noticed at the next checkpoint
        _check_absent(world, name, [look for look in looks if look.status is er.Status.NOT_FOUND])
    for seen in (Seen(*look[:3], look.mark) for look in looks if look.mark is not None):
        if seen.pair is None:
            _check_published(world, name, seen)
            continue
        why = oracle.why_not(known, seen.pair, seen.mark, device.boot_us())
        if why is not None:
            raise Broken(f"{name} reads mark {seen.mark} of {seen.view} {seen.pair}: {why}")
        _check_published(world, name, seen)
    for seen in device.held():
        assert seen.pair is not None
        why = oracle.why_not_held(known, seen.pair, seen.mark)
        if why is not None:
            raise Broken(f"{name} holds mark {seen.mark} of {seen.view} {seen.pair}: {why}")
    _check_counts(world, name)
    _check_interest(world, name)


def _check_absent(world: World, name: str, looks: list[Look]) -> None:
    """Law 7: what is called not found the server had not, where the device's cursor stands.

    Of a server that was restored since nothing is said yet: the cursor is one of the server before.
    """
    if world.devices[name].replica.continuity.incarnation() != world.server.authority.incarnation:
        return
    stands = world.devices[name].stands()
    cursors = {channel: cursor for (channel, _), (cursor, _) in stands.items()}
    coming = world.watches[name].coming
    with world.server.store.read() as tx:
        for look in looks:
            channel = _channel(world, look.pair)
            found = tx.execute(
                "SELECT p.seq FROM rows r JOIN placements p ON p.row = r.id"
                " JOIN channels c ON c.id = p.channel"
                " WHERE r.entity = ? AND r.view = ? AND c.channel = ? AND p.deleted = 0",
                (look.entity, look.view, channel),
            ).fetchone()
            if channel in coming:
                raise Broken(f"{name}: {look.view} {look.entity} is not found in the middle of a snapshot")
            if channel not in cursors or (found is not None and found[0] <= cursors[channel]):
                raise Broken(f"{name}: {look.view} {look.entity} is not found, the server has it at {found}")


def _channel(world: World, pair: tuple[str, str] | None) -> str:
    return "all" if pair is None else seal.personal_channel(world.pseudonym(pair[0]), pair[1])


def _check_published(world: World, name: str, seen: Seen) -> None:
    published = world.oracle.published.get(seen.mark)
    if published is None or (published.view, published.entity) != (seen.view, seen.entity):
        raise Broken(f"{name} reads mark {seen.mark} in {seen.view}, where the server never had it")


def _check_counts(world: World, name: str) -> None:
    """Session features count nothing from before the consent that stands."""
    device, known = world.devices[name], world.known[name]
    for subject in shops.SUBJECTS:
        counted = device.counted(subject, "activity:views")
        if counted is None:
            continue
        pair = (subject, shops.P)
        barred = pair in known.unheard
        if barred or pair not in known.given or device.boot_us() >= known.leased_until_us.get(shops.P, 0):
            raise Broken(
                f"{name} counts events of {pair} without a permission: consented {known.given.get(pair)}, "
                f"now {device.boot_us()}, leased until {known.leased_until_us}"
            )
        if not isinstance(counted, int) or counted > known.events[pair]:
            raise Broken(f"{name} counts {counted} events of {pair}, {known.events[pair]} were taken")
        if world.oracle.restricted(known, pair):
            raise Broken(f"{name} counts events of {pair}, which are restricted")


def _check_interest(world: World, name: str) -> None:
    """Law 1 without consent: nothing is computed for who objected or restricted, nor from before that."""
    device, known, oracle = world.devices[name], world.known[name], world.oracle
    for subject in shops.SUBJECTS:
        pair = (subject, shops.CARE)
        visits = device.counted(subject, "support:visits")
        if visits is None:
            continue
        if oracle.objected(known, pair) or oracle.restricted(known, pair):
            raise Broken(f"{name} counts visits of {pair}, against what is known there")
        if not isinstance(visits, int) or visits > known.events.get(pair, 0):
            raise Broken(f"{name} counts {visits} visits of {pair}, {known.events.get(pair, 0)} were taken")


def check_positions(world: World, name: str) -> None:
    """The lane never goes back on a device; a channel's cursor only when a snapshot replaces its rows."""
    device, watch = world.devices[name], world.watches[name]
    lane = device.replica.lane_position()
    if lane < watch.lane:
        raise Broken(f"{name}: the lane went back from {watch.lane} to {lane}")
    if lane < world.known[name].lane:
        raise Broken(f"{name}: accepted a lane up to {world.known[name].lane} and stands at {lane}")
    watch.lane = lane
    stands = {place: cursor for place, (cursor, _) in device.stands().items()}
    for place, cursor in stands.items():
        excused = watch.replaced & {place[0], "*"}
        if cursor < watch.stands.get(place, 0) and not excused:
            raise Broken(f"{name}: {place[0]} went back from {watch.stands[place]} to {cursor}")
    watch.stands = stands
    watch.replaced.clear()


def check_frame(world: World, behind: bool, message: m.Message) -> None:
    """Law 2 at the server: decisions go first, and no row leaves that a recorded denial outdates."""
    if behind and not isinstance(message, m.Lane):
        raise Broken(world.story(f"the server sends a {type(message).__name__} before decisions it knows of"))
    if not isinstance(message, m.Delta | m.Patch | m.Fetched):
        return
    for row in message.rows:
        if row.deleted or not row.values:
            continue
        mark = _values(row.values)["mark"]
        published = world.oracle.published.get(mark) if isinstance(mark, int) else None
        if published is None or (published.view, published.entity) != (row.view, row.entity):
            raise Broken(f"the server sends mark {mark} in {row.view}, where it was never published")
        if published.pair is not None and published.grant <= world.oracle.holding[published.pair].denial:
            raise Broken(f"the server sends mark {mark} of {published.pair}, denied since")


def check_server(world: World) -> None:
    """The ledger as the oracle reads it; rows and keys of what was denied are gone."""
    store = world.server.store
    with store.read() as tx:
        fence = tx.ledger.fence()
        for (subject, purpose), holding in world.oracle.holding.items():
            pseudonym = world.pseudonym(subject)
            state = tx.decision_state(pseudonym, purpose)
            forgotten = 0 if holding.denial <= fence else holding.denial
            if state.grant != holding.grant or state.denial not in (holding.denial, forgotten):
                raise Broken(f"{subject} {purpose}: expected {holding}, the server has {state}")
            if (state.state == "restricted") != bool(holding.restricted):
                raise Broken(f"{subject} {purpose}: expected {holding}, the server has {state}")
            left = tx.execute(
                "SELECT count(*) FROM rows WHERE subject = ? AND purpose = ? AND grant_seq < ?",
                (pseudonym, purpose, holding.denial),
            ).fetchone()[0]
            if left:
                raise Broken(f"the server keeps {left} rows of {subject} {purpose} from before its denial")
            for grant in world.oracle.grants[subject, purpose]:
                if grant < holding.denial and tx._keys.find(pseudonym, purpose, grant) is not None:
                    raise Broken(f"the server keeps the key of {subject} {purpose} from before its denial")


def note_enforced(world: World) -> None:
    """What the server says of its targets becomes a promise about the devices."""
    now_us = world.server.clock.now_us()
    lapsed = "" if world.server_jumped else f" OR t.lease_bound_us <= {now_us}"
    with world.server.store.read() as tx:
        found = tx.execute(
            "SELECT t.device_id, d.subject, d.purpose, max(d.seq),"
            " coalesce(max(d.seq) FILTER (WHERE t.erased_us IS NOT NULL), 0) FROM targets t"
            " JOIN denials d ON d.revocation = t.revocation"
            f" WHERE t.acked_us IS NOT NULL OR t.erased_us IS NOT NULL{lapsed} GROUP BY 1, 2, 3"
        ).fetchall()
    for device_id, pseudonym, purpose, seq, erased in found:
        name, subject = world.name_of(device_id), world.subject_of(pseudonym)
        if name is not None and subject is not None:
            known, pair = world.known[name], (subject, purpose)
            known.enforced[pair] = max(known.enforced.get(pair, 0), seq)
            known.erased[pair] = max(known.erased.get(pair, 0), erased)


# ---- once nothing fails any more -----------------------------------------------------------------------


def faults_at_rest(world: World) -> Iterator[str]:
    """Why the town has not converged; nothing when it has."""
    head = world.server.lane_head()
    for name, cable in world.cables.items():
        device = world.devices[name]
        if device.replica.lane_position() != head:
            yield f"{name}: lane at {device.replica.lane_position()}, the head is {head}"
        if cable.dialogue is None or not cable.dialogue.caught_up:
            yield f"{name}: not caught up"
        else:
            yield from _unequal(world, name, device, cable)
        if not device.link._sessions._outbox.empty:
            yield f"{name}: its outbox is not empty"
        repaired = sorted(device.link.memory.repairs_us.keys() - world.known[name].damaged)
        if repaired:
            yield f"{name}: repaired {repaired} though nothing was ever damaged"
        if device.link.memory.diverged:
            yield f"{name}: diverged in {sorted(device.link.memory.diverged)}"
        known = world.known[name]
        said = (*known.denied_here.values(), *known.restricted_here.values())
        if any(id_ not in world.oracle.recorded for ids in said for id_ in ids):
            yield f"{name}: a denial or restriction that was taken there is not in the ledger"
    yield from _incomplete(world)


def _unequal(world: World, name: str, device: SimDevice, cable: Cable) -> Iterator[str]:
    assert cable.dialogue is not None
    followed = set(cable.dialogue.following)
    for channel in ("all", *device.segments):
        if channel not in followed:
            yield f"{name}: does not follow {channel}"
    followed = {c for c in followed if (name, cable.sessions, c) not in world.let_go}
    for (channel, _), stand in device.stands().items():
        if channel in followed and stand != world.server.head(channel):
            yield f"{name}: {channel} stands at {stand}, the server at {world.server.head(channel)}"
    yield from _stale_reads(world, name, device, followed)
    for channel in sorted(followed):
        kept = device.personal_rows(channel) if channel.startswith("~") else device.shared_rows(channel)
        yield from _other_rows(world, name, device, channel, kept)


def _stale_reads(world: World, name: str, device: SimDevice, followed: set[str]) -> Iterator[str]:
    """What an app reads is what the server has now."""
    for look in device.looked():
        with world.server.store.read() as tx:
            row = tx.row_state(look.entity, look.view, 1)
            whole = tx.channel_head(_channel(world, look.pair)).whole
        mark = None if row is None or row.deleted else _values(row.values)["mark"]
        channel = _channel(world, look.pair)
        if look.pair is not None and channel not in followed:
            continue
        if look.mark is not None and mark != look.mark:
            yield f"{name}: reads mark {look.mark} of {look.view} {look.entity}, the server has {mark}"
        if mark is not None and look.status is er.Status.NOT_FOUND:
            yield f"{name}: {look.view} {look.entity} is not found, the server has mark {mark}"
        if mark is None and look.status is er.Status.NOT_SYNCED and whole:
            yield f"{name}: {look.view} {look.entity} is not synced, and the server has no such row"


def _other_rows(
    world: World, name: str, device: SimDevice, channel: str, kept: dict[tuple[str, str], bytes] | None
) -> Iterator[str]:
    with world.server.store.read() as tx:
        rows = [row for row in tx.channel_rows(channel, 0, 10_000) if not row.deleted]
    known = {view.name for view in shops.CATALOGS[device.version].views.values()}
    wanted = {(row.entity, row.view): row.values for row in rows if row.view in known}
    have = {place: values for place, values in (kept or {}).items() if values}
    for place in wanted.keys() | have.keys():
        if have.get(place) not in (wanted.get(place), LET_GO):
            yield f"{name}: {channel} {place} is {have.get(place)!r}, the server has {wanted.get(place)!r}"


def _incomplete(world: World) -> Iterator[str]:
    with world.server.store.read() as tx:
        for row in tx.revocations(1_000_000):
            found = world.server.office.progress(tx, row)
            owing = {t.device_id for t in tx.targets(row.id) if t.erased_us is None}
            ended = not row.subject and found.state == "partially_completed"  # nobody can answer any more
            if found.state != "completed" and not ended and not (owing and owing <= world.lost):
                denials = [(d.seq, world.subject_of(d.subject), d.purpose) for d in tx.denials(row.id)]
                yield f"revocation of {denials}: {found.state}, {owing} owe a receipt"
