"""Windows and half-lives shorter than the lateness: a late event may lie before all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import edge_runtime as er
from edge_runtime.session.event import Event, make_event
from edge_runtime.session.operators.counts import CountMap
from edge_runtime.session.plan import ViewPlan, ViewState, compile_catalog
from tests.support.streams import SECOND, START_US

LATENESS_US, WINDOWS = 600 * SECOND, ("1s", "10s", "70s")

CATALOG = er.Catalog.from_toml(
    """
[catalog]
name = "short"
version = 1
[purposes.p]
legal_basis = "consent"
lease = "24h"
retention = "1h"
keep_events = "1h"
[entities.user]
personal = true
[events.view]
entities = ["user"]
properties = { price = "float64", page = "string" }
[views.v]
entity = "user"
source = "session"
purpose = "p"
ttl = "1h"
allowed_lateness = "600s"
[views.v.features]
all = { op = "count", event = "view" }
decayed = { op = "decayed_sum", event = "view", value = "price", half_life = "1s" }
run = { op = "session_distinct", event = "view", value = "page", gap = "10s", cap = 1 }
"""
    + "".join(
        f"""
count_{w} = {{ op = "count", event = "view", window = "{w}" }}
std_{w} = {{ op = "std", event = "view", value = "price", window = "{w}" }}
min_{w} = {{ op = "min", event = "view", value = "price", window = "{w}" }}
max_{w} = {{ op = "max", event = "view", value = "price", window = "{w}" }}
first_{w} = {{ op = "first", event = "view", value = "page", window = "{w}" }}
last_{w} = {{ op = "last", event = "view", value = "page", window = "{w}" }}
last_n_{w} = {{ op = "last_n", event = "view", value = "page", n = 2, window = "{w}" }}
since_first_{w} = {{ op = "since_first", event = "view", window = "{w}" }}
since_last_{w} = {{ op = "since_last", event = "view", window = "{w}" }}
distinct_{w} = {{ op = "distinct", event = "view", value = "page", window = "{w}", cap = 1 }}
by_{w} = {{ op = "count_by", event = "view", by = "page", window = "{w}", max_keys = 1 }}
top_{w} = {{ op = "top_n", event = "view", by = "page", window = "{w}", n = 2, max_keys = 2 }}
"""
        for w in WINDOWS
    )
)
PLAN: ViewPlan = compile_catalog(CATALOG).views["v@1"]


def event(at_us: int, price: float | None, page: str) -> Event:
    return make_event(CATALOG, "view", {"user": "u", "price": price, "page": page}, now_us=at_us)


def values(state: ViewState, t_us: int) -> list[object]:
    found = PLAN.values(state, t_us)
    named, overflows = dict(zip(PLAN.names, found, strict=True)), []
    for window in WINDOWS:
        by_page = named[f"by_{window}"]
        assert isinstance(by_page, CountMap)
        overflows.append(by_page.overflow)
        assert sum(by_page.values()) + by_page.overflow == named[f"count_{window}"]
    return [*found, *overflows]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, SECOND - 1, SECOND, 9 * SECOND, 10 * SECOND, 64 * SECOND, 70 * SECOND]),
            st.sampled_from([0, 0, 1, SECOND, 10 * SECOND, 64 * SECOND, 71 * SECOND, LATENESS_US]),
            st.sampled_from([None, 0.1, -2.5, 7.0]),
            st.sampled_from("abcd"),
        ),
        max_size=14,
    ),
    st.sampled_from([0, 1, SECOND, 5 * SECOND, 9 * SECOND, 63 * SECOND, 64 * SECOND, 69 * SECOND]),
)
def test_law_8_a_late_event_before_every_window_changes_no_number(
    drawn: list[tuple[int, int, float | None, str]], later_us: int
) -> None:
    """In any order of arrival, read after each event and later, as if all had come in order."""
    at_us, arrivals = START_US, []
    for n, (step_us, delay_us, price, page) in enumerate(drawn):
        at_us += step_us
        arrivals.append((at_us + delay_us, event(at_us, price, page), f"e{n}"))
    lived: list[tuple[Event, str]] = []
    state = PLAN.new_state()
    for now_us, one, event_id in sorted(arrivals, key=lambda a: a[0]):
        assert PLAN.offer(state, one, event_id, now_us) is er.ACCEPTED
        lived.append((one, event_id))
        in_order = PLAN.new_state()
        for each, each_id in sorted(lived, key=lambda e: (e[0].at_us, e[1])):
            PLAN.update(in_order, each, each_id)
        newest_us = state.newest
        for t_us in (newest_us, newest_us + later_us):
            assert values(state, t_us) == values(PLAN.load(PLAN.dump(in_order)), t_us)
