"""What to do about each problem; for the docs page. Every code of `errors.PROBLEMS` stands here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_BODY: Final = "Mend the body where `detail` says; nothing was changed."
_AGAIN: Final = "Try again after `Retry-After` seconds, with the same `Idempotency-Key`."

REMEDIES: Final[Mapping[str, str]] = {
    "malformed_request": "Send HTTP/1.1 with a shorter request line; long ids belong into bodies.",
    "malformed_json": _BODY,
    "malformed_msgpack": _BODY,
    "malformed_query": "Use the query parameters of this page, each once, with the type that it has here.",
    "idempotency_key_missing": "Send an `Idempotency-Key` of your choice, and the same with each repeat.",
    "unauthorized": "Send `Authorization: Bearer` and a token that has not ended.",
    "missing_scope": "Ask an operator for a token with the scope that the route names.",
    "other_team": "Use a token of the team that owns the view.",
    "beyond_own": "Ask for scopes and teams that the asking token has itself.",
    "rate_limited": "Wait for `Retry-After` seconds.",
    "token_ended": "Make a new token.",
    "too_many_tokens": "Revoke tokens that nobody uses.",
    "not_found": "Check the path and the ids in it.",
    "method_not_allowed": "Use a method that `Allow` names.",
    "not_completed": "Look again later; `state` says how far it has come.",
    "catalog_conflict": "Give changed catalogs a new version; a registered one stays as it is.",
    "notice_conflict": "Give a changed notice a new version; decisions point to the old one.",
    "registry_rollback": "Register a privacy part with a higher version than the one in force.",
    "registry_unsigned": "Sign the privacy part with the key that was pinned.",
    "request_in_flight": _AGAIN,
    "token_used": "Ask for a new enrolment token: each enrols one device, once.",
    "key_enrolled": "Make a new key on the device; a key enrols once.",
    "token_expired": "Ask for a new enrolment token.",
    "token_unknown": "Ask for a new enrolment token.",
    "poll_replaced": "Nothing: the newer request of the same poll was answered.",
    "poll_out_of_order": "Send the newest poll again or the next one, with the body that it had.",
    "session_closed": "Open a session with poll 0.",
    "malformed_frames": "Put each frame's length before it: 4 bytes, big-endian.",
    "too_slow": "Send the whole body at once.",
    "upgrade_required": "Open a WebSocket, or use `POST /v1/sync`.",
    "too_large": "Send less at once; `detail` says how much is taken.",
    "unsupported_media": "Send a `Content-Type` that the route names, and no `Content-Encoding`.",
    "invalid_request": _BODY,
    "invalid_id": "Send an id of the type that the catalog declares, within the length that `detail` names.",
    "invalid_catalog": "Mend every one of `faults`.",
    "invalid_notice": "Name a notice version that the catalog declares for this purpose.",
    "idempotency_reuse": "Use a new key for a new request; the same key only to repeat the same body.",
    "unknown_view": "Name a view of the active catalog whose source is the server.",
    "unknown_purpose": "Name a purpose of the active catalog.",
    "invalid_segment": "Use 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or digit.",
    "segment_in_flight": "Try again when the other change is done.",
    "unknown_metric": "Name a metric of the active catalog.",
    "bad_signature": "Sign the token and the public key with the device's own key.",
    "unknown_device": "Check the device's id.",
    "device_revoked": "Enrol the device anew, with a new key.",
    "no_permission": "Nothing: the subject has not permitted it.",
    "no_catalog": "Register a catalog with `PUT /v1/catalogs/{name}/{version}`.",
    "overloaded": "Come back after `Retry-After` seconds.",
    "stopping": "Come back after `Retry-After` seconds, or ask another node.",
    "storage": "Free space on the server's disk, or look at its log; then try again.",
    "journal": "Make the place of the denial journal writable, or wait until it is; then try again.",
    "catching_up": "Wait: a restored server opens to subjects when it has heard every denial it had lost.",
    "not_restored": "Nothing: this server was never restored from a backup.",
    "consent_live": "Withdraw the consent first; evidence of what still holds stays.",
    "evidence_erased": "Nothing: the salts were destroyed, and the leaf can no longer be opened.",
    "internal": "Tell whoever runs the server; the log there says where it happened.",
}
"""Code -> what a caller does about it."""
