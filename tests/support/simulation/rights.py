"""What subjects, operators and onward recipients do besides giving and withdrawing, one function each.

As the methods of `World` named `do_...`: its numbers are chosen by whoever drives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_server.consent.forgetting import forget_subject
from sync_server.errors import Problem
from tests.support.simulation import shops

if TYPE_CHECKING:
    from tests.support.simulation.world import World


def do_restrict(world: World, n: int, who: int, purpose: int) -> None:
    """Art. 18 on a device: what is held stays, and nobody uses it."""
    name, subject = world.device(n), shops.SUBJECTS[who % 3]
    pair = (subject, (*shops.PURPOSES, shops.CARE)[purpose % 3])
    heard = world.knowledge(name, pair)
    world.note("restrict", name, *pair)
    for id_ in world.devices[name].rt.consent.restrict(subject, [pair[1]]).decisions:
        world.oracle.knew.setdefault(id_, heard)
        world.known[name].restricted_here[pair].append(id_)
    world.touch(name)


def do_object(world: World, n: int, who: int) -> None:
    """Art. 21 on a device, against what rests on a legitimate interest."""
    name, pair = world.device(n), (shops.SUBJECTS[who % 3], shops.CARE)
    heard = world.knowledge(name, pair)
    world.note("object", name, *pair)
    for id_ in world.devices[name].rt.consent.object(pair[0], [pair[1]]).receipt.decisions:
        world.oracle.knew.setdefault(id_, heard)
        world.known[name].denied_here[pair].append(id_)
    world.known[name].events[pair] = 0
    world.touch(name)


def do_visit(world: World, n: int, who: int) -> None:
    """An event that is counted under a legitimate interest, unless somebody objected."""
    name, pair = world.device(n), (shops.SUBJECTS[who % 3], shops.CARE)
    said = world.devices[name].rt.track("visit", user=pair[0][5:])
    world.note("visit", name, pair[0], said)
    if said.name == "ACCEPTED":
        device, events = world.devices[name], world.known[name].events
        events[pair] = events.get(pair, 0) + 1
        device.newest_event_us[pair[0]] = max(device.newest_event_us.get(pair[0], 0), device.clock.now_us())
    world.touch(name)


def do_decide_care(world: World, who: int, state: str) -> None:
    """The API is told of an objection, or of a consent that ends it."""
    world.note("decide", shops.SUBJECTS[who % 3], shops.CARE, state)
    world.server.decide(shops.SUBJECTS[who % 3], shops.CARE, state)
    world.touch(server=True)


def do_lose(world: World, n: int) -> None:
    """`edge-sync devices lost`: nobody has the device any more, but who found it may read on."""
    name = world.device(n)
    world.note("lost", name)
    with world.server.store.write("revoke_device") as tx:
        tx.revoke_device(world.devices[name].device_id, world.server.clock.now_us(), "lost")
    world.replace_lost(name)
    world.touch(name, server=True)


def do_forget(world: World, who: int) -> None:
    """The evidence about a subject is made anonymous, where nothing is owed any more."""
    pseudonym = world.pseudonym(shops.SUBJECTS[who % 3])
    try:
        with world.server.store.write("forget") as tx:
            steps = forget_subject(tx, world.server.office, pseudonym).steps
    except Problem as problem:
        world.note("forget", who % 3, problem.code)
    else:
        world.note("forget", who % 3, steps)
        world.counts["steps forgotten"] += steps
    world.server.drop_fences()
    world.touch(server=True)


def do_part(world: World, who: int) -> None:
    """A subject goes for good: everything is revoked, the due time passes, and the evidence is erased."""
    world.do_revoke(who, controller=False)
    world.do_wait(90_000)
    world.rest()
    do_forget(world, who)
    world.check()


def do_acknowledge(world: World, most: int) -> None:
    """The onward recipient reads its stream and answers what it owes."""
    answered = world.server.acknowledge(most)
    world.note("acknowledge", len(answered))
    world.acknowledged.update(answered)
    world.touch(server=True)
