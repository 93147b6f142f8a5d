"""Several processes replay as one does: the same bits, the same order, the same first fault."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import edge_runtime as er
from edge_runtime.errors import MalformedEvent, MalformedRequest
from edge_runtime.history.replay import replay
from edge_runtime.history.shards import Shards, dealt_by
from edge_runtime.serving.past_rows import PastRows
from edge_runtime.serving.training import Question
from edge_runtime.session.event import Event
from edge_runtime.session.replay import Received
from tests.support.keyed_town import CATALOG, DAY_S, ITEMS, REFS, START_S, USERS, history, points, rows


@pytest.mark.parametrize("as_seen", [False, True])
def test_law_8_any_number_of_workers_gives_the_same_bits_in_the_same_order(as_seen: bool) -> None:
    """A service over views of three keys, embeddings and lookups; one, two and three processes."""
    told = [
        replay(CATALOG, history(), points=points(), service="ranker", rows=rows(), as_seen=as_seen, workers=n)
        for n in ((1, 2) if as_seen else (1, 2, 3))
    ]
    for one in told[1:]:
        assert one.names == told[0].names
        assert bits(one) == bits(told[0])
        assert all(one.status(name) == told[0].status(name) for name in one.names)


def bits(table: er.Table) -> bytes:
    matrix = table.to_numpy()
    assert isinstance(matrix, np.ndarray)
    return matrix.tobytes()


def test_law_8_references_of_several_views_come_back_as_one_process_gives_them() -> None:
    """Lists, maps, vectors and numbers, each at its point; events as dicts, Events and Received."""
    events: list[Any] = [as_event(e) if n % 3 == 0 else e for n, e in enumerate(history())]
    one, two = (
        replay(CATALOG, iter(events), points=points(), refs=REFS, rows=rows(), workers=n) for n in (1, 2)
    )
    for ref in REFS:
        assert [plain(v) for v in two.column(ref)] == [plain(v) for v in one.column(ref)]
        assert two.status(ref) == one.status(ref)


def as_event(flat: dict[str, Any]) -> Received:
    entities: dict[str, str] = {kind: flat[kind] for kind in ("user", "item") if kind in flat}
    at_us = flat["at"] * 1_000_000
    return Received(Event(flat["type"], entities, {"price": flat["price"]}, at_us), at_us + 5)


def plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else value


def test_points_are_dealt_by_the_key_that_most_views_share_and_events_go_where_they_are_read() -> None:
    """Of user, user|item and item the user wins; an item's event goes to each worker that reads the item."""
    question = Question(CATALOG, None, "ranker", as_seen=False)
    moments = question.moments(points())
    assert dealt_by(question) == "user"
    shards = Shards(question, moments, 3)
    assert sorted(n for part in shards.points for n in part) == list(range(300))
    homes: dict[str, set[int]] = {}
    for worker, part in enumerate(shards.points):
        for number in part:
            homes.setdefault(moments[number].ids["user"], set()).add(worker)
    assert all(len(home) == 1 for home in homes.values())
    assert shards.of_event(5, {"type": "restock", "item": "i1", "at": START_S}) == (0, 1, 2)
    viewed = {"type": "view", "user": "user-1", "item": "i1", "at": START_S}
    assert shards.of_event(5, viewed) == tuple(homes["user-1"])
    assert shards.of_event(5, viewed | {"user": "stranger"}) == (5 % 3,)


def test_rows_of_a_subject_go_to_one_worker_and_those_found_by_a_value_to_all() -> None:
    """Embeddings and sums of lookups are read by ids out of a value, so every worker needs them."""
    question = Question(CATALOG, None, "ranker", as_seen=False)
    shards, past = (
        Shards(question, question.moments(points()), 2),
        PastRows.of(CATALOG, rows(), as_seen=False),
    )
    parts = [shards.of_rows(past, worker) for worker in (0, 1)]
    t_us = (START_S + 9 * DAY_S) * 10**6
    for user in USERS:
        found = [type(part.at("profile@1", f"user:{user}", t_us)).__name__ for part in parts]
        assert sorted(found) == ["Missing", "ServerRow"]
    items = [part.at("item_vec@1", f"item:{ITEMS[0]}", t_us) for part in parts]
    assert [type(found).__name__ for found in items] == ["ServerRow"] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_law_12_the_first_bad_event_is_named_whoever_meets_it(workers: int) -> None:
    """A bad event of a stranger, another behind it: the first is told, also where the source then fails."""
    events = history()[:200]
    events[50] = events[0] | {"type": "view", "user": "stranger", "price": float("nan")}
    events[120] = events[120] | {"price": "much"}
    first = r"^events\[50\]\.view\.price: expected a finite number, got NaN"
    with pytest.raises(MalformedEvent, match=first):
        replay(CATALOG, events, points=points(20), refs=REFS, workers=workers)

    def failing() -> Iterator[dict[str, Any]]:
        yield from events[:130]
        raise OSError("the source is gone")

    with pytest.raises(MalformedEvent, match=r"^events\[50\]"):
        replay(CATALOG, failing(), points=points(20), refs=REFS, workers=workers)
    with pytest.raises(OSError, match="the source is gone"):
        replay(CATALOG, iter_failing(events[:50]), points=points(20), refs=REFS, workers=workers)
    with pytest.raises(MalformedRequest, match=r"points\[0\]\.at"):
        replay(CATALOG, failing(), points=[{"user": "a", "item": "b"}] * 2, refs=REFS, workers=workers)


def iter_failing(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield from events
    raise OSError("the source is gone")


@pytest.mark.parametrize("program", ["import sys; sys.exit(3)", "import sys; sys.stdin.buffer.read()"])
def test_a_worker_that_ends_without_an_answer_is_an_error_and_none_is_left(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends at once, or when all events are sent: no hang, no half answer, no process."""
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{program}'\n")
    interpreter.chmod(0o755)
    before = len(psutil.Process().children())
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(ChildProcessError, match="got the end of one"):
        replay(CATALOG, history() * 5, points=points(), refs=REFS, workers=2)
    assert len(psutil.Process().children()) == before
    monkeypatch.setattr(sys, "executable", None)
    with pytest.raises(ChildProcessError, match="expected a Python interpreter"):
        replay(CATALOG, [], points=points(), refs=REFS, workers=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_events_and_points_to_the_end(workers: int) -> None:
    """Done never falls; the total is not known while an iterator still runs, then it is exact."""
    told: list[tuple[int, int | None]] = []
    events = history()[:1000]
    replay(
        CATALOG,
        iter(events),
        points=points(),
        refs=["activity:spent"],
        workers=workers,
        progress=lambda done, total: told.append((done, total)),
    )
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[0][1] in (None, 1300)
    assert told[-1] == (1300, 1300)
