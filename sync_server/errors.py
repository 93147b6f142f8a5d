"""Every error a server raises on purpose, and the one table that turns each into a reply.

::

    ServerError
    ├── Problem           the caller: carries a code of PROBLEMS
    ├── StoreError        this server's disk
    │   ├── StoreInUse    another process serves this data directory
    │   ├── StoreTooNew   written by a newer release; untouched
    │   ├── StoreForeign  not a store of ours, damaged, or without its keys; untouched
    │   ├── JournalAhead  a journal knows more than the store; untouched
    │   └── NotRestored   a backup that cannot be made or restored from so; nothing is left behind
    ├── MissingExtra      this installation: an optional package is not there
    ├── ChainBroken       the audit log is not as it was written
    └── KeysMissing       a store without its key file; nothing was created

Across HTTP an error is an RFC 9457 problem document made from PROBLEMS. Text holds no personal value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from edge_runtime.wire.refusal import CODES


class Reply(NamedTuple):
    """How one code is answered over HTTP."""

    status: int
    title: str


PROBLEMS: Final[Mapping[str, Reply]] = {
    "malformed_request": Reply(400, "that is no HTTP request, or its head is over the limit"),
    "malformed_json": Reply(400, "the body is not strict JSON"),
    "malformed_msgpack": Reply(400, "the body is not MessagePack"),
    "malformed_query": Reply(400, "a query parameter is missing or wrong"),
    "idempotency_key_missing": Reply(400, "this request needs an Idempotency-Key"),
    "unauthorized": Reply(401, "a valid bearer token is needed"),
    "missing_scope": Reply(403, "the token is not for this"),
    "other_team": Reply(403, "the token is for the views of other teams"),
    "other_destination": Reply(403, "the token is for the receiver of other events"),
    "beyond_own": Reply(403, "a token may give no more than it has"),
    "rate_limited": Reply(429, "too many requests"),
    "token_ended": Reply(409, "the API token was revoked or has expired"),
    "too_many_tokens": Reply(409, "there are as many API tokens as there may be"),
    "not_acceptable": Reply(406, "this server does not write what Accept names"),
    "not_found": Reply(404, "there is no such resource"),
    "method_not_allowed": Reply(405, "this path does not take that method"),
    "consent_live": Reply(409, "a consent of the subject is in force"),
    "evidence_erased": Reply(410, "the evidence of this decision was erased; its leaf stays in the ledger"),
    "destination_in_use": Reply(409, "an onward recipient is told by this webhook or stream"),
    "recipient_exists": Reply(409, "a recipient of this name is registered"),
    "already_answered": Reply(409, "the recipient has given another answer before"),
    "not_completed": Reply(409, "the revocation is not completed yet"),
    "catalog_conflict": Reply(409, "this catalog version is registered with other content"),
    "notice_conflict": Reply(409, "this notice version is registered with another text or other purposes"),
    "registry_rollback": Reply(409, "an older privacy part would protect less than the one in force"),
    "registry_unsigned": Reply(422, "the privacy part is not signed by the pinned registry key"),
    "request_in_flight": Reply(409, "a request with this Idempotency-Key is still running"),
    "token_used": Reply(409, "the enrolment token was used before"),
    "key_enrolled": Reply(409, "this key belongs to an enrolled device"),
    "token_expired": Reply(410, "the enrolment token has expired"),
    "token_unknown": Reply(404, "the enrolment token was never issued or has been forgotten"),
    "poll_replaced": Reply(409, "the same poll was asked again meanwhile and is answered there"),
    "poll_out_of_order": Reply(409, "neither the newest poll of this session nor the next, or another body"),
    "session_closed": Reply(410, "the session has ended or never was: open another"),
    "malformed_frames": Reply(400, "the body is not frames with their lengths"),
    "too_slow": Reply(408, "the body did not come in time"),
    "upgrade_required": Reply(426, "a WebSocket session opens with an upgrade; without one, poll"),
    "too_large": Reply(413, "the body is over the size limit"),
    "unsupported_media": Reply(415, "expected application/json or application/msgpack"),
    "invalid_request": Reply(422, "a field is missing, unknown or of the wrong type"),
    "invalid_id": Reply(422, "an id is empty, too long or not Unicode"),
    "invalid_catalog": Reply(422, "the catalog has faults"),
    "invalid_notice": Reply(422, "the notice version is missing or not declared"),
    "idempotency_reuse": Reply(422, "this Idempotency-Key was used with another body"),
    "unknown_view": Reply(422, "the active catalog has no such server view"),
    "unknown_purpose": Reply(422, "the active catalog has no such purpose"),
    "unreachable_url": Reply(422, "events are not sent to this url"),
    "unknown_delivery": Reply(
        422, "no recipient, webhook or stream of this name or id, or it does not carry the purposes"
    ),
    "too_many_destinations": Reply(422, "as many streams, webhooks or recipients as there may be"),
    "invalid_segment": Reply(422, "that does not name a segment"),
    "segment_in_flight": Reply(409, "another change of this segment is still running"),
    "unknown_metric": Reply(404, "the active catalog has no such metric"),
    "bad_signature": Reply(403, "the proof of possession does not verify"),
    "unknown_device": Reply(404, "no such device is enrolled"),
    "device_revoked": Reply(403, "the device was revoked"),
    "no_catalog": Reply(503, "no catalog is active"),
    "overloaded": Reply(503, "too many sessions"),
    "catching_up": Reply(503, "this server was restored and still hears what was denied since its backup"),
    "journal": Reply(503, "no journal takes writes, so nothing can be given; denials are accepted"),
    "not_restored": Reply(409, "this server was not restored, or is open already"),
    "stopping": Reply(503, "this node is about to stop"),
    "storage": Reply(503, "the store does not take writes"),
    "internal": Reply(500, "a fault of the server, logged there"),
}
"""Every problem code: status and title. What is not here is not said."""

ROW_CODES: Final[Mapping[str, str]] = {
    "unknown_field": "a field that a row does not have",
    "missing_field": "a field that a row must have",
    "invalid_id": "the entity's id is empty, too long, not Unicode, or of another type",
    "invalid_time": "the event time is not a time, or too far ahead",
    "unknown_feature": "the view has no such feature",
    "wrong_type": "the value is not of the feature's dtype",
    "not_finite": "NaN or infinity",
    "out_of_range": "the value is outside the declared range",
    "not_allowed": "the value is not one of the declared values",
    "too_large": "the row does not fit a frame",
    "older": "a row with a newer event time is already there",
    "personal": "a subject belongs to no segment: everyone who follows one sees its members",
    "invalid_segment": "a segment is named by 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit",
    "segment_full": "the segment has as many members as it may",
    "too_many_segments": "the entity would belong to too many segments, or there are too many",
    "no_permission": CODES["no_permission"].text,
    "stale_grant": CODES["stale_grant"].text,
}
"""Why one row of a publish was refused; the other rows stand."""


class ServerError(Exception):
    """Base of every error that the server raises on purpose."""


class Problem(ServerError):
    """A request that is refused; `code` is one of PROBLEMS. Nothing was changed."""

    def __init__(self, code: str, detail: str = "", **extra: object) -> None:
        assert code in PROBLEMS, code
        self.code, self.detail, self.extra = code, detail, extra
        super().__init__(f"{code}: {detail}" if detail else code)

    @property
    def reply(self) -> Reply:
        """Status and title."""
        return PROBLEMS[self.code]

    def document(self) -> dict[str, object]:
        """The RFC 9457 problem document."""
        return {
            "type": f"urn:edge-sync:problem:{self.code}",
            "title": self.reply.title,
            "status": self.reply.status,
            "code": self.code,
            **({"detail": self.detail} if self.detail else {}),
            **self.extra,
        }


class StoreError(ServerError):
    """This server's disk or files; the message says what is left untouched."""


class StoreInUse(StoreError):
    """Another process serves this data directory."""


class StoreTooNew(StoreError):
    """The store was written by a newer release and was not touched."""


class StoreForeign(StoreError):
    """The file is not a store of ours, damaged, or has lost its keys; it was not touched."""


class ChainBroken(ServerError):
    """The audit log is not as it was written; the message names the first fault."""


class JournalAhead(StoreError):
    """A journal knows ledger steps that the store has not: an older copy of it was put back by hand."""


class NotRestored(StoreError):
    """A backup cannot be made, or cannot be restored from, in the way that was asked for."""


class KeysMissing(ServerError):
    """A store without its key file; nothing was created."""


class MissingExtra(ServerError, ImportError):
    """An optional package is not installed; the message names what to install."""

    def __init__(self, package: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"expected {package}: pip install 'edge-runtime[{extra}]'; nothing changed")
