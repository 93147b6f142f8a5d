"""Decisions and revocations, with the types that the server answers in.

Every call is repeated while no answer comes: a change goes under one idempotency key, and so is made once.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from edge_runtime.wire.fingerprint import digest_of
from sync_server.client.asking import Asking, got, pages
from sync_server.client.connection import path_of
from sync_server.clock import Waiter
from sync_server.consent.documents import (
    Consent,
    ConsentHistory,
    ConsentRecord,
    ConsentRecorded,
    Initiator,
    LedgerHead,
    OptedOut,
    OptOut,
    Revocation,
    RevocationAccepted,
    RevocationBrief,
    Revocations,
    RevocationStatus,
    RevocationTarget,
    RevocationTargets,
    StateNow,
    Subject,
)
from sync_server.consent.signed_document import SignedDocument
from sync_server.consent.subject_data import SubjectData
from sync_server.consent.verifying import Proof, VerifyFailure, verify_with_root

T = TypeVar("T")
CONSENTS: Final = ("v1", "consents")
REVOCATIONS: Final = ("v1", "consent-revocations")
Said = Literal["given", "refused", "objected", "restricted"]
Reached = Literal["enforced", "erased", "completed"]


class NotYet(Exception):
    """A revocation did not come so far in the time that was given; `status` is where it stands."""

    def __init__(self, status: RevocationStatus) -> None:
        self.status = status
        super().__init__(f"{status.id} is {status.state}")


class WaitingAsking(Asking, Protocol):
    """It waits between two looks as well."""

    @property
    def waiter(self) -> Waiter: ...


class ConsentClient:
    """Give, revoke, watch, prove. Raises `Refused`, or `Unreachable` when patience ends."""

    def __init__(self, client: WaitingAsking) -> None:
        self._client = client

    # ---- decisions ---------------------------------------------------------------------------------------

    def give(
        self,
        subject: Subject,
        purpose: str,
        *,
        notice: str,
        base: int | None = None,
        key: str | None = None,
        gpc: bool = False,
    ) -> ConsentRecorded:
        """Record that the subject said yes after having read `notice`; see `decide`."""
        return self.decide(subject, purpose, "given", notice=notice, base=base, key=key, gpc=gpc)

    def decide(
        self,
        subject: Subject,
        purpose: str,
        state: Said,
        *,
        notice: str,
        base: int | None = None,
        key: str | None = None,
        gpc: bool = False,
    ) -> ConsentRecorded:
        """Record what the subject said.

        Args:
            base: `ConsentHistory.lane` that was seen when it was said; None: it is said now.
            key: an idempotency key of the caller's own, to repeat the call after a crash.
            gpc: whether the subject's software sent `Sec-GPC: 1`; then look at `gpc_conflict`.
        """
        body = Consent(subject=subject, purpose=purpose, notice=notice, state=state, base=base)
        return self._post(CONSENTS, body, key, ConsentRecorded, {"Sec-GPC": "1"} if gpc else {})

    def opt_out(self, subject: Subject, notice: str = "none") -> OptedOut:
        """Deny every purpose that sells, shares or targets; what is denied already is left as it is."""
        return self._post(("v1", "opt-outs"), OptOut(subject=subject, notice=notice), None, OptedOut)

    def consent_receipt(self, consent_id: str) -> SignedDocument:
        """The subject's receipt of one decision; `edge-sync consent verify` checks it."""
        return self._get(path_of(*CONSENTS, consent_id, "receipt"), SignedDocument)

    def subject_data(self, subject: str) -> Iterator[SubjectData]:
        """Everything held on the subject, page by page."""
        return pages(self._client, ("v1", "subject-data"), SubjectData, subject=subject)

    def look(
        self,
        subject: str,
        purpose: str | None = None,
        *,
        after: int | None = None,
        limit: int | None = None,
    ) -> ConsentHistory:
        """What holds for the subject, and a page of what was said."""
        path = path_of(*CONSENTS, subject=subject, purpose=purpose, after=after, limit=limit)
        return self._get(path, ConsentHistory)

    def state(self, subject: str, purpose: str) -> StateNow:
        """What holds for one purpose."""
        return self.look(subject, purpose, limit=1).states[purpose]

    def history(self, subject: str, purpose: str | None = None) -> Iterator[ConsentRecord]:
        """Everything that was ever said, oldest first, page by page."""
        for page in pages(self._client, CONSENTS, ConsentHistory, after=0, subject=subject, purpose=purpose):
            yield from page.history

    def record(self, consent_id: str) -> ConsentRecord:
        """One decision as it was recorded."""
        return self._get(path_of(*CONSENTS, consent_id), ConsentRecord)

    def withdraw_record(self, consent_id: str) -> None:
        """End what the record stands for; nothing happens if that was done, or there is no such record."""
        path = path_of(*CONSENTS, consent_id)
        self._client.patiently(lambda: self._client.ask("DELETE", path))

    # ---- revocations -------------------------------------------------------------------------------------

    def revoke(
        self,
        subject: Subject,
        purposes: Sequence[str] | Literal["*"] = "*",
        *,
        initiator: Initiator = "subject",
        notice: str = "",
        key: str | None = None,
    ) -> RevocationAccepted:
        """End the permission for some purposes or all; in force when this returns.

        Args:
            initiator: `subject` withdraws; anybody else revokes.
            key: an idempotency key of the caller's own, to repeat the call after a crash of the caller.
        """
        named: list[str] | Literal["*"] = "*" if isinstance(purposes, str) else list(purposes)
        body = Revocation(subject=subject, purposes=named, initiator=initiator, notice=notice)
        return self._post(REVOCATIONS, body, key, RevocationAccepted)

    def revocations(self) -> Iterator[RevocationBrief]:
        """All of them, the newest first, page by page."""
        for page in pages(self._client, REVOCATIONS, Revocations):
            yield from page.revocations

    def status(self, revocation_id: str) -> RevocationStatus:
        """How far it has come."""
        return self._get(path_of(*REVOCATIONS, revocation_id), RevocationStatus)

    def wait_for(
        self, revocation_id: str, reached: Reached, *, timeout_s: float = 60.0, every_s: float = 1.0
    ) -> RevocationStatus:
        """The status once the revocation has come so far; also when it is `partially_completed`, because then
        nobody is waited for any more. Raises `NotYet` when `timeout_s` are over."""
        until_s = self._client.waiter.now_s() + timeout_s
        while True:
            found = self.status(revocation_id)
            if _has_reached(found, reached):
                return found
            left_s = until_s - self._client.waiter.now_s()
            if left_s <= 0:
                raise NotYet(found)
            self._client.waiter.wait(min(every_s, left_s))

    def targets(self, revocation_id: str, *, page: int | None = None) -> Iterator[RevocationTarget]:
        """Every device that is waited for, by id; `page` at a time."""
        for found in pages(
            self._client, (*REVOCATIONS, revocation_id, "targets"), RevocationTargets, limit=page
        ):
            yield from found.targets

    def receipt(self, revocation_id: str) -> SignedDocument:
        """The signed completion, or past the due time who is overdue; before, `Refused("not_completed")`."""
        return self._get(path_of(*REVOCATIONS, revocation_id, "receipt"), SignedDocument)

    def verify(self, signed: SignedDocument, root: str) -> Proof:
        """What a statement proves to whoever pinned the fingerprint `root` (`LedgerHead.root_fingerprint`,
        written down when it could be trusted). Asks nobody. Raises `VerifyFailure`."""
        found = verify_with_root(msgspec.to_builtins(signed), digest_of(root))
        if not isinstance(found, Proof):
            raise VerifyFailure("expected a statement about a revocation")
        return found

    def head(self) -> LedgerHead:
        """The ledger's signed head."""
        return self._get("/v1/consent-ledger/head", LedgerHead)

    # ---- within ------------------------------------------------------------------------------------------

    def _get(self, path: str, kind: type[T]) -> T:
        return got(self._client, path, kind)

    def _post(
        self,
        where: Sequence[str],
        body: msgspec.Struct,
        key: str | None,
        kind: type[T],
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> T:
        named = {**headers, "Idempotency-Key": f'"{uuid.uuid4()}"' if key is None else key}
        path, sent = path_of(*where), msgspec.to_builtins(body)
        raw = self._client.patiently(lambda: self._client.ask("POST", path, sent, headers=named))
        return msgspec.json.decode(raw, type=kind)


def _has_reached(status: RevocationStatus, reached: Reached) -> bool:
    at = {"enforced": status.enforced_at, "erased": status.erased_at, "completed": status.completed_at}
    return at[reached] is not None or status.state == "partially_completed"
