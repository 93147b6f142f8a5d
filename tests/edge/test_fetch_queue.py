"""What waits to be asked for: once each, oldest first, bounded, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

from edge_runtime.errors import MalformedRequest, RuntimeClosed, SyncError, SyncRefused
from edge_runtime.sync.fetch import Fetch, FetchAnswer
from edge_runtime.sync.fetch_places import Place, places_of
from edge_runtime.sync.fetch_queue import Batch, FetchQueue, fail
from tests.support.warm import warm_catalog

NOBODY = (None, None)
ADS = ("user:alice", "ads")
CATALOG = warm_catalog()
SEED = 7


def places(
    *items: str, view: str = "item_vec@1", pair: tuple[str | None, str | None] = NOBODY
) -> list[Place]:
    return [Place(view, (f"item:{item}",), *pair) for item in items]


def answered(batch: Batch) -> None:
    for fetches in batch.values():
        for fetch in fetches:
            fetch.came(found=True)


# ---- the queue -----------------------------------------------------------------------------------------


def test_what_is_taken_is_of_one_view_and_subject_oldest_first() -> None:
    queue = FetchQueue()
    wanted = [
        *places("a"),
        *places("x", pair=ADS),
        *places("b", view="other@1"),
        *places("c", "d"),
    ]
    for place in wanted:
        queue.add([place], Fetch(place.view_key, 1))
    assert queue.pairs() == {NOBODY, ADS}
    assert list(queue.take({NOBODY}, 2)) == places("a", "c")
    assert list(queue.take({NOBODY}, 2)) == places("b", view="other@1")
    assert list(queue.take({NOBODY, ADS}, 2)) == places("x", pair=ADS)
    assert list(queue.take({ADS}, 2)) == []
    assert list(queue.take({NOBODY}, 2)) == places("d")
    assert len(queue) == 0


def test_wanted_twice_it_is_asked_once_but_not_after_it_was_asked() -> None:
    """The answer on its way may be older than the second wish."""
    queue, first, second, third = FetchQueue(), *(Fetch("v@1", 1) for _ in range(3))
    queue.add(places("a"), first)
    queue.add(places("a"), second)
    flying = queue.take({NOBODY}, 9)
    queue.add(places("a"), third)
    answered(flying)
    assert (first.done, second.done, third.done) == (True, True, False)
    answered(queue.take({NOBODY}, 9))
    assert third.wait(0) == FetchAnswer(found=1, absent=0)


def test_law_11_a_full_queue_drops_its_oldest_and_says_so() -> None:
    """Also when the same row is wanted again and again, and when what was taken comes back."""
    queue = FetchQueue(4)
    fetches = [Fetch("v@1", 2) for _ in range(3)]
    for n, fetch in enumerate(fetches):
        queue.add(places(f"{n}", f"{n}'"), fetch)
    with pytest.raises(SyncError, match="dropped"):
        fetches[0].wait(0)
    assert [f.done for f in fetches] == [True, False, False]
    flying = queue.take({NOBODY}, 2)
    late = Fetch("v@1", 3)
    queue.add(places("x", "y"), late)
    queue.give_back(flying)
    assert fetches[1].done
    assert list(queue.take({NOBODY}, 9)) == places("2", "2'", "x", "y")
    crowd = [Fetch("v@1", 1) for _ in range(50)]
    for fetch in crowd:
        queue.add(places("same"), fetch)
    assert sum(fetch.done for fetch in crowd) >= 46


def test_what_comes_back_is_first_again_beside_who_came_later() -> None:
    queue, first, other, again = FetchQueue(), *(Fetch("v@1", 1) for _ in range(3))
    queue.add(places("a"), first)
    flying = queue.take({NOBODY}, 9)
    queue.add(places("b"), other)
    queue.add(places("a"), again)
    queue.give_back(flying)
    batch = queue.take({NOBODY}, 9)
    assert list(batch) == places("a", "b")
    answered(batch)
    assert [fetch.done for fetch in (first, other, again)] == [True, True, True]


def test_a_subject_that_is_erased_is_wanted_no_more() -> None:
    queue, hers, its = FetchQueue(), Fetch("v@1", 1), Fetch("v@1", 1)
    queue.add(places("x", pair=ADS), hers)
    queue.add(places("x"), its)
    queue.forget("user:alice", ["other"], SyncRefused("no_permission"))
    assert not hers.done
    queue.forget("user:alice", ["ads"], SyncRefused("no_permission"))
    with pytest.raises(SyncRefused, match="no_permission"):
        hers.wait(0)
    assert queue.pairs() == {NOBODY}
    assert not its.done


def test_after_closing_everybody_is_told_at_once() -> None:
    queue, before, flown, after = FetchQueue(), *(Fetch("v@1", 1) for _ in range(3))
    queue.add(places("f"), flown)
    flying = queue.take({NOBODY}, 9)
    queue.add(places("a"), before)
    queue.close()
    queue.add(places("b"), after)
    queue.give_back(flying)
    for fetch in (before, flown, after):
        with pytest.raises(RuntimeClosed):
            fetch.wait(0)
    assert len(queue) == 0


def test_random_wishes_are_each_settled_once() -> None:
    """Whatever is wanted, taken, answered, given back, or dropped: every handle ends, none too soon."""
    rng = random.Random(SEED)
    print("seed", SEED)
    queue, fetches, flying = FetchQueue(30), list[Fetch](), list[Batch]()
    for _ in range(3_000):
        match rng.randrange(6):
            case 0 | 1:
                wanted = places(*{f"{rng.randrange(20)}" for _ in range(rng.randrange(1, 6))})
                fetches.append(Fetch("v@1", len(wanted)))
                queue.add(wanted, fetches[-1])
            case 2:
                batch = queue.take({NOBODY}, rng.randrange(1, 9))
                if batch:
                    flying.append(batch)
            case 3 if flying:
                answered(flying.pop(rng.randrange(len(flying))))
            case 4 if flying:
                queue.give_back(flying.pop(rng.randrange(len(flying))))
            case 5 if flying and rng.random() < 0.3:
                fail([flying.pop()], SyncError("no"))
        assert queue._entries == sum(map(len, queue._waiting.values())) <= 30
    for batch in flying:
        answered(batch)
    queue.close()
    assert all(fetch.done and fetch._left == 0 for fetch in fetches)


# ---- the handle ----------------------------------------------------------------------------------------


async def test_a_handle_can_be_awaited_before_and_after_from_any_loop() -> None:
    fetch = Fetch("v@1", 2)
    waiting = asyncio.ensure_future(fetch._awaited())
    await asyncio.sleep(0)
    fetch.came(found=False)
    await asyncio.sleep(0)
    assert not waiting.done()
    thread = threading.Thread(target=lambda: fetch.came(found=True))
    thread.start()
    async with asyncio.timeout(10):
        assert await waiting == FetchAnswer(1, 1)
    assert await fetch == fetch.wait() == FetchAnswer(1, 1)
    thread.join()
    gone = Fetch("v@1", 1)
    cancelled = asyncio.ensure_future(gone._awaited())
    await asyncio.sleep(0)
    cancelled.cancel()
    gone.failed(SyncError("late"))
    with pytest.raises(SyncError):
        await gone


def test_one_row_that_failed_fails_the_whole_once_all_is_settled() -> None:
    """The first reason is told; nothing of the ids is printed."""
    fetch = Fetch("v@1", 3)
    fetch.failed(SyncRefused("no_permission"))
    fetch.failed(SyncError("other"))
    assert not fetch.done
    fetch.came(found=True)
    with pytest.raises(SyncRefused):
        fetch.wait(0)
    assert repr(fetch) == "Fetch(v@1, done=True)"
    assert "alice" not in repr(Place("v@1", ("user:alice",), "user:alice", "ads"))


# ---- what may be asked for -----------------------------------------------------------------------------


def test_every_id_with_every_other_each_once() -> None:
    found = places_of(CATALOG, "taste", {"item": ["a", "b", "a"], "user": "al"}, 512)
    assert [place.entity for place in found] == ["user:al|item:a", "user:al|item:b"]
    assert [place.on_wire("~t") for place in found] == ["~t|item:a", "~t|item:b"]
    assert {(place.subject, place.purpose) for place in found} == {("user:al", "personalization")}
    assert places_of(CATALOG, "item_vec@1", {"item": ("a",)}, 512)[0].subject is None
    assert len(places_of(CATALOG, "item_vec", {"item": [f"{n}" for n in range(256)]}, 512)) == 256


@pytest.mark.parametrize(
    ("view", "ids", "place"),
    [
        ("item_vec", {"item": [f"{n}" for n in range(257)]}, "entities"),
        ("taste", {"item": [f"{n}" for n in range(20)], "user": [f"{n}" for n in range(20)]}, "entities"),
        ("item_vec", {"item": []}, "entities"),
        ("item_vec", {}, "entities"),
        ("item_vec", {"user": "a"}, "entities"),
        ("taste", {"item": "a"}, "entities"),
        ("item_vec", {"item": ""}, "item"),
        ("item_vec", {"item": ["a", 7]}, "item"),
        ("item_vec", {"item": 7}, "item"),
        ("item_vec", {"item": "\ud800"}, "item"),
        ("item_vec", {"item": "x" * 508}, "item"),
        ("item_vec", {"item": iter("ab")}, "item"),
        ("secret", {"item": "a"}, "view"),
        ("activity", {"user": "a"}, "view"),
        ("item_vec@9", {"item": "a"}, "view"),
    ],
)
def test_law_12_what_does_not_fit_is_a_clear_error(view: str, ids: dict[str, object], place: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        places_of(CATALOG, view, ids, 512)  # type: ignore[arg-type]
    assert caught.value.place == place
    assert "\ud800" not in str(caught.value)
