"""What `bench session` feeds: one made-up user, and two real streams of many users as events of one type.

The real streams are mapped onto the bench's one catalog, so that the one hand-written limit serves all: for
NASA HTTP a view is a request (user = host, item = what was asked for, price = bytes, category = status), for
Online Retail a row (user = customer, item = stock code, price = price of one, category = country). Each comes
at its own time, in the order of the file; all rows of an invoice share a minute.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from bench.streams import Found
from edge_runtime.catalog import Catalog
from edge_runtime.session.event import LAST_US, Event, make_event

EVENTS, SEED = 20_000, 20261


class Arrival(NamedTuple):
    """An event of a user, its id, and when it comes."""

    user: str
    event: Event
    event_id: str
    now_us: int


Feed = list[Arrival]


def made(catalog: Catalog, count: int = EVENTS) -> Feed:
    """Events of one user in order of arrival: 3 % late by up to 50 s, 2 % sent twice, some pauses."""
    chance, now_us, found = random.Random(SEED), 1_700_000_000_000_000, []
    for number in range(count):
        now_us += chance.randrange(1, 20_000_000)
        if chance.random() < 0.01:
            now_us += chance.randrange(7_200_000_000)
        late_us = chance.randrange(50_000_000) if chance.random() < 0.03 else 0
        fields = {
            "user": "alice",
            "item": f"item-{chance.randrange(400)}",
            "price": chance.randrange(1, 3000) / 100,
            "category": f"category-{chance.randrange(20)}",
        }
        event = make_event(catalog, "view", fields, now_us=now_us - late_us)
        found.append(Arrival("alice", event, f"event-{number}", now_us))
        if chance.random() < 0.02:
            found.append(found[-1])
    return found


def real(catalog: Catalog, found: Found, limit: int | None = None) -> Feed:
    """The first `limit` events of a real stream (all without one) as views; the row's number is the id."""
    feed: Feed = []
    for number, flat in enumerate(found.events()):
        if number == limit:
            break
        nasa = flat["type"] == "fetch"
        fields = {
            "user": flat["user"],
            "item": flat["resource" if nasa else "item"],
            "price": flat.get("bytes") if nasa else flat["price"],
            "category": str(flat.get("status")) if nasa else flat["country"],
            "at": flat["at"],
        }
        event = make_event(catalog, "view", fields, now_us=LAST_US)
        feed.append(Arrival(str(flat["user"]), event, str(number), event.at_us))
    return feed
