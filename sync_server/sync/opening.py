"""How a session opens: a challenge, a Hello that is judged in memory and then recognised, a Welcome."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from sync_server.store.records import DeviceRow
from sync_server.sync.admission import Claim, Visit
from sync_server.sync.follow import Follow
from sync_server.sync.node import Node


class Opened(NamedTuple):
    """The device that opened a session, and what it is welcomed with.

    None for a revoked device, which hears that alone; unless it trusts an earlier key: then it needs the
    Welcome to know whose word that is.
    """

    device: DeviceRow
    welcome: m.Welcome | None
    recall: m.Recall | None = None
    """What a restored server asks of it before anything else."""


def challenge(node: Node, spoken: tuple[int, ...]) -> m.Challenge:
    """A new challenge to whoever is there, who may answer in any of the versions `spoken`."""
    return m.Challenge(
        nonce=node.chance(32),
        incarnation=node.signing.incarnation,
        server_time_us=node.clock.now_us(),
        speaks=list(spoken),
    )


def take_hello(node: Node, visit: Visit, challenged: m.Challenge, hello: m.Hello) -> Opened:
    """Let in the device that answered `challenged`; its contact is noted.

    Raises `WireFailure`, and nothing was noted: `Turned` when there is no room now, `unknown_device`,
    `bad_signature`, `rolled_back` when the device heard decisions that this server has not.
    """
    now_us = node.clock.now_us()
    node.admission.judge(visit, _claim(node, hello), now_us, node.fraction())
    device = _recognise(node, challenged, hello)
    recall = None if device.revoked else node.catching_up.meet(device, hello.lane)
    _check_lane(node, hello)
    succession = node.signing.succession(hello.pinned)
    with node.store.write("contact", durable=False) as tx:
        tx.note_contact(device.device_id, now_us, hello.counter)
        if not device.revoked and _behind_fence(tx.ledger.fence(), device, hello):
            tx.revoke_device(device.device_id, now_us, "behind decisions whose evidence was erased")
            device = replace(device, revoked=True)
    if device.revoked and not succession:
        return Opened(device, None)
    welcome = m.Welcome(
        nonce=hello.nonce,
        lane_head=node.lane.head,
        counter=max(device.counter, hello.counter),
        ping_us=node.settings.ping_us,
        server_time_us=now_us,
        succession=succession,
        restores=node.signing.restores,
        signature=bytes(64),
    )
    return Opened(device, node.signing.welcome(device.device_id, challenged, welcome), recall)


def _behind_fence(fence: int, device: DeviceRow, hello: m.Hello) -> bool:
    """Whether the device may hold what a denial ended that the lane cannot tell it any more (law 2).

    It was there before that denial, and has not heard it, or is a copy of itself from before: it must begin
    anew.
    """
    return hello.lane < fence and device.enrolled_lane < fence


def _claim(node: Node, hello: m.Hello) -> Claim:
    """What the Hello asks for, as far as memory tells: the store is read only for who was let in."""
    snapshot = False
    for channel, cursor in hello.cursors.items():
        head = node.fanout.known(channel)
        stale = cursor == 0 if head is None else Follow(cursor).must_replace(head.floor, head.seq)
        snapshot |= stale and not channel.startswith("~") and (head is None or head.seq > 0)
    return Claim(snapshot=snapshot, behind=hello.lane < node.lane.head)


def _recognise(node: Node, challenged: m.Challenge, hello: m.Hello) -> DeviceRow:
    """The enrolled device that signed our nonce, and none else."""
    with node.store.read() as tx:
        device = tx.device(hello.device_id)
    if device is None:
        raise WireFailure("unknown_device", "no such device is enrolled")
    body = seal.hello_bytes(challenged.nonce, hello)
    seal.verify(device.public_key, seal.HELLO, body, hello.signature)
    return device


def _check_lane(node: Node, hello: m.Hello) -> None:
    node.lane.refresh()
    if hello.lane > node.lane.head:
        raise WireFailure("rolled_back", "the device is further in the lane than this server")
