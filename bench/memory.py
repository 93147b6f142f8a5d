"""How much memory does one subject with 50 features take, and does it grow with the number of events?

The view has every operator, windows from 5 minutes to 7 days, and keys and sets at their bounds: events name
5,000 items, far more than `max_keys`, and more than `cap` in a week. One event comes every 30 seconds on
average, so that every window is full after 20,000 events. Measured at 1 k, 10 k, 100 k and 1 M events: the
deep size of the state in memory, and its bytes as stored. Neither may differ by more than 2 % between 100 k
and 1 M events: what is left is chance, which keys and which ids happen to be held.
"""

from __future__ import annotations

import json
import random
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.measure import table
from edge_runtime.catalog import Catalog
from edge_runtime.catalog.model import Scalar
from edge_runtime.session.event import Event
from edge_runtime.session.plan import ViewPlan, ViewState, compile_catalog

CHECKPOINTS = (1_000, 10_000, 100_000, 1_000_000)
ITEMS, CATEGORIES, GAP_US, SEED = 5_000, 40, 30_000_000, 20264
GROWTH_LIMIT = 0.02
WINDOWED = ("5m", "1h", "1d", "7d")

_HEAD = """
[catalog]
name = "memory"
version = 1
[purposes.personalization]
legal_basis = "consent"
lease = "24h"
retention = "30d"
[entities.user]
personal = true
[entities.item]
[events.view]
entities = ["user", "item"]
properties = { price = "float64", category = "string" }
[views.activity]
entity = "user"
source = "session"
purpose = "personalization"
ttl = "30d"
owner = "bench"
[views.activity.features]
"""
_FEATURES = {
    **{f"count_{w}": f'op = "count", window = "{w}"' for w in WINDOWED},
    **{f"dear_{w}": f'op = "count", window = "{w}", where = {{ price = {{ gt = 10 }} }}' for w in WINDOWED},
    **{
        f"{op}_{w}": f'op = "{op}", value = "price", window = "{w}"'
        for op in ("sum", "mean", "std", "min", "max")
        for w in WINDOWED
    },
    "first": 'op = "first", value = "item", window = "1d"',
    "last": 'op = "last", value = "item"',
    "last_10": 'op = "last_n", value = "item", n = 10',
    "last_50": 'op = "last_n", value = "price", n = 50',
    "items_1h": 'op = "distinct", value = "item", window = "1h"',
    "items_7d": 'op = "distinct", value = "item", window = "7d"',
    "items": 'op = "distinct", value = "item"',
    "by_category_1d": 'op = "count_by", by = "category", window = "1d"',
    "by_item_1d": 'op = "count_by", by = "item", window = "1d"',
    "by_item": 'op = "count_by", by = "item"',
    "top_items": 'op = "top_n", by = "item", n = 10, window = "1h"',
    "since_last": 'op = "since_last"',
    "since_first": 'op = "since_first", window = "1d"',
    "pace_10m": 'op = "decayed_count", half_life = "10m"',
    "pace_1d": 'op = "decayed_count", half_life = "1d"',
    "spend": 'op = "decayed_sum", value = "price", half_life = "1h"',
    "depth": 'op = "session_count", gap = "30m"',
    "basket": 'op = "session_sum", value = "price", gap = "30m"',
    "variety": 'op = "session_distinct", value = "item", gap = "30m"',
    "stay": 'op = "session_duration", gap = "30m"',
    "start": 'op = "session_start", gap = "30m"',
    "dear_depth": 'op = "session_count", gap = "5m", where = { price = { gt = 10 } }',
}
"""The 50 features by name; each is of the one event type."""


def catalog_text(features: Mapping[str, str] = _FEATURES) -> str:
    """The catalog, as TOML, with these features."""
    return _HEAD + "\n".join(f'{name} = {{ event = "view", {rest} }}' for name, rest in features.items())


def events(count: int) -> Iterator[Event]:
    """`count` events of one user in order of time, drawn from a fixed seed."""
    chance, at_us = random.Random(SEED), 1_700_000_000_000_000
    for _ in range(count):
        at_us += chance.randrange(1, 2 * GAP_US)
        item, category = f"item-{chance.randrange(ITEMS)}", f"category-{chance.randrange(CATEGORIES)}"
        properties: dict[str, Scalar] = {"price": chance.randrange(1, 3000) / 100, "category": category}
        yield Event("view", {"user": "alice", "item": item}, properties, at_us)


def run(checkpoints: tuple[int, ...] = CHECKPOINTS) -> dict[str, object]:
    """Feed, measure, print the table; returns the numbers.

    Raises:
        AssertionError: the state grew between the last two checkpoints.
    """
    plan = compile_catalog(Catalog.from_toml(catalog_text())).views["activity@1"]
    deep, stored = {}, {}
    for count, state in states(plan, events(max(checkpoints)), checkpoints):
        deep[count], stored[count] = deep_bytes(state), len(plan.dump(state))
    print(_report(deep, stored))
    before, last = sorted(checkpoints)[-2:]
    growth = max(deep[last] / deep[before], stored[last] / stored[before]) - 1
    assert growth <= GROWTH_LIMIT, f"the state grew by {growth:.1%} from {before} to {last} events"
    return {
        "features": len(plan.names),
        "deep_bytes": deep,
        "stored_bytes": stored,
        "growth": round(growth, 4),
        "events": last,
    }


def main() -> None:
    """Print the table and the JSON line."""
    print(json.dumps(run()))


def states(
    plan: ViewPlan, events: Iterable[Event], checkpoints: Iterable[int]
) -> Iterator[tuple[int, ViewState]]:
    """The state, always the same one, at each of the given numbers of events."""
    state, wanted = plan.new_state(), frozenset(checkpoints)
    for number, event in enumerate(events, 1):
        plan.offer(state, event, str(number), event.at_us)
        if number in wanted:
            yield number, state


def deep_bytes(root: object) -> int:
    """Bytes of an object and all that it holds, each counted once; classes and functions are not its own."""
    seen: set[int] = set()
    total, pending = 0, deque([root])
    while pending:
        one = pending.popleft()
        if id(one) in seen or isinstance(one, type) or callable(one):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        pending.extend(_held(one))
    return total


def _held(one: Any) -> Iterable[object]:
    match one:
        case dict():
            return [*one.keys(), *one.values(), *_attributes(one)]
        case list() | tuple() | set() | frozenset() | deque():
            return [*one, *_attributes(one)]
        case _:
            return _attributes(one)


def _attributes(one: Any) -> list[object]:
    slots = [name for kind in type(one).__mro__ for name in vars(kind).get("__slots__", ())]
    own: list[object] = [vars(one)] if "__dict__" in dir(one) else []
    return own + [getattr(one, name) for name in slots if hasattr(one, name)]


def _report(deep: Mapping[int, int], stored: Mapping[int, int]) -> str:
    rows: list[tuple[str, ...]] = [(f"{len(_FEATURES)} features, one subject", "in memory", "as stored")]
    rows += [(f"after {n} events", f"{deep[n]} bytes", f"{stored[n]} bytes") for n in sorted(deep)]
    return table(rows)


if __name__ == "__main__":
    main()
