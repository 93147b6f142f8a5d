"""What another node wrote is told by the poll to everybody, whoever found it before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sync_server.consent.decisions import API, Proposal
from sync_server.store.sqlite import SqliteStore
from sync_server.sync.hints import Subscription
from sync_server.sync.lane_position import LanePosition
from tests.support.town import ALICE, P, Town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town")
    made.put(5)
    yield made
    made.close()


@pytest.fixture
def quiet(town: Town) -> Subscription:
    """A session's ear: it follows `all`, was told all there is and waits."""
    subscription = town.node.hints.subscribe()
    town.node.hints.follow(subscription, "all")
    town.node.fanout.delta("all", 0, replacing=True)
    assert town.node.heads.poll() == 0
    assert not subscription.wake.is_set()
    return subscription


@contextmanager
def elsewhere(town: Town) -> Iterator[SqliteStore]:
    """The same store in the hands of another node: what it commits is no hint here."""
    keys, digest_key = town.settings.key_database, town.authority.digest_key
    other = SqliteStore(town.settings.database, keys, digest_key=digest_key, entropy=town.entropy)
    yield other
    other.close()


def test_rows_that_one_session_came_upon_unheard_are_told_to_all_by_the_poll(
    town: Town, quiet: Subscription
) -> None:
    """A device further behind reads on, and finds the new head; the one that waits is woken all the same."""
    with elsewhere(town) as other, other.write("publish") as tx:
        tx.put_row("all", town.item_row(9))
    assert town.node.fanout.delta("all", 2, replacing=False).upto == 6
    assert not quiet.wake.is_set()
    assert town.node.heads.poll() == 1
    assert quiet.wake.channel == "all"
    quiet.wake.clear()
    assert town.node.heads.poll() == 0, "once is enough"


def test_rows_found_unheard_are_no_news_after_a_hint(town: Town, quiet: Subscription) -> None:
    """The next publish here wakes every follower: the poll has nothing to add."""
    with elsewhere(town) as other, other.write("publish") as tx:
        tx.put_row("all", town.item_row(9))
    town.node.fanout.delta("all", 2, replacing=False)
    town.put(1)
    assert quiet.wake.channel == "all"
    assert town.node.heads.poll() == 0


def test_law_2_a_decision_that_one_session_came_upon_unheard_is_told_to_all_by_the_poll(
    town: Town, quiet: Subscription
) -> None:
    """One session reads rows of a later epoch and says the lane first; the others hear of it at the poll."""
    with elsewhere(town) as other, other.write("decide") as tx:
        denied = Proposal(town.pseudonym(ALICE), P, "withdrawn", "2026-11", 0, 1, API)
        town.office.decide(tx, denied)
    finder = LanePosition(town.node.lane)
    finder.begin(0)
    finder.first()
    assert finder.drained == 1
    assert not quiet.wake.is_set()
    assert town.node.heads.poll() == 1
    assert quiet.wake.lane
    quiet.wake.clear()
    assert town.node.heads.poll() == 0, "once is enough"
