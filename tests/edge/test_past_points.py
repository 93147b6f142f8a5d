"""Many points answered together are answered as each alone."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.catalog import Catalog
from edge_runtime.errors import MalformedRequest
from edge_runtime.history.replay import replay
from edge_runtime.serving.past_points import PointReader
from edge_runtime.serving.past_rows import PastRows
from edge_runtime.serving.training import Question, Training
from tests.edge.test_serving_training import CATALOG as SHOP
from tests.edge.test_serving_training import DAY_S, ITEMS, START_S, feature_rows, history
from tests.support import keyed_town

ODD = st.sampled_from(
    [None, 0.5, -0.0, 7, True, 1e300, 10**400, np.float32(2.5), float("nan"), "much", [1.0]]
)


def points(rng: random.Random, size: int) -> list[dict[str, Any]]:
    """In any order, some without an item, some with a request."""
    found: list[dict[str, Any]] = []
    for n in range(size):
        point: dict[str, Any] = {"user": rng.choice(("alice", "bob", "carol"))}
        point |= {"at": START_S + rng.randrange(-9, 3 * DAY_S)}
        point |= {"item": rng.choice(ITEMS)} if n % 5 else {}
        found.append(point | ({"request": {"ctx:hour": n % 24}} if n % 3 else {}))
    return found


def assert_same(
    catalog: Catalog, events: list[dict[str, Any]], rows: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> None:
    """Bit for bit and status for status what `ServicePlan.vector` tells of each point."""
    question = Question(catalog, None, "ranker", as_seen=False)
    assert question.service is not None
    moments = question.moments(asked)
    training = Training(question, PastRows.of(catalog, rows, as_seen=False), moments)
    training.take_all(events, count())
    source = training.source()
    found = PointReader(catalog, question.service, source).rows(moments)
    for n, moment in enumerate(moments):
        source.t_us = moment.at_us
        alone = question.service.vector(source, moment.ids, moment.at_us, None, moment.request)
        assert found.values[n].tobytes() == alone.values.tobytes()
        assert found.statuses[n].tolist() == alone.status.tolist()


@settings(max_examples=40)
@given(st.randoms(use_true_random=False), st.lists(st.tuples(st.sampled_from(ITEMS), ODD, ODD), max_size=4))
def test_law_8_points_together_have_the_bits_and_statuses_of_each_alone(
    rng: random.Random, odd: list[tuple[str, Any, Any]]
) -> None:
    """Rows missing, expired, foreign, not finite or beyond float64; ids and requests not given."""
    rows = rng.sample(feature_rows(rng.randrange(99)), rng.randrange(40))
    for item, popularity, co_bought in odd:
        values = {"popularity": popularity, "co_bought": {"a": co_bought} if co_bought != 7 else co_bought}
        at = START_S + rng.randrange(2 * DAY_S)
        rows.append({"view": "item_stats", "entity": f"item:{item}", "event_time": at, "values": values})
    assert_same(SHOP, history(rng.randrange(99)), rows, points(rng, 20))


def test_law_8_views_of_three_keys_and_sums_of_lookups_together() -> None:
    """Composite keys, two varying vectors and rows found by a value."""
    assert_same(keyed_town.CATALOG, keyed_town.history(), keyed_town.rows(), keyed_town.points())


def test_an_id_that_is_none_is_refused_among_many_points() -> None:
    """A lone surrogate has no bytes, so no row can be its."""
    asked = [{"user": "alice", "at": START_S}, {"user": "\ud800", "at": START_S}]
    with pytest.raises(MalformedRequest, match=r"^user: expected an id that is valid Unicode"):
        replay(SHOP, [], points=asked, service="ranker")
