"""What a receipt proves to somebody who has only it and a fingerprint, said for people. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge_runtime.wire.receipt import EVERYBODY, Receipt
from edge_runtime.wire.seal import subject_token
from edge_runtime.wire.time_text import time_text
from sync_server.consent import consent_receipt
from sync_server.consent.decision_proof import DecisionProof, decision_proof
from sync_server.consent.root import Led, RootFailure, led_by
from sync_server.consent.signed_document import DocumentFailure
from sync_server.consent.statement import StatementFailure, Verified, verify

_CANARY: Final = {True: "a sample sealed before no longer opens", None: "nothing had been sealed there"}
_ASSURANCE: Final = {
    "memory": "the key was in memory only",
    "file": "the key lay in a file: remnants of it on the disk are not excluded",
    "passphrase": "the key lay in a file under a passphrase: remnants of it are not excluded",
    "os_keychain": "the key lay in the system's keychain",
    "tpm": "the key was bound to the TPM",
}
_COLD_START: Final = {
    "server": "it opens after a restart only when the server has answered",
    "lease": "its lease outlives a restart and then also counts on the wall clock",
    "standalone": "it had no server and so no lease",
}
_STOPPED: Final = {
    "acknowledged": "it acknowledged the denial",
    "wiped": "it had erased everything",
    "lease_ended": "its lease had run out, which locked it by itself",
}
NOT_PROVEN: Final = (
    "that these devices were all that could hold something: the server names them",
    "what time it was: all times are by the server's and the devices' own clocks",
    "that nobody wrote the data down elsewhere, on paper or in another system",
)


class VerifyFailure(Exception):
    """The document proves nothing; the message names the first thing that does not hold."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A document that holds."""

    led: Led
    proven: Verified
    statement: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        found = self.proven
        return {
            "holds": True,
            "kind": found.kind,
            "id": found.id,
            "subject": None if found.subject is None else subject_token(found.subject),
            "anonymity": self.statement["anonymity"],
            "purposes": list(found.purposes),
            "denials": list(found.denials),
            "accepted_at": self.statement["accepted_at"],
            "key": {"pinned": self.led.root_place, "signed": self.led.place},
            "devices": [_device(r) for r in found.receipts],
            "overdue": list(found.overdue),
            "not_proven": list(NOT_PROVEN),
        }

    def text(self) -> str:
        """As a person reads it."""
        return "\n".join([*self._head(), *self._devices(), *self._limits()])

    def _head(self) -> Iterator[str]:
        said, found = self.statement, self.proven
        yield f"It holds: {found.kind.replace('_', ' ')}  {found.id}"
        yield f"  signed with      key {self.led.place} of the server, {self._root()}"
        about = "nobody any more" if found.subject is None else subject_token(found.subject)
        yield f"  about            {about} ({said['anonymity']})"
        yield f"  purposes         {', '.join(found.purposes)}"
        steps, size = ", ".join(map(str, found.denials)), said["head"]["size"]
        yield f"  in the ledger    denial at step {steps}, proven under the signed head of {size} steps"
        yield f"  in force since   {_time(said['accepted_at'])}"
        for name, label in (
            ("enforced_at", "enforced"),
            ("erased_at", "erased"),
            ("completed_at", "completed"),
        ):
            if name in said:
                yield f"  {label:<16} {_time(said[name])}"
        if "server" in said:
            rows, kept = said["server"]["rows_deleted"], said["server"]["assurance"]
            yield f"  the server       destroyed its keys, deleted {rows} rows; assurance: {kept}"

    def _root(self) -> str:
        if self.led.root_place == self.led.place:
            return "the one you pinned"
        return f"to which key {self.led.root_place}, the one you pinned, leads"

    def _devices(self) -> Iterator[str]:
        answers: dict[str, list[Receipt]] = {}
        for receipt in self.proven.receipts:
            answers.setdefault(receipt.device_id, []).append(receipt)
        said = {device["device_id"]: device for device in self.statement.get("devices", ())}
        if self.proven.subject is None and said:
            yield f"  devices          {len(said)} answered; their receipts went with the salts"
        elif said:
            yield f"  devices          {len(answers)} answered under their own signatures"
        for device_id, receipts in answers.items():
            yield f"    {device_id}  {'; '.join(map(_answer, receipts))}"
            yield f"      {_use_ended(said.get(device_id, {}))}"
        owing = {device["device_id"]: device for device in self.statement.get("overdue", ())}
        for device_id in self.proven.overdue:
            yield f"    {device_id}  OVERDUE: it owes a receipt"
            yield f"      {_use_ended(owing[device_id])}"
        for words, count in Counter(_strength(receipts[-1]) for receipts in answers.values()).items():
            yield f"  {count} of them: {words}"

    def _limits(self) -> Iterator[str]:
        yield "Not proven:"
        for limit in NOT_PROVEN:
            yield f"  - {limit}"


def verify_with_root(document: Any, root: bytes) -> Proof | DecisionProof:
    """What `document`, of a revocation or of one decision, proves to whoever pinned `root`, the SHA-256 of a
    key of the server.

    Raises `VerifyFailure`: with the first thing that does not hold.
    """
    try:
        document = document.get("receipt", document)
        led = led_by(root, document)
        if document["statement"]["kind"] == consent_receipt.KIND:
            return decision_proof(document, led)
        return Proof(led, verify(document, led.public_key), document["statement"])
    except (RootFailure, StatementFailure, DocumentFailure) as failure:
        raise VerifyFailure(str(failure)) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerifyFailure(f"expected a signed receipt ({type(error).__name__})") from None


def _answer(receipt: Receipt) -> str:
    what = "everything" if receipt.subject == EVERYBODY else ", ".join(receipt.purposes)
    if receipt.kind == "held_none":
        return f"held nothing for {what}"
    return f"erased {what}: {receipt.keys_destroyed} keys destroyed, {_CANARY[receipt.canary_unreadable]}"


def _strength(receipt: Receipt) -> str:
    kept, opens = _ASSURANCE[receipt.assurance], _COLD_START[receipt.cold_start]
    return f"assurance {receipt.assurance}: {kept}; {opens}"


def _device(receipt: Receipt) -> dict[str, Any]:
    return {
        "device_id": receipt.device_id,
        "kind": receipt.kind,
        "keys_destroyed": receipt.keys_destroyed,
        "assurance": receipt.assurance,
        "cold_start": receipt.cold_start,
        "canary_unreadable": receipt.canary_unreadable,
        "at": receipt.at_us,
    }


def _use_ended(device: Mapping[str, Any]) -> str:
    """How the device stopped using the data, by the server's word."""
    how = device.get("enforced_by")
    if how is None:
        return "nothing says that it has stopped using the data"
    remark = device.get("remark")
    return f"stopped using it {_time(device['enforced_at'])}: {_STOPPED[how]}" + (
        f" ({remark})" if remark else ""
    )


def _time(us: int | None) -> str:
    return "not yet" if us is None else time_text(us)
