"""Views keyed by user, by user and item, and by item, with events, rows and points for all of them."""

from __future__ import annotations

import random
from typing import Any

from edge_runtime.catalog import Catalog

START_S, DAY_S = 1_700_000_000, 86_400
ITEMS, USERS = tuple(f"i{n}" for n in range(7)), tuple(f"user-{n}" for n in range(9))

CATALOG = Catalog.from_toml("""
[catalog]
name = "keys"
version = 1
[purposes.personalization]
title = "Recommendations made for you"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "7d"
[entities.user]
personal = true
[entities.item]
[events.view]
entities = ["user", "item"]
properties = { price = "float64" }
[events.restock]
entities = ["item"]
properties = { price = "float64" }
[views.activity]
version = 1
entity = "user"
source = "session"
purpose = "personalization"
ttl = "30d"
owner = "tests"
[views.activity.features]
spent = { op = "sum", event = "view", value = "price", window = "1d" }
last = { op = "last_n", event = "view", value = "item", n = 5 }
by_item = { op = "count_by", event = "view", by = "item" }
[views.activity.features.taste]
op = "decayed_mean_vector"
event = "view"
value = "item"
embedding = "item_vec:embedding"
half_life = "1h"
n = 4
[views.pair]
version = 1
entity = ["user", "item"]
source = "session"
purpose = "personalization"
ttl = "30d"
owner = "tests"
[views.pair.features]
times = { op = "count", event = "view" }
[views.crowd]
version = 1
entity = "item"
source = "session"
ttl = "30d"
owner = "tests"
[views.crowd.features]
seen = { op = "count", event = "restock", window = "1d" }
last_price = { op = "last", event = "restock", value = "price" }
[views.item_vec]
version = 1
entity = "item"
source = "server"
ttl = 0
owner = "tests"
[views.item_vec.features]
embedding = { dtype = "float32[3]" }
weights = { dtype = "map<string,float32>" }
[views.profile]
version = 1
entity = "user"
source = "server"
purpose = "personalization"
ttl = "7d"
owner = "tests"
[views.profile.features]
age = { dtype = "int64" }
[services.ranker]
version = 1
features = ["activity:spent", "pair:times", "crowd:seen", "crowd:last_price", "profile:age",
            { name = "seen_this", lookup = "activity:by_item", key = "item" },
            { name = "near", sum_lookup = "item_vec:weights", keys = "activity:last", key = "item" },
            { name = "match", dot = ["activity:taste", "item_vec:embedding"] }]
""")
REFS = ("activity:last", "activity:by_item", "activity:taste", "pair:times", "crowd:seen", "profile:age")


def history() -> list[dict[str, Any]]:
    """Ties, repeats without an id, repeats of an id, and items that many users share."""
    rng = random.Random(1)
    found: list[dict[str, Any]] = []
    for n in range(1500):
        event: dict[str, Any] = {"type": rng.choice(("view", "view", "restock")), "item": rng.choice(ITEMS)}
        event |= {"price": float(rng.randrange(9)), "at": START_S + rng.randrange(0, DAY_S, 60)}
        if event["type"] == "view":
            event["user"] = rng.choice(USERS)
        found += [event] * rng.choice((1, 1, 1, 2, 3))
        if n % 5 == 0:
            received = START_S + rng.randrange(DAY_S)
            found[-1] = found[-1] | {"id": f"e{rng.randrange(100)}", "received": received}
    return found


def rows() -> list[dict[str, Any]]:
    """Embeddings and weights of items, ages of users, some created later than they are of."""
    rng = random.Random(2)
    found: list[dict[str, Any]] = []
    for _ in range(60):
        at = START_S + rng.randrange(DAY_S)
        values: dict[str, Any] = {"embedding": [rng.uniform(-1, 1) for _ in range(3)]}
        values["weights"] = {item: rng.random() for item in ITEMS}
        item = {"view": "item_vec", "entity": f"item:{rng.choice(ITEMS)}", "event_time": at}
        found.append(item | {"values": values})
        profile = {"view": "profile", "entity": f"user:{rng.choice(USERS)}", "event_time": at}
        found.append(profile | {"created": at + rng.randrange(99), "values": {"age": rng.randrange(99)}})
    return found


def points(count: int = 300) -> list[dict[str, Any]]:
    """Pairs of a user and an item, some unknown, from before all events to a day after them."""
    rng = random.Random(3)
    return [
        {"user": rng.choice((*USERS, "nobody")), "item": rng.choice((*ITEMS, "nothing"))}
        | {"at": START_S + rng.randrange(-60, 2 * DAY_S)}
        for _ in range(count)
    ]
