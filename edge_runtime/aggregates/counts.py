"""What became of this device's reports and offers, counted durably and about nobody.

Counted in the transaction in which it happens, so a crash loses no count and makes none up.

| count | of |
|---|---|
| `stored` | reports drawn, paid for and stored |
| `sent` | reports that the server acknowledged |
| `dropped` | reports that ended before they were acknowledged: a permission, the round, or a key ended |
| `remembered` | answers that were given again; charged like any other |
| `over_budget`, `unsure`, `answered` | subjects who did not answer: see `budget.Verdict` |
| `bad_signature`, `unknown_metric`, `metric_changed` | offers of another server, or of another question |
| `bad_key` | offers whose collector's key nothing can be sealed to |
| `memory_only`, `too_large`, `round_closed` | offers that cannot be answered, or not any more |
| `no_room` | offers while too many reports wait, or the ledger is full |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from edge_runtime.aggregates.facts import FactReads, FactWrites

FACT: Final = "aggregates.counts"
"""The fact that holds the counts."""
COUNTS: Final = (
    "stored",
    "sent",
    "dropped",
    "remembered",
    "over_budget",
    "unsure",
    "answered",
    "bad_signature",
    "unknown_metric",
    "metric_changed",
    "bad_key",
    "memory_only",
    "too_large",
    "round_closed",
    "no_room",
)


class WaitingReads(FactReads, Protocol):
    """What saying how it stands needs of a transaction of the cache."""

    def outbox_counts(self) -> Mapping[str, int]:
        """Kind -> how many wait."""
        ...


def counted(tx: FactReads) -> Counter[str]:
    """Every count so far; empty where nothing was counted, or an unreadable fact stands."""
    raw = tx.meta(FACT)
    try:
        return Counter(msgspec.msgpack.decode(raw, type=dict[str, int]) if raw else {})
    except msgspec.MsgspecError:
        return Counter()


def count(tx: FactWrites, what: str, more: int = 1) -> None:
    """Count `more` of one of `COUNTS`."""
    if more:
        tx.set_meta(FACT, msgspec.msgpack.encode(counted(tx) + Counter({what: more})))


def standing(tx: WaitingReads) -> dict[str, int]:
    """Every one of `COUNTS`, and how many reports are `waiting`."""
    found = counted(tx)
    return {"waiting": tx.outbox_counts().get("report", 0), **{name: found[name] for name in COUNTS}}
