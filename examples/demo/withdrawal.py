"""One customer takes consent back: through the public API, watched to the end, every receipt verified."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.wire.fingerprint import fingerprint
from edge_runtime.wire.receipt import Receipt
from examples.demo.clock import present_us
from examples.demo.server import ShopServer
from sync_server.consent.statement import verify

PURPOSES = ["personalization", "measurement"]
STATES = ("accepted", "propagating", "enforced", "erased", "completed")
POLL_S = 0.005
PATIENCE_US = 30_000_000


@dataclass(slots=True)
class Withdrawal:
    """What was seen of one revocation."""

    customer: str
    targets: int = 0
    receipts: tuple[Receipt, ...] = ()
    """Signed by the kiosks, verified here."""
    completion: dict[str, Any] | None = None
    """The signed completion with all of these in it: what a regulator is shown."""
    root: str = ""
    """Fingerprint of the server's key as pinned before: with it, that document verifies anywhere."""
    answered: int = 0
    """Distinct kiosks among the receipts."""
    held_none: int = 0
    """Kiosks all of whose receipts say that they held nothing."""
    seen_ms: dict[str, float] = field(default_factory=dict)
    """state -> milliseconds after the request at which it, or a later one, was first seen here."""
    enforced_ms: float | None = None
    """Milliseconds from the request to the last kiosk's word that it no longer uses the data."""
    erased_ms: float | None = None
    """Milliseconds from the request to the last kiosk's receipt."""

    @property
    def completed(self) -> bool:
        """Whether it came to its end."""
        return "completed" in self.seen_ms


async def withdraw(
    server: ShopServer, server_key: bytes, customer: str, tell: Callable[[str], None]
) -> Withdrawal:
    """Revoke a customer's purposes and watch until it is completed or patience ends.

    Args:
        server_key: the server's public key as pinned before; the completion must verify under it.
        tell: called with a line of words at each state.
    """
    seen, start_us = Withdrawal(customer, root=fingerprint(server_key)), present_us()
    revocation_id = await server.revoke(f"user:{customer}", PURPOSES)
    while not seen.completed and present_us() - start_us < PATIENCE_US:
        _note(seen, await server.revocation(revocation_id), start_us, tell)
        await asyncio.sleep(POLL_S)
    if seen.completed:
        seen.completion = await server.completion(revocation_id)
        _prove(seen, verify(seen.completion, server_key).receipts)
    return seen


def _note(seen: Withdrawal, standing: dict[str, Any], start_us: int, tell: Callable[[str], None]) -> None:
    seen.targets = standing["counters"]["targets"]
    seen.enforced_ms = _after_ms(standing["enforced_at"], start_us)
    seen.erased_ms = _after_ms(standing["erased_at"], start_us)
    reached = STATES[: STATES.index(standing["state"]) + 1] if standing["state"] in STATES else ()
    fresh = [step for step in reached if step not in seen.seen_ms]
    elapsed_ms = (present_us() - start_us) / 1000
    seen.seen_ms |= dict.fromkeys(fresh, elapsed_ms)
    if fresh:
        tell(f"seen after {elapsed_ms:5,.0f} ms: {', '.join(fresh)}")


def _after_ms(at_us: int | None, start_us: int) -> float | None:
    return None if at_us is None else round((at_us - start_us) / 1000, 1)


def _prove(seen: Withdrawal, receipts: tuple[Receipt, ...]) -> None:
    devices = {receipt.device_id for receipt in receipts}
    held = {receipt.device_id for receipt in receipts if receipt.kind == "erased"}
    seen.receipts, seen.answered, seen.held_none = receipts, len(devices), len(devices - held)
