"""One customer takes consent back: through the public API, watched to the end, every receipt verified."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_runtime.wire.receipt import Receipt
from examples.demo.server import ShopServer
from sync_server.consent.statement import verify

PURPOSES = ["personalization", "measurement"]
STATES = ("accepted", "propagating", "enforced", "erased", "completed")
POLL_S = 0.01
PATIENCE_S = 30.0


@dataclass(slots=True)
class Withdrawal:
    """What was seen of one revocation."""

    customer: str
    targets: int = 0
    receipts: tuple[Receipt, ...] = ()
    """Signed by the kiosks, verified here."""
    answered: int = 0
    """Distinct kiosks among the receipts."""
    held_none: int = 0
    """Kiosks all of whose receipts say that they held nothing."""
    reached_ms: dict[str, float] = field(default_factory=dict)
    """state -> milliseconds after the request at which it, or a later one, was first seen."""

    @property
    def completed(self) -> bool:
        """Whether it came to its end."""
        return "completed" in self.reached_ms


async def withdraw(
    server: ShopServer, server_key: bytes, customer: str, tell: Callable[[str], None]
) -> Withdrawal:
    """Revoke a customer's purposes and watch until it is completed or patience ends.

    Args:
        server_key: the server's public key as pinned before; the completion must verify under it.
        tell: called with a line of words at each state.
    """
    seen, start = Withdrawal(customer), time.monotonic()
    revocation_id = await server.revoke(f"user:{customer}", PURPOSES)
    while not seen.completed and time.monotonic() - start < PATIENCE_S:
        standing = await server.revocation(revocation_id)
        seen.targets = standing["counters"]["targets"]
        _note(seen, standing["state"], (time.monotonic() - start) * 1000, tell)
        await asyncio.sleep(POLL_S)
    if seen.completed:
        _prove(seen, verify(await server.completion(revocation_id), server_key).receipts)
    return seen


def _note(seen: Withdrawal, state: str, elapsed_ms: float, tell: Callable[[str], None]) -> None:
    reached = STATES[: STATES.index(state) + 1] if state in STATES else ()
    fresh = [step for step in reached if step not in seen.reached_ms]
    seen.reached_ms |= dict.fromkeys(fresh, round(elapsed_ms, 1))
    if fresh:
        tell(f"{elapsed_ms:7,.0f} ms  {' → '.join(fresh)}")


def _prove(seen: Withdrawal, receipts: tuple[Receipt, ...]) -> None:
    devices = {receipt.device_id for receipt in receipts}
    held = {receipt.device_id for receipt in receipts if receipt.kind == "erased"}
    seen.receipts, seen.answered, seen.held_none = receipts, len(devices), len(devices - held)
