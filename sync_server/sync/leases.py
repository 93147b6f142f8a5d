"""Leases: a device that acknowledged every denial may go on without contact for so long."""

from __future__ import annotations

from typing import NamedTuple

from edge_runtime.wire import messages as m
from edge_runtime.wire.printing import prints_only
from sync_server.catalog.purpose_leases import limits
from sync_server.restore.catching_up import RETRY_US
from sync_server.store.records import GrantedLease
from sync_server.sync.node import Node


@prints_only("revoked")
class Renewal(NamedTuple):
    """The answer to a request, and whether the device turned out to be revoked."""

    answer: m.Lease | m.Refusal
    revoked: bool


def renew(node: Node, device_id: str, request: m.LeaseRequest) -> Renewal:
    """A lease, stored durably before it is signed; refused as `lane_behind` to who has denials to hear,
    and as `not_now` while a restored server does not know what it would lease."""
    settings = node.settings
    if node.catching_up.closed:
        refusal = m.Refusal(code="not_now", about=request.id.hex(), retry_after_us=RETRY_US)
        return Renewal(refusal, revoked=False)
    now_us, shorter = node.clock.now_us(), limits(node.leases(), settings.lease_us)
    until_us = settings.lease_bound_us(now_us, settings.lease_us)
    stored = GrantedLease(now_us, until_us, shorter, request.cold_start)
    node.acks.write()  # what this device acknowledged in the same turn counts
    with node.store.write("lease") as tx:
        granted = tx.grant_lease(device_id, request.upto, stored)
        device = tx.device(device_id)
        head, proof = node.ledger.goes_on(tx, request.ledger)
    revoked = device is not None and device.revoked
    if not granted:
        node.lane.refresh()
        return Renewal(m.Refusal(code="lane_behind", about=request.id.hex()), revoked)
    lease = m.Lease(
        id=request.id,
        duration_us=settings.lease_us,
        upto=request.upto,
        ledger=head,
        consistency=proof,
        limits=shorter,
        signature=bytes(64),
    )
    return Renewal(node.signing.lease(device_id, lease), revoked)
