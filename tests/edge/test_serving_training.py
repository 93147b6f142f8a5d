"""A replayed service row has the bits of the row that would have been served then."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from edge_runtime.catalog import Catalog
from edge_runtime.errors import MalformedEvent, MalformedRequest
from edge_runtime.history.replay import replay
from edge_runtime.serving.plan import compile_service
from edge_runtime.serving.reads import ServerRow, SessionValues
from edge_runtime.serving.status import Status
from edge_runtime.session.event import event_from_dict
from edge_runtime.session.plan import compile_catalog
from tests.support.broken_catalog import SHOP
from tests.support.held_source import HeldSource

CATALOG = Catalog.load(SHOP)
START_S = 1_700_000_000
ITEMS = ("a", "b", "c", "d")
DAY_S = 86_400


def history(seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    found: list[dict[str, Any]] = []
    for n in range(120):
        kind = rng.choice(("view", "view", "buy"))
        event: dict[str, Any] = {"type": kind, "user": rng.choice(("alice", "bob")), "id": f"e{n}"}
        event |= {"item": rng.choice(ITEMS), "price": round(rng.uniform(1, 9), 2)}
        found.append(event | {"at": START_S + rng.randrange(DAY_S)})
    return found


def feature_rows(seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for n in range(60):
        at = START_S + rng.randrange(DAY_S)
        item = rng.choice(ITEMS)
        values = {"popularity": rng.random(), "co_bought": {other: rng.random() for other in ITEMS}}
        rows.append({"view": "item_stats", "entity": f"item:{item}", "event_time": at, "values": values})
        if n % 4 == 0:
            embedding = [rng.uniform(-1, 1) for _ in range(16)]
            row = {"view": "item_vec", "version": 2, "entity": f"item:{item}", "event_time": at}
            rows.append({**row, "values": {"embedding": embedding}})
    profile = {"view": "profile", "entity": "user:alice", "values": {"country": "FR"}}
    return [*rows, {**profile, "event_time": datetime.fromtimestamp(START_S, UTC)}]


def served(point: dict[str, Any], events: list[dict[str, Any]], rows: list[dict[str, Any]]) -> Any:
    """The oracle: track what had happened, hold what had been pushed, ask the live plan."""
    t_us = int(point["at"]) * 1_000_000
    source, engine = HeldSource(), compile_catalog(CATALOG).views["activity@1"]
    for row in rows:
        at = row["event_time"]
        at_us = (START_S if isinstance(at, datetime) else int(at)) * 1_000_000
        place = CATALOG.view(row["view"]).key, row["entity"]
        held = source.rows.get(place)
        if at_us <= t_us and (not isinstance(held, ServerRow) or held.event_time_us <= at_us):
            source.rows[place] = ServerRow(row["values"], at_us, at_us)
    state = engine.new_state()
    for given in sorted(events, key=lambda e: (e["at"], e["id"])):
        if given["user"] == point["user"] and given["at"] <= point["at"]:
            event = event_from_dict(CATALOG, given, now_us=t_us)
            engine.apply(state, event, given["id"], event.at_us)

    def resolve(embedding: str, item: str) -> Any:
        row = source.rows.get(("item_vec@2", f"item:{item}"))
        return row.values["embedding"] if isinstance(row, ServerRow) else None

    values = engine.values(state, t_us, resolve)
    source.sessions["activity@1", f"user:{point['user']}"] = SessionValues(values, state.newest_us)
    plan = compile_service(CATALOG, CATALOG.service("ranker"))
    ids = {"user": point["user"], "item": point["item"]}
    return plan.vector(source, ids, t_us, None, point.get("request"))


def test_law_8_a_training_row_has_the_bits_of_the_served_row() -> None:
    """At forty random points, whatever the order of the events: all is as served then."""
    events, rows, rng = history(1), feature_rows(2), random.Random(3)
    points: list[dict[str, Any]] = [
        {"user": user, "item": rng.choice(ITEMS), "at": START_S + rng.randrange(2 * DAY_S)}
        for user in ("alice", "bob") * 20
    ]
    points = [{**p, "request": {"ctx:hour": n % 24}} if n % 3 else p for n, p in enumerate(points)]
    shuffled = events.copy()
    rng.shuffle(shuffled)
    told = replay(CATALOG, shuffled, points=points, service="ranker", rows=rows)
    matrix = told.to_numpy()
    assert isinstance(matrix, np.ndarray)
    assert matrix.dtype == np.float32
    assert matrix.shape == (40, 12)
    seen: set[int] = set()
    for n, point in enumerate(points):
        vector = served(point, events, rows)
        assert matrix[n].tobytes() == vector.values.tobytes()
        assert [told.status(name)[n] for name in told.names] == vector.status.tolist()
        seen |= set(vector.status.tolist())
    assert {Status.PRESENT, Status.DEFAULTED, Status.EXPIRED, Status.NULL} <= seen


def test_the_newest_row_at_or_before_the_point_counts() -> None:
    """A row of exactly the point's time counts, a later does not; of equal times the last created wins."""
    base = {"view": "item_stats", "entity": "item:a"}
    rows = [
        {**base, "event_time": START_S, "created": START_S + 9, "values": {"popularity": 0.2}},
        {**base, "event_time": START_S, "created": START_S + 1, "values": {"popularity": 0.1}},
        {**base, "event_time": START_S + 1, "values": {"popularity": 0.9}},
    ]
    points = [{"user": "alice", "item": "a", "at": START_S + s} for s in (-1, 0, 1)]
    refs = ["item_stats:popularity"]
    told = replay(CATALOG, [], points=points, refs=refs, rows=rows)
    assert told.column(refs[0]) == [0.0, 0.2, 0.9]
    assert told.status(refs[0]) == [Status.DEFAULTED, Status.PRESENT, Status.PRESENT]
    seen = replay(CATALOG, [], points=points, refs=refs, rows=rows, as_seen=True)
    assert seen.column(refs[0]) == [0.0, 0.0, 0.9]


def test_references_are_replayed_as_read_would_tell() -> None:
    """An event at exactly the point is included; what nobody did is 0, PRESENT."""
    events = [{"type": "view", "user": "alice", "item": "a", "at": START_S}]
    row = {"view": "item_vec", "entity": "item:a", "event_time": START_S}
    rows = [{**row, "values": {"embedding": [2.0] * 16}}]
    points = [{"user": "alice", "at": START_S}, {"user": "bob", "at": START_S}]
    told = replay(CATALOG, events, points=points, refs=["activity:views_5m", "activity@1:taste"], rows=rows)
    assert told.column("activity:views_5m") == [1, 0]
    assert told.status("activity:views_5m") == [0, 0]
    taste = told.column("activity@1:taste")
    assert np.array_equal(np.asarray(taste[0]), [2.0] * 16)
    assert told.status("activity@1:taste") == [Status.PRESENT, Status.NULL]


@pytest.mark.parametrize(
    "bad",
    [
        {"view": "item_stats", "entity": "item:a", "event_time": START_S},
        {"view": "item_stats", "entity": "item:a", "event_time": START_S, "values": {"ghost": 1}},
        {"view": "item_stats", "entity": "", "event_time": START_S, "values": {}},
        {"view": "item_stats", "entity": "item:a", "event_time": "noon", "values": {}},
        {"view": "activity", "entity": "user:alice", "event_time": START_S, "values": {}},
        {"view": "ghost", "entity": "item:a", "event_time": START_S, "values": {}},
        {"entity": "item:a", "event_time": START_S, "values": {}},
    ],
)
def test_a_bad_row_is_refused(bad: dict[str, object]) -> None:
    """A row without values or time, or of an unknown feature, view or entity, is the caller's error."""
    with pytest.raises(MalformedRequest):
        replay(CATALOG, [], points=[], service="ranker", rows=[bad])


@pytest.mark.parametrize(
    "point",
    [{"user": "a"}, {"user": 5, "at": START_S}, {"shop": "x", "at": START_S}, {"at": START_S, "request": 3}],
)
def test_a_bad_point_is_refused(point: dict[str, object]) -> None:
    """A point without a time, of an unknown entity or with an id that is no text is the caller's error."""
    with pytest.raises(MalformedRequest):
        replay(CATALOG, [], points=[point], service="ranker")


def test_exactly_one_of_refs_and_service_is_asked() -> None:
    """Both or none is the caller's error; a malformed event is named."""
    with pytest.raises(MalformedRequest):
        replay(CATALOG, [], points=[])
    with pytest.raises(MalformedRequest):
        replay(CATALOG, [], points=[], refs=["activity:pace"], service="ranker")
    with pytest.raises(MalformedEvent):
        replay(CATALOG, [{"type": "ghost", "at": START_S}], points=[], service="ranker")
