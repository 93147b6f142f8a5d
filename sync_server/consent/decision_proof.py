"""What a consent receipt proves to somebody who has only it and a fingerprint, said for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge_runtime.wire.seal import subject_token
from edge_runtime.wire.time_text import time_text
from sync_server.consent.consent_receipt import KIND, VerifiedReceipt, verify_receipt
from sync_server.consent.root import Led

NOT_PROVEN: Final = (
    "who the person behind the pseudonym is",
    "what the person saw: the text is named by its hash, compare it with the text",
    "that the decision still stands: a later one may have ended it",
)


@dataclass(frozen=True, slots=True)
class DecisionProof:
    """A consent receipt that holds."""

    led: Led
    proven: VerifiedReceipt
    statement: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        found = self.proven
        return {
            "holds": True,
            "kind": KIND,
            "id": found.record,
            "subject": subject_token(found.subject),
            "purpose": found.purpose,
            "state": found.state,
            "at": found.at_us,
            "seq": found.seq,
            "key": {"pinned": self.led.root_place, "signed": self.led.place},
            "not_proven": list(NOT_PROVEN),
        }

    def text(self) -> str:
        """As a person reads it."""
        found, notice = self.proven, self.statement["processing"]["privacy_notice"]
        shown = f"notice {notice['version']}, sha256 {notice['content_hash'] or 'not declared'}"
        return "\n".join(
            [
                f"It holds: consent receipt  {found.record}",
                f"  signed with      key {self.led.place} of the server; key {self.led.root_place} is pinned",
                f"  about            {subject_token(found.subject)}",
                f"  said             {found.state} for {found.purpose}, {time_text(found.at_us)}",
                f"  was shown        {shown}",
                f"  in the ledger    step {found.seq}, proven under the signed head of {found.size} steps",
                "Not proven:",
                *(f"  - {limit}" for limit in NOT_PROVEN),
            ]
        )


def decision_proof(document: Mapping[str, Any], led: Led) -> DecisionProof:
    """What a consent receipt proves under the key that the root led to; raises `DocumentFailure`."""
    return DecisionProof(led, verify_receipt(document, led.public_key), document["statement"])
