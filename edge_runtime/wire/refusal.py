"""The closed list of reasons that one side may give the other for saying no.

Across the wire an error is only one of these codes; text beside it is for people and is never parsed.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Meaning(NamedTuple):
    """What a refusal code promises: who must change something, and whether to come back."""

    fault: str
    """`device`, `server` or `caller`."""
    retry: bool
    text: str


CODES: dict[str, Meaning] = {
    "too_large": Meaning("device", False, "the frame is over the size limit and was not parsed"),
    "malformed": Meaning("device", False, "the bytes are not a message of this protocol"),
    "unsupported_version": Meaning("device", False, "the protocol version is not spoken here"),
    "out_of_turn": Meaning("device", False, "this message is not legal in this state of the conversation"),
    "bad_signature": Meaning("device", False, "a signature does not verify"),
    "bad_nonce": Meaning("device", False, "the signed nonce is not the one that was sent"),
    "unknown_device": Meaning("device", False, "no such device is enrolled"),
    "device_revoked": Meaning("device", False, "the device was revoked: wipe and enrol anew"),
    "token_unknown": Meaning("caller", False, "the enrolment token was never issued or has been forgotten"),
    "token_used": Meaning("caller", False, "the enrolment token was used before"),
    "token_expired": Meaning("caller", False, "the enrolment token has expired"),
    "channel_forbidden": Meaning("device", False, "this device may not follow this channel"),
    "ticket_invalid": Meaning("caller", False, "the ticket does not verify or names something else"),
    "ticket_expired": Meaning("caller", True, "the ticket has expired: ask the backend for a new one"),
    "no_permission": Meaning("caller", False, "no live permission for this subject and purpose"),
    "stale_grant": Meaning("caller", True, "the row was read before the subject's live grant"),
    "not_on_demand": Meaning("caller", False, "rows of this view are pushed, or never leave the server"),
    "lane_behind": Meaning("device", True, "drain the decision lane first"),
    "rolled_back": Meaning("device", False, "the device reports an older state than the server has seen"),
    "older_incarnation": Meaning(
        "server", False, "this device has met a server that was restored later: this one is over"
    ),
    "not_now": Meaning(
        "server", True, "restored and still catching up, or its journal takes no writes: come back later"
    ),
    "ledger_forked": Meaning("server", True, "the ledger is not the one whose head is kept here"),
    "ledger_shorter": Meaning("server", True, "the ledger has fewer leaves than it had"),
    "digest_mismatch": Meaning("device", True, "the channel's digest differs from the signed checkpoint"),
    "stale_delta": Meaning("server", True, "the delta does not start at this device's cursor"),
    "round_closed": Meaning("device", False, "the aggregate round takes no more reports"),
    "unsealed": Meaning("device", False, "the report was not sealed to this collector for this round"),
    "metric_changed": Meaning("device", False, "the report answers another definition of the metric"),
    "unsupported_answer": Meaning("device", False, "no honest device can send this answer to this round"),
    "repeated": Meaning("device", False, "the ticket was used: a subject reports once in a round"),
    "too_many": Meaning("device", False, "more reports than this device has tickets in the round"),
    "overloaded": Meaning("server", True, "too many sessions: come back after retry_after"),
    "going_away": Meaning("server", True, "this node is shutting down: reconnect"),
    "internal": Meaning("server", True, "a fault of the server, logged there"),
}
"""Every refusal code. A code that is not here is not said, and not believed."""

TIMED: Final = frozenset({"ticket_expired"})
"""Refusals for time: they carry the server's clock, signed (`seal.refusal_bytes`)."""


def id_of(about: str) -> bytes | None:
    """The id of 16 bytes that a refusal is about; None when it is about something else.

    >>> id_of("ff" * 16) == b"\xff" * 16, id_of("all")
    (True, None)
    """
    is_id = len(about) == 32 and not set(about) - set("0123456789abcdef")
    return bytes.fromhex(about) if is_id else None
