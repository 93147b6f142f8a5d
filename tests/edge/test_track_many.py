"""`track_many`, cut into any chunks, is `track` one by one: verdicts, values, journal, withdrawals."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge_runtime as er
from edge_runtime.cache.journal_entry import JournalEntry, open_entries
from tests.support.clock import ManualClock

P = "personalization"
NOW_S = 1_700_000_000
CATALOG = """
[catalog]
name = "many"
version = 1
[purposes.personalization]
title = "Made for you"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "7d"
[purposes.measurement]
title = "Statistics"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "7d"
[purposes.moment]
title = "While you are here"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "session"
[purposes.delivery]
title = "What you ordered"
legal_basis = "contract"
terminal_access = "strictly_necessary"
lease = "24h"
retention = "30d"
[entities.user]
personal = true
[entities.item]
[events.view]
entities = ["user", "item"]
properties = { price = "float64", category = "string", at_home = "bool", seen = "time" }
[events.buy]
entities = ["user", "item"]
properties = { quantity = "int64" }
[events.stock]
entities = ["item"]
properties = { left = "int64" }
[events.ping]
entities = ["user"]
"""
VIEWS = {
    "activity": (["user"], P, "view", "item"),
    "pairs": (["user", "item"], P, "view", "category"),
    "visits": (["user"], "measurement", ["view", "buy"], "item"),
    "moment": (["user"], "moment", "view", "item"),
    "orders": (["user"], "delivery", "buy", "item"),
    "stock": (["item"], None, "stock", "item"),
}
USERS, ITEMS = ["ann", "bob", "cy"], ["x", "y|z"]


def catalog() -> er.Catalog:
    text = CATALOG
    for name, (entity, purpose, event, last) in VIEWS.items():
        events = f"event = {event!r}"
        text += f'[views.{name}]\nversion = 1\nsource = "session"\nttl = "30d"\nowner = "test"\n'
        text += f"entity = {entity}\n" + (f'purpose = "{purpose}"\n' if purpose else "")
        text += f"[views.{name}.features]\nn = {{ op = 'count', {events} }}\n"
        text += f"n_5m = {{ op = 'count', {events}, window = '5m' }}\n"
        text += f"newest = {{ op = 'last_n', {events}, value = '{last}', n = 5 }}\n"
    return er.Catalog.from_toml(text)


SHOP = catalog()


SPOILED = (
    {"price": float("nan")},
    {"price": "dear"},
    {"colour": "red"},
    {"user": 7},
    {"item": ""},
    {"type": "veiw"},
    {"at": NOW_S + 61},
    {"id": ""},
)


@st.composite
def event_dicts(draw: st.DrawFn) -> dict[str, Any]:
    """Events of every kind: late, twice, ahead of the clock, without permission, and some malformed."""
    event: dict[str, Any] = {"type": draw(st.sampled_from(["view", "view", "view", "buy", "stock", "ping"]))}
    if event["type"] != "stock":
        event["user"] = draw(st.sampled_from(["ann", "ann", "bob", "bob", "cy", "nobody"]))
    if event["type"] != "ping":
        event["item"] = draw(st.sampled_from(ITEMS))
    if event["type"] == "view":
        event["price"] = draw(st.sampled_from([0.5, -0.0, 3, None]))
        event["category"] = draw(st.sampled_from(["a", "b"]))
    ago_s = draw(st.sampled_from([0, 0, 1, 2, 59, 61, 400, -5, -30, None]))
    event["at"] = None if ago_s is None else NOW_S - ago_s
    event["id"] = draw(st.sampled_from(["one", "two", "three", "four", None, None, None]))
    if draw(st.integers(0, 9)) == 5:
        event.update(draw(st.sampled_from(SPOILED)))
    return event


class Kiosk:
    """A runtime with some consents, and all that can be asked of it."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW_S * 1_000_000)
        self.rt = er.Runtime.open(
            ":memory:",
            catalog=SHOP,
            key=er.KeyMemory(),
            clock=self.clock,
            settings=er.Settings(commit_interval_us=3_600_000_000, snapshot_every_events=8),
        )
        self.rt.consent.give("ann", [P, "measurement", "moment"], notice="n")
        self.rt.consent.give("bob", [P], notice="n")

    def one_by_one(self, events: Sequence[dict[str, Any]]) -> tuple[Counter[str], list[tuple[int, str]]]:
        told: Counter[str] = Counter()
        reasons = []
        for position, event in enumerate(events):
            fields = {name: value for name, value in event.items() if name != "type"}
            try:
                told[self.rt.track(event["type"], **fields).name] += 1
            except er.MalformedEvent as error:
                told["REFUSED"] += 1
                reasons.append((position, str(error)))
        return told, reasons

    def values(self) -> list[object]:
        found: list[object] = []
        for name, (entity, _, _, _) in VIEWS.items():
            users = [{"user": user} for user in USERS] if "user" in entity else [{}]
            items = [{"item": item} for item in ITEMS] if "item" in entity else [{}]
            for feature in ("n", "n_5m", "newest"):
                for whose in ({**user, **item} for user in users for item in items):
                    read = self.rt.read(f"{name}:{feature}", **whose)
                    found.append((name, feature, whose, read.status, read.value, read.event_time))
        return found

    def journal(self) -> dict[tuple[str, str], list[JournalEntry]]:
        """Entries in the journal by whose they are."""
        ring = self.rt._keyring
        with self.rt._database.read() as tx:
            return {
                (key.subject, key.purpose): [
                    entry for _, row in tx.events(key.handle) for entry in open_entries(key, row)
                ]
                for key in [*ring.every_key(), ring.device_key()]
            }


@settings(max_examples=60)
@given(
    st.lists(event_dicts(), min_size=10, max_size=60), st.lists(st.integers(1, 60), max_size=4), st.booleans()
)
def test_any_chunks_of_track_many_are_track_one_by_one(
    events: list[dict[str, Any]], cuts: list[int], pauses: bool
) -> None:
    """The same verdicts, reasons, values now and later, and the same entries in the same order."""
    single, many = Kiosk(), Kiosk()
    bounds = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    told: Counter[str] = Counter()
    reasons: list[tuple[int, str]] = []
    for start, end in pairwise(bounds):
        part = events[start:end]
        verdicts, why = single.one_by_one(part)
        summary = many.rt.track_many(part)
        found = (summary.accepted, summary.duplicate, summary.late, summary.no_consent, summary.refused)
        names = ("ACCEPTED", "DUPLICATE", "LATE", "NO_CONSENT", "REFUSED")
        assert found == tuple(verdicts[name] for name in names)
        assert summary.reasons == why
        told += verdicts
        reasons += why
        if pauses:
            single.clock.advance(seconds=20)
            many.clock.advance(seconds=20)
    assert single.values() == many.values()
    for kiosk in (single, many):
        kiosk.clock.advance(seconds=61)
        kiosk.rt.flush()
    assert single.values() == many.values()
    assert single.journal() == many.journal()
    single.rt.close()
    many.rt.close()


def test_events_made_by_hand_are_taken_like_dicts() -> None:
    """`Event`s and dicts may stand side by side; a bad one is told by its place in the whole."""
    kiosk = Kiosk()
    made = er.Event("view", {"user": "ann", "item": "x"}, {"price": 1.0}, NOW_S * 1_000_000)
    bad = er.Event("view", {"user": "ann"}, {}, NOW_S * 1_000_000)
    flat = {"type": "view", "user": "ann", "item": "x", "price": 1.0}
    summary = kiosk.rt.track_many([*[flat] * 511, made, bad, flat, {}, made])
    assert (summary.accepted, summary.refused) == (514, 2)
    assert [position for position, _ in summary.reasons] == [512, 514]
    assert kiosk.rt.read("activity:n", user="ann").value == 514
    kiosk.rt.close()


def test_a_long_stream_is_taken_in_bounded_chunks() -> None:
    """An endless iterable is never held whole: others have their turn between chunks."""
    kiosk = Kiosk()
    seen = []

    def endless() -> Iterator[dict[str, Any]]:
        for n in range(2_000):
            if n % 500 == 499:
                seen.append(kiosk.rt.read("activity:n", user="ann").value)
            yield {"type": "view", "user": "ann", "item": "x"}

    assert kiosk.rt.track_many(endless()).accepted == 2_000
    assert seen == [0, 512, 1024, 1536]
    kiosk.rt.close()


def test_law_2_a_withdrawal_in_the_middle_of_track_many_wins(tmp_path: Path) -> None:
    """Another thread withdraws while a chunk waits: what it held is gone, what follows is refused."""
    key = er.KeyFile(tmp_path / "device.key")
    with er.Runtime.open(tmp_path / "cache.db", catalog=SHOP, key=key) as rt:
        for user in ("ann", "bob"):
            rt.consent.give(user, [P], notice="n")
        dead = rt._keyring.key("user:ann", P)
        assert dead is not None
        receipts = []

        def stream() -> Iterator[dict[str, Any]]:
            for n in range(3_000):
                if n == 1_400:  # inside the third chunk, of which nothing was taken yet
                    other = threading.Thread(target=lambda: receipts.append(rt.consent.withdraw("ann", [P])))
                    other.start()
                    other.join()
                yield {"type": "view", "user": ("ann", "bob")[n % 2], "item": "x", "id": f"{n}"}

        summary = rt.track_many(stream())
        assert receipts[0].receipt.keys_destroyed == 1
        assert (summary.accepted, summary.no_consent) == (1_500 + 512, 1_500 - 512)
        rt.flush()
        with rt._database.read() as tx:
            assert tx.events(dead.handle) == []
        assert rt.read("activity:n", user="ann").status is er.Status.REVOKED
        assert rt.read("activity:n", user="bob").value == 1_500
        rt.consent.give("ann", [P], notice="n")
        assert rt.read("activity:n", user="ann").value == 0
        assert rt.track("view", user="ann", item="x") is er.ACCEPTED
        assert rt.read("activity:n", user="ann").value == 1


def test_law_2_withdrawals_race_with_track_many_and_nothing_of_a_dead_key_is_written(tmp_path: Path) -> None:
    """Giving and withdrawing all the while: rows hang only on living keys, and each count begins at 0."""
    key = er.KeyFile(tmp_path / "device.key")
    fast = er.Settings(commit_interval_us=500)
    with er.Runtime.open(tmp_path / "cache.db", catalog=SHOP, key=key, settings=fast) as rt:
        over, taken = threading.Event(), threading.Event()

        def decide() -> None:
            for _ in range(30):
                rt.consent.give("ann", [P], notice="n")
                assert taken.wait(20)
                rt.consent.withdraw("ann", [P])
                taken.clear()
            over.set()

        other = threading.Thread(target=decide)
        other.start()
        while not over.is_set():
            if rt.track_many([{"type": "view", "user": "ann", "item": "x"}] * 700).accepted:
                taken.set()
        other.join()
        rt.flush()
        with rt._database.read() as tx:
            ring = rt._keyring
            assert tx.handles() <= {key.handle for key in (*ring.every_key(), ring.device_key())}
        assert rt.read("activity:n", user="ann").status is er.Status.REVOKED
        rt.consent.give("ann", [P], notice="n")
        assert rt.read("activity:n", user="ann").value == 0


def test_a_hundred_thousand_events_of_one_subject_stay_whole_and_cheap_to_store(tmp_path: Path) -> None:
    """Rows hold many events, a state that knows many ids is not written all the time, and nothing is lost."""
    key, count = er.KeyFile(tmp_path / "device.key"), 100_000
    with er.Runtime.open(tmp_path / "cache.db", catalog=SHOP, key=key) as rt:
        rt.consent.give("bob", [P], notice="n")
        stream = ({"type": "view", "user": "bob", "item": "x", "id": f"{n}"} for n in range(count))
        assert rt.track_many(stream).accepted == count
        rt.flush()
        bob = rt._keyring.key("user:bob", P)
        assert bob is not None
        with rt._database.read() as tx:
            assert len(tx.events(bob.handle)) < count / 50
        rt._upkeep.stop()
    with er.Runtime.open(tmp_path / "cache.db", catalog=SHOP, key=key) as rt:
        assert rt.read("activity:n", user="bob").value == count
        assert rt.track("view", user="bob", item="x", id=f"{count - 1}") is er.DUPLICATE


@pytest.mark.parametrize("subject", ["ann", "bob"])
def test_law_1_permission_is_asked_again_for_every_chunk(subject: str) -> None:
    """What was found for one chunk is not believed in the next."""
    kiosk = Kiosk()
    event = {"type": "view", "user": subject, "item": "x"}
    assert kiosk.rt.track_many([event] * 3).accepted == 3
    kiosk.rt.consent.withdraw(subject)
    assert kiosk.rt.track_many([event] * 3).no_consent == 3
    kiosk.rt.consent.give(subject, [P], notice="n")
    assert kiosk.rt.track_many([event] * 3).accepted == 3
    assert kiosk.rt.read("activity:n", user=subject).value == 3
    kiosk.rt.close()
