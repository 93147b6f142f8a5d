"""A catalog with every operator in it, and streams of events that arrive late, in ties and at edges."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from edge_runtime.catalog import Catalog
from edge_runtime.session.event import Event, make_event
from tests.support import oracle_numbers, oracle_sets

SECOND = 1_000_000
LATENESS_US = 60 * SECOND
START_US = 1_700_000_000 * SECOND
RETENTION_US = 2 * 3600 * SECOND

CATALOG = """
[catalog]
name = "every-operator"
version = 1

[purposes.personalization]
title = "Recommendations made for you"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "2h"
keep_events = "1h"

[entities.user]
personal = true
[entities.item]

[events.view]
entities = ["user", "item"]
properties = { price = "float64", category = "string", clicks = "int64", logged_in = "bool" }
[events.buy]
entities = ["user", "item"]
properties = { price = "float64", quantity = "int64" }

[views.activity]
version = 1
entity = "user"
source = "session"
purpose = "personalization"
ttl = "2h"
owner = "tests"
allowed_lateness = "60s"
[views.activity.features]
count_all = { op = "count", event = ["view", "buy"] }
count_5m = { op = "count", event = "view", window = "5m" }
count_61s = { op = "count", event = ["view", "buy"], window = "61s" }
count_dear = { op = "count", event = "view", window = "5m", where = { price = { gt = 10.0 } } }
sum_all = { op = "sum", event = ["view", "buy"], value = "price" }
sum_5m = { op = "sum", event = "view", value = "price", window = "5m" }
sum_1h = { op = "sum", event = "buy", value = "quantity", window = "1h" }
last_item = { op = "last", event = "view", value = "item" }
last_price = { op = "last", event = ["view", "buy"], value = "price", where = { price = { lt = 100.0 } } }
last_3 = { op = "last_n", event = "view", value = "item", n = 3 }
last_7 = { op = "last_n", event = "view", value = "item", n = 7 }
by_item = { op = "count_by", event = ["view", "buy"], by = "item", window = "5m", max_keys = 2 }
by_item_all = { op = "count_by", event = "view", by = "item", max_keys = 3 }
by_category = { op = "count_by", event = "view", by = "category", window = "1h" }
pace = { op = "decayed_count", event = "view", half_life = "10s" }
pace_dear = { op = "decayed_count", event = "view", half_life = "10m", where = { price = { gt = 10.0 } } }
depth = { op = "session_count", event = ["view", "buy"], gap = "30s" }
depth_dear = { op = "session_count", event = "view", gap = "5m", where = { price = { gt = 10.0 } } }
since_view = { op = "since_last", event = "view" }
since_buy = { op = "since_last", event = "buy", where = { quantity = { ne = 0 } } }
<oracle_numbers>
<oracle_sets>
[views.activity.features.count_named]
op = "count"
event = "view"
where = { category = { in = ["a", "b"] }, clicks = { ge = 1 } }
[views.activity.features.taste]
op = "decayed_mean_vector"
event = "view"
value = "item"
embedding = "item_vec:embedding"
half_life = "1m"
n = 4

[views.item_vec]
version = 1
entity = "item"
source = "server"
ttl = 0
owner = "tests"
[views.item_vec.features]
embedding = { dtype = "float32[3]" }
"""

for _name, _family in (("<oracle_numbers>", oracle_numbers), ("<oracle_sets>", oracle_sets)):
    CATALOG = CATALOG.replace(_name, _family.FEATURES)

EMBEDDINGS: dict[str, tuple[float, ...]] = {
    "a": (1.0, 0.5, -0.25),
    "b": (0.1, 0.2, 0.3),
    "\U0001f6d2": (-3.0, 0.0, 7.5),
}


def every_operator() -> Catalog:
    """The catalog above."""
    return Catalog.from_toml(CATALOG)


@dataclass(frozen=True)
class Arrival:
    """An event, its id, and when it comes."""

    event: Event
    event_id: str
    now_us: int


_STEPS_US = st.sampled_from(
    [
        *(0, 0, 1, SECOND - 1, SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 30 * SECOND, 30 * SECOND + 1),
        *(60 * SECOND, 299 * SECOND, 300 * SECOND, 3600 * SECOND, RETENTION_US, RETENTION_US + 1),
    ]
)
_DELAYS_US = st.sampled_from([0, 0, 1, SECOND, 29 * SECOND, 59 * SECOND, LATENESS_US])
_PRICES = st.sampled_from([None, 0.0, -0.0, 0.1, 9.99, 10.0, 10.01, 1e-30, -55.5, 2.0**500, 123.456])
_ITEMS = st.sampled_from(["a", "b", "\U0001f6d2", "d\x00e", "\u202ebidi", "f"])


@st.composite
def arrivals(draw: st.DrawFn, catalog: Catalog, max_size: int = 24) -> list[Arrival]:
    """Distinct events of one user in an order of arrival within the lateness bound."""
    at_us, found = START_US + draw(st.integers(0, 600 * SECOND)), []
    for number in range(draw(st.integers(0, max_size))):
        at_us += draw(_STEPS_US)
        delay_us = draw(_DELAYS_US)
        event = draw(_events(catalog, at_us))
        event_id = f"{draw(st.sampled_from('zaÿ'))}{number}"
        found.append(Arrival(event, event_id, at_us + delay_us))
    return sorted(found, key=lambda a: a.now_us)


@st.composite
def _events(draw: st.DrawFn, catalog: Catalog, at_us: int) -> Event:
    kind = draw(st.sampled_from(["view", "view", "buy"]))
    fields: dict[str, object] = {"user": "alice", "item": draw(_ITEMS), "price": draw(_PRICES)}
    if kind == "view":
        fields["category"] = draw(st.sampled_from([None, "a", "b", "c", ""]))
        fields["clicks"] = draw(st.sampled_from([None, 0, 1, 7, -(1 << 63)]))
    else:
        fields["quantity"] = draw(st.sampled_from([None, 0, 3, (1 << 63) - 1]))
    return make_event(catalog, kind, fields, now_us=at_us)
