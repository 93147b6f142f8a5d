"""Who may follow which channel: by enrolment's patterns; a personal one by a ticket or a decision."""

from __future__ import annotations

from fnmatch import fnmatchcase

from edge_runtime.wire import seal
from edge_runtime.wire import ticket as words
from edge_runtime.wire.failure import WireFailure
from sync_server.store.protocol import Store
from sync_server.store.records import DeviceRow


def personal(channel: str) -> tuple[bytes, str] | None:
    """(pseudonym, purpose) of a personal channel; None for a shared one, or for a name that is none."""
    if not channel.startswith("~"):
        return None
    token, slash, purpose = channel.partition("/")
    if not slash or not purpose:
        raise WireFailure("malformed", "expected <token>/<purpose>")
    return seal.token_subject(token), purpose


def allowed(device: DeviceRow, channel: str) -> bool:
    """Whether the patterns of a device's enrolment name a shared channel."""
    return any(fnmatchcase(channel, pattern) for pattern in device.patterns)


def forbidden(device: DeviceRow, channel: str) -> bool:
    """Whether it is a shared channel that the device may not follow, nor go on holding."""
    return personal(channel) is None and not allowed(device, channel)


def admit(
    store: Store, server_key: bytes, device: DeviceRow, channel: str, ticket: bytes | None, now_us: int
) -> int:
    """Return the live grant under which `device` may follow `channel` (0 for a shared one).

    Raises `WireFailure`: `channel_forbidden` without a pattern, ticket or decision; `ticket_invalid` and
    `ticket_expired`; `no_permission` when the subject's consent does not stand.
    """
    pair = personal(channel)
    if pair is None:
        if not allowed(device, channel):
            raise WireFailure("channel_forbidden", "no pattern of this device's enrolment names the channel")
        return 0
    subject, purpose = pair
    with store.read() as tx:
        grant = tx.decision_state(subject, purpose).usable
        gave_here = tx.gave_here(device.device_id, subject, purpose)
    if grant == 0:
        raise WireFailure("no_permission", "the subject's consent does not stand")
    if not gave_here:
        _check_ticket(server_key, device, subject, purpose, ticket, now_us)
    return grant


def _check_ticket(
    server_key: bytes, device: DeviceRow, subject: bytes, purpose: str, ticket: bytes | None, now_us: int
) -> None:
    if ticket is None:
        raise WireFailure("channel_forbidden", "no ticket, and no decision taken on this device")
    words.check(server_key, ticket, device.device_id, subject, purpose, now_us)
