"""The kinds of events, by the URIs under which they travel. Pure.

CAEP and RISC (OpenID, final 2025) speak of sessions, credentials, accounts and devices; none of their events
says that a consent to a purpose was given or ended, so these types are our own. Verification is SSF's.
"""

from __future__ import annotations

from typing import Final

DECISION: Final = "decision-recorded"
ACCEPTED: Final = "revocation-accepted"
ENFORCED: Final = "revocation-enforced"
ERASED: Final = "revocation-erased"
COMPLETED: Final = "revocation-completed"
AMENDED: Final = "revocation-amended"
OVERDUE: Final = "revocation-overdue"
VERIFICATION: Final = "verification"

KINDS: Final = {
    DECISION: "a decision stands in the ledger: its purpose, state and outcome",
    ACCEPTED: "permission ended: nothing may be used from this moment on",
    ENFORCED: "no device can use the data any more: each acknowledged, or its lease ran out",
    ERASED: "every device answered with a receipt, and the server's own keys are gone",
    COMPLETED: "and every onward recipient has acknowledged",
    AMENDED: "a late holder turned up after completion, erased, and the completion was made anew",
    OVERDUE: "the due time passed and somebody still owes an answer: partially completed",
}
"""What a destination may ask for, and what each says."""

_OURS: Final = "urn:edge-sync:event:"
VERIFICATION_URI: Final = "https://schemas.openid.net/secevent/ssf/event-type/verification"


def uri_of(kind: str) -> str:
    """The event type URI of a kind.

    >>> uri_of("revocation-accepted")
    'urn:edge-sync:event:revocation-accepted'
    """
    return VERIFICATION_URI if kind == VERIFICATION else _OURS + kind


def kind_of(uri: str) -> str | None:
    """The kind that a URI names, or None for one that this server does not send."""
    name = uri.removeprefix(_OURS)
    return name if name in KINDS and uri == _OURS + name else None
