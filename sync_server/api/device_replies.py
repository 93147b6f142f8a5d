"""What the doors of `/v1/devices` answer. Times in microseconds by the server's clock; null: not yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from edge_runtime.wire.printing import prints_only
from sync_server.devices.enrolment import encode
from sync_server.devices.findings import Finding
from sync_server.store.records import ChannelHead, DeviceRow
from sync_server.sync.presence import Standing


@prints_only("expires_at")
class MadeToken(msgspec.Struct):
    """An enrolment token, told this once."""

    token: str
    expires_at: int


@prints_only()
class TenantKeys(msgspec.Struct):
    """Secrets that every device of this server shares; base64url."""

    pseudonym_key: str
    """Makes names of subjects into pseudonyms."""
    digest_key: str
    """Of checkpoints."""


@prints_only("device_id", "channels")
class Enrolled(msgspec.Struct):
    """What a newly enrolled device is told."""

    device_id: str
    tenant: TenantKeys
    server_key: str
    """The server's Ed25519 public key, base64url: pin it."""
    channels: list[str]
    """Patterns of the shared channels that it may follow."""
    registry_key: str | None
    """The Ed25519 public key that signs privacy parts, base64url: pin it; null when this server pins none."""
    root_fingerprint: str
    """Of the server's first signing key: what verifies every receipt, `edge-sync consent verify --root`."""


class Device(msgspec.Struct):
    """One enrolled device. Null: not yet, or never."""

    device_id: str
    public_key: str
    """Ed25519, base64url."""
    channels: list[str]
    """Patterns of the shared channels that it may follow."""
    enrolled_at: int
    contact_at: int | None
    lane: int
    """Newest lane position that it acknowledged."""
    lease_until: int | None
    """From then on it is taken for locked; by the server's clock, drift and margin included."""
    revoked: bool
    wiped_at: int | None
    """When it said, revoked, that it had erased everything."""
    shut_out: str | None
    """Why it was shut out, `revoked` if nothing was said; null: it was not."""
    cold_start: Literal["server", "lease"]
    """`lease`: it trusts its wall clock over restarts, as of its newest lease."""


class DeviceCounts(msgspec.Struct):
    """Devices by state."""

    enrolled: int
    live: int
    """Those whose lease runs."""
    revoked: int


class DeviceList(msgspec.Struct):
    """One page of devices, by id."""

    counts: DeviceCounts
    devices: list[Device]
    after: str | None
    """What to name as `after` for the next page; null: this was the last."""


class FollowedChannel(msgspec.Struct):
    """A shared channel that a session follows."""

    cursor: int
    """As far as rows were sent."""
    head: int
    behind: int
    compared_at: int | None
    """Seq of the newest checkpoint sent."""
    mismatches: int
    """How often the device said that its digest differs."""
    snapshot: str | None
    """`streaming` or `waiting` while one is under way."""


class Session(msgspec.Struct):
    """A device's session, or its last one. A personal channel is counted, not named."""

    live: bool
    state: str
    """Of the conversation."""
    admission: str
    """`guest` gets no rows."""
    transport: str
    since: int
    until: int | None
    lane_sent: int
    lane_acknowledged: int | None
    channels: dict[str, FollowedChannel]
    personal_channels: int
    refused: dict[str, str]
    """Channel -> the code with which it was refused."""


class DeviceReport(Device, kw_only=True):
    """One device, its session, and what is wrong with it."""

    lane_head: int
    session: Session | None
    """Null: none is known on this node."""
    findings: list[Finding]


@prints_only("expires_at")
class MadeTicket(msgspec.Struct):
    """A ticket, and when it expires."""

    ticket: str
    """Base64url."""
    expires_at: int


def session_told(standing: Standing, heads: Mapping[str, ChannelHead]) -> Session:
    """A session as this node knows it. A personal channel is counted, not named: it stands for a person."""
    return Session(
        live=standing.until_us is None,
        state=standing.state,
        admission=standing.stage,
        transport=standing.transport,
        since=standing.since_us,
        until=standing.until_us,
        lane_sent=standing.lane_sent,
        lane_acknowledged=standing.lane_acked,
        channels={channel: _followed(standing, channel, head.seq) for channel, head in heads.items()},
        personal_channels=len(standing.cursors) - len(heads),
        refused={c: code for c, code in standing.refused.items() if not c.startswith("~")},
    )


def _followed(standing: Standing, channel: str, head: int) -> FollowedChannel:
    cursor = standing.cursors[channel]
    return FollowedChannel(
        cursor,
        head,
        behind=max(0, head - cursor),
        compared_at=standing.compared.get(channel),
        mismatches=standing.mismatched.get(channel, 0),
        snapshot=standing.snapshots.get(channel),
    )


def device_told(row: DeviceRow) -> Device:
    """A device as the list shows it."""
    return Device(
        device_id=row.device_id,
        public_key=encode(row.public_key),
        channels=list(row.patterns),
        enrolled_at=row.enrolled_us,
        contact_at=row.contact_us,
        lane=row.lane_acked,
        lease_until=row.lease_until_us or None,
        revoked=row.revoked,
        wiped_at=row.wiped_us,
        shut_out=(row.revoked_why or "revoked") if row.revoked else None,
        cold_start=row.cold_start,
    )
