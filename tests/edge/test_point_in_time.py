"""At every point stands what was known of that time: against joins and searches made elsewhere."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
import pytest

import edge_runtime as er
from edge_runtime.session.plan import compile_catalog
from edge_runtime.session.replay import Histories, states_at
from tests.support.broken_catalog import SHOP
from tests.support.keyed_town import CATALOG as TOWN
from tests.support.keyed_town import history, points, rows

CATALOG = er.Catalog.load(SHOP)
START_S, HOUR_S = 1_700_000_000, 3600
POPULARITY, PRESENT = "item_stats:popularity", er.Status.PRESENT


def published(count: int, seed: int) -> list[dict[str, Any]]:
    """Popularity of five items, with ties of the event time that only `created` tells apart."""
    rng = random.Random(seed)
    return [
        {"view": "item_stats", "entity": f"item:{rng.randrange(5)}", "event_time": at}
        | {"created": at + rng.randrange(500), "values": {"popularity": n / count}}
        for n in range(count)
        for at in (START_S + rng.randrange(0, 48 * HOUR_S, 600),)
    ]


def asked(count: int, seed: int) -> list[dict[str, Any]]:
    """Out of order, twice the same, before all rows and long after them."""
    rng = random.Random(seed)
    found = [
        {
            "user": "alice",
            "item": str(rng.randrange(6)),
            "at": START_S + rng.randrange(-HOUR_S, 60 * HOUR_S, 300),
        }
        for _ in range(count)
    ]
    return found + found[: count // 4]


def joined(rows: list[dict[str, Any]], points: list[dict[str, Any]], ttl_s: float) -> list[float]:
    """The oracle: pandas' `merge_asof` by entity, backward, the last of ties, within the ttl; else NaN."""
    right = pd.DataFrame([{"at": r["event_time"], "item": r["entity"][5:], **r, **r["values"]} for r in rows])
    right = right.sort_values(["at", "created"], kind="stable").reset_index()
    left = pd.DataFrame(points).reset_index().sort_values("at", kind="stable")
    found = pd.merge_asof(left, right[["at", "item", "popularity"]], on="at", by="item", tolerance=ttl_s)
    values: list[float] = found.sort_values("index")["popularity"].tolist()
    return values


def test_rows_are_joined_as_merge_asof_joins_them() -> None:
    """The newest row at or before the point, ties by `created`, none older than the ttl of two hours."""
    published_rows, points = published(400, 1), asked(600, 2)
    random.Random(3).shuffle(published_rows)
    table = er.replay(CATALOG, [], points=points, refs=[POPULARITY], rows=published_rows)
    expected = joined(published_rows, points, 2 * HOUR_S)
    for value, status, oracle in zip(
        table.column(POPULARITY), table.status(POPULARITY), expected, strict=True
    ):
        assert (value if status == PRESENT else None) == (None if oracle != oracle else oracle)
    seen = set(table.status(POPULARITY))
    assert {er.Status.PRESENT, er.Status.EXPIRED, er.Status.DEFAULTED} <= seen
    vectors = er.replay(CATALOG, [], points=points, service="ranker", rows=published_rows)
    served = [
        v for v, s in zip(vectors.column(POPULARITY), vectors.status(POPULARITY), strict=True) if s == PRESENT
    ]
    assert served == [float(np.float32(v)) for v in expected if v == v]


def test_as_seen_joins_only_what_was_created_by_then() -> None:
    """Against a plain search: of the rows of then that were there by then, the newest by (time, created)."""
    published_rows, points = published(300, 4), asked(300, 5)
    table = er.replay(CATALOG, [], points=points, refs=[POPULARITY], rows=published_rows, as_seen=True)
    for n, point in enumerate(points):
        mine = [
            (r["event_time"], r["created"], r["values"]["popularity"])
            for r in published_rows
            if r["entity"] == f"item:{point['item']}" and r["event_time"] <= point["at"] >= r["created"]
        ]
        newest = max(mine, default=None)
        fresh = newest is not None and newest[0] + 2 * HOUR_S >= point["at"]
        assert (table.status(POPULARITY)[n] == PRESENT) is fresh
        if newest is not None and fresh:
            assert table.column(POPULARITY)[n] == newest[2]


@pytest.mark.parametrize("as_seen", [False, True])
def test_each_state_is_that_of_the_events_known_by_then_fed_anew(as_seen: bool) -> None:
    """Against a replay of each point alone over only the events that it may know."""
    events, some = history(), points(60)
    if not as_seen:
        events = [{k: v for k, v in e.items() if k != "id"} for e in events]
    refs = ["activity:spent", "activity:last", "activity:by_item", "pair:times", "crowd:seen"]
    together = er.replay(TOWN, events, points=some, refs=refs, rows=rows(), as_seen=as_seen)
    for n, point in enumerate(some):
        known = [e for e in events if (e.get("received", e["at"]) if as_seen else e["at"]) <= point["at"]]
        alone = er.replay(TOWN, known, points=[point], refs=refs, rows=rows(), as_seen=as_seen)
        for ref in refs:
            assert together.column(ref)[n] == alone.column(ref)[0]


def test_as_seen_of_one_id_the_first_received_counts_whoever_was_given_first() -> None:
    """A device takes the first that comes; as it was, with no times of receipt, the first given stands."""
    base = {"type": "view", "user": "alice", "item": "a", "at": START_S, "id": "x"}
    events = [base | {"received": START_S + 50}, base | {"received": START_S + 10, "item": "b"}]
    some = [{"user": "alice", "at": START_S + s} for s in (20, 60)]
    seen, whole = (
        er.replay(CATALOG, events, points=some, refs=["activity:last_items"], as_seen=as_seen)
        for as_seen in (True, False)
    )
    assert seen.column("activity:last_items") == [["b"], ["b"]]
    assert whole.column("activity:last_items") == [["a"], ["a"]]


def test_as_seen_a_receipt_before_the_event_does_not_show_it_early() -> None:
    """A device clock ahead of the server's: the event still counts from its own time on."""
    event = {"type": "view", "user": "alice", "item": "a", "at": START_S, "received": START_S - 100}
    some = [{"user": "alice", "at": START_S + s} for s in (-50, 0)]
    table = er.replay(CATALOG, [event], points=some, refs=["activity:views_5m"], as_seen=True)
    assert table.column("activity:views_5m") == [0, 1]


def test_as_seen_without_times_of_receipt_is_as_it_was() -> None:
    """What came at once was seen at once."""
    events = [{k: v for k, v in e.items() if k not in ("received", "id")} for e in history()]
    tables = [
        er.replay(TOWN, events, points=points(), service="ranker", rows=rows()[::2], as_seen=seen)
        for seen in (False, True)
    ]
    assert all(
        tables[0].column(n) == tables[1].column(n) for n in ("activity:spent", "pair:times", "crowd:seen")
    )


def test_embeddings_are_those_of_the_point_and_expire_with_their_view() -> None:
    """The profile vector moves when the item's embedding does, though no event comes."""
    events = [{"type": "view", "user": "alice", "item": "a", "at": START_S}]
    embeddings: list[dict[str, Any]] = [
        {
            "view": "item_vec",
            "entity": "item:a",
            "event_time": START_S + at,
            "values": {"embedding": [x] * 16},
        }
        for at, x in ((-5, 1.0), (100, 3.0), (200, -2.0))
    ]
    some = [{"user": "alice", "at": START_S + s} for s in (200, 0, 99, 100, -9)]
    table = er.replay(CATALOG, events, points=some, refs=["activity:taste"], rows=embeddings)
    firsts = [None if v is None else np.asarray(v)[0] for v in table.column("activity:taste")]
    assert firsts == [-2.0, 1.0, 1.0, 3.0, None]


def test_a_state_is_run_once_however_many_points_ask() -> None:
    """Ten thousand points of one subject feed each event once: the work does not multiply."""
    plan = compile_catalog(TOWN)
    view, place = plan.views["activity@1"], ("activity@1", "user:user-1")
    found = Histories(TOWN, plan, [place])
    found.take_all(history(), count())
    events, fed = found.sorted(place), 0
    update: Callable[..., None] = view.update

    def counted(*given: Any) -> None:
        nonlocal fed
        fed += 1
        update(*given)

    view.update = counted
    times_us = np.linspace(events.times_us[0], events.times_us[-1], 10_000, dtype=np.int64).tolist()
    assert sum(1 for _ in states_at(view, events, times_us)) == 10_000
    assert fed == len(events.events)


def test_a_table_keeps_its_bits_in_pandas_arrow_and_numpy() -> None:
    """Numbers, texts, lists, maps, vectors and nothing at all, of references and of a service."""
    some, refs = (
        points(40),
        ["activity:spent", "activity:last", "activity:by_item", "activity:taste", "crowd:last_price"],
    )
    table = er.replay(TOWN, history(), points=some, refs=refs, rows=rows())
    frame, arrow, arrays = table.to_pandas(), table.to_arrow(), table.to_numpy()
    assert isinstance(arrays, dict)
    assert list(frame.columns) == arrow.column_names == list(arrays) == refs
    for ref in refs:
        expected = [
            None if v is None else v.tolist() if isinstance(v, np.ndarray) else v for v in table.column(ref)
        ]
        assert arrow.column(ref).to_pylist(maps_as_pydicts="strict") == expected
        assert [None if isinstance(v, float) and v != v else v for v in frame[ref].tolist()] == expected
    assert arrays["activity:spent"].tolist() == table.column("activity:spent")
    assert arrays["crowd:last_price"].dtype == np.float64
    service = er.replay(TOWN, history(), points=some, service="ranker", rows=rows())
    matrix = service.to_numpy()
    assert isinstance(matrix, np.ndarray)
    assert matrix.shape == (40, len(service.names))
    framed = service.to_pandas().to_numpy(dtype=np.float32)
    assert framed.tobytes() == matrix.tobytes()
    stacked = np.column_stack([c.to_numpy() for c in service.to_arrow().columns]).astype(np.float32)
    assert stacked.tobytes() == matrix.tobytes()
