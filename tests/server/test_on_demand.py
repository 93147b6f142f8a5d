"""What a server answers to a fetch: which views, whose rows, how many at once, in which frames."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import State
from sync_server.sync.rate import DeviceRate
from sync_server.sync.use import Use
from tests.support.town import ALICE, BOB, Kiosk, Session, Town
from tests.support.warm import publish, warm_catalog, warm_town

SEED = 11


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = warm_town(tmp_path / "town", fetches_waiting=3)
    yield made
    made.close()


@pytest.fixture
def session(town: Town, tmp_path: Path) -> Iterator[Session]:
    """Of a device on which alice gave her consent."""
    kiosk = Kiosk(town, tmp_path / "kiosk", catalog=warm_catalog())
    kiosk.give(ALICE)
    made = Session(kiosk)
    made.settle()
    yield made
    made.close()
    kiosk.close()


def fetch(view: str, *entities: str, id: int = 1) -> m.Fetch:
    return m.Fetch(id=bytes([id]) * 16, view=view, version=1, entities=list(entities))


def say(session: Session, *messages: m.Message) -> list[m.Message]:
    """Let the device say this; returns what the server answers, all of it."""
    for message in messages:
        session.server.hear(codec.encode(message))
    answers = []
    while (frame := session.next()) is not None:
        assert len(frame) <= codec.FRAME_LIMIT_BYTES
        answers.append(codec.decode(frame))
    return answers


def token(town: Town, subject: str) -> str:
    return seal.subject_token(town.pseudonym(subject))


def refusals(answers: list[m.Message]) -> list[tuple[str, str]]:
    return [(a.code, a.about) for a in answers if isinstance(a, m.Refusal)]


def test_what_stands_is_answered_and_what_does_not_is_left_out(town: Town, session: Session) -> None:
    publish(town, "item_vec", "item:a", rank=0.5)
    publish(town, "item_vec", "item:gone", deleted=True)
    publish(town, "item_stats", "item:hot", popularity=0.5)
    (answer,) = say(session, fetch("item_vec", "item:a", "item:gone", "item:b", "item:a", "~x"))
    assert isinstance(answer, m.Fetched)
    assert [(row.entity, row.view, row.grant, row.seq) for row in answer.rows] == [
        ("item:a", "item_vec", 0, 0)
    ]
    assert (answer.id, answer.more, answer.epoch) == (b"\x01" * 16, False, town.lane_head())
    (hot,) = say(session, fetch("item_stats", "item:hot"))
    assert isinstance(hot, m.Fetched)
    assert len(hot.rows) == 1


@pytest.mark.parametrize("view", ["secret", "activity", "nothing", "item_vec@1"])
def test_other_views_are_not_on_demand(town: Town, session: Session, view: str) -> None:
    """Cold, computed on the device, unknown; nor anything before a catalog is in force."""
    assert refusals(say(session, fetch(view, "item:a"))) == [("not_on_demand", "01" * 16)]
    town.catalog = None
    assert refusals(say(session, fetch("item_vec", "item:a"))) == [("not_on_demand", "01" * 16)]


def test_law_1_a_subjects_rows_go_to_who_follows_the_subject(town: Town, session: Session) -> None:
    """Not to a device that follows another; not under a grant of before; not by a name that is none."""
    town.decide(BOB, "given")
    session.settle()
    for subject in (ALICE, BOB):
        publish(town, "taste", subject, "item:a", likes=1.0)
    publish(town, "taste", ALICE, "item:old", likes=1.0, grant=77)
    hers, his = token(town, ALICE), token(town, BOB)
    (answer,) = say(session, fetch("taste", f"{hers}|item:a", f"{hers}|item:old"))
    assert isinstance(answer, m.Fetched)
    assert [row.entity for row in answer.rows] == [f"{hers}|item:a"]
    for names in (
        [f"{his}|item:a"],
        [f"{hers}|item:a", f"{his}|item:a"],
        ["item:a"],
        [f"{hers}|{his}"],
        ["user:alice|item:a"],
    ):
        assert refusals(say(session, fetch("taste", *names))) == [("no_permission", "01" * 16)]
    assert refusals(say(session, fetch("taste", "~not-a-token|item:a"))) == [("malformed", "01" * 16)]
    channel = session.kiosk.personal_channel(ALICE)
    asked = fetch("taste", f"{hers}|item:a")
    assert refusals(say(session, m.Unfollow(channel=channel), asked)) == [("no_permission", "01" * 16)]


def test_law_2_a_restriction_between_two_frames_ends_the_answer(town: Town, tmp_path: Path) -> None:
    """The row that was not sent yet stays at the server."""
    small = warm_town(tmp_path / "small", frame_rows=2)
    kiosk = Kiosk(small, tmp_path / "other", catalog=warm_catalog())
    kiosk.give(ALICE)
    session = Session(kiosk)
    session.settle()
    names = []
    for n in range(5):
        publish(small, "taste", ALICE, f"item:{n}", likes=1.0)
        names.append(f"{token(small, ALICE)}|item:{n}")
    session.settle()
    session.server.hear(codec.encode(fetch("taste", *names)))
    first = codec.decode(session.next() or b"")
    assert isinstance(first, m.Fetched)
    assert (len(first.rows), first.more) == (2, True)
    small.decide(ALICE, "restricted")
    assert isinstance(codec.decode(session.next() or b""), m.Lane)
    rest = say(session)
    assert refusals(rest) == [("no_permission", "01" * 16)]
    assert not any(isinstance(answer, m.Fetched) for answer in rest)
    session.close()
    kiosk.close()
    small.close()


def test_an_answer_is_never_ahead_of_the_lane_that_was_sent(town: Town, session: Session) -> None:
    """A decision that no hint told of: the lane goes first, then the same rows at its epoch."""
    publish(town, "item_vec", "item:a", rank=0.5)
    town.node.lane.refresh()
    session.settle()
    session.server.hear(codec.encode(fetch("item_vec", "item:a")))
    heard = town.node.hints._listeners[:]
    town.node.hints._listeners.clear()
    town.decide(BOB, "given")
    town.node.hints._listeners.extend(heard)
    frames = [codec.decode(session.next() or b""), codec.decode(session.next() or b"")]
    assert isinstance(frames[0], m.Lane)
    assert isinstance(frames[1], m.Fetched)
    assert frames[1].epoch == frames[0].upto == town.lane_head()


def test_large_rows_are_paged_within_the_frame(town: Town, session: Session) -> None:
    """30 rows of 20 KB: each frame within the limit, every row once, the last says that it is."""
    names = [f"item:{n}" for n in range(30)]
    for name in names[::2]:
        publish(town, "item_stats", name, co_bought={"x" * 20_000: 1.0})
    answers = say(session, fetch("item_stats", *names))
    assert all(isinstance(answer, m.Fetched) for answer in answers)
    parts = [answer for answer in answers if isinstance(answer, m.Fetched)]
    assert len(parts) >= 5
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert [row.entity for part in parts for row in part.rows] == names[::2]


def test_law_11_what_waits_is_bounded_and_the_same_again_is_one(town: Town, session: Session) -> None:
    """3 requests wait; a fourth is refused by its id, a repeated one is not answered twice."""
    asked = [fetch("item_vec", "item:a", id=n) for n in (1, 2, 2, 3, 4)]
    answers = say(session, *asked)
    assert refusals(answers) == [("overloaded", "04" * 16)]
    assert [a.id[0] for a in answers if isinstance(a, m.Fetched)] == [1, 2, 3]
    assert refusals(say(session, fetch("item_vec", "item:a", id=4))) == []


def test_what_is_asked_for_is_counted_and_nobodys_name_with_it(town: Town, session: Session) -> None:
    """For whoever chooses what is pushed; a subject's row is not."""
    publish(town, "taste", ALICE, "item:a", likes=1.0)
    say(session, fetch("item_vec", "item:a", "item:b"), fetch("taste", f"{token(town, ALICE)}|item:a", id=2))
    say(session, fetch("item_vec", "item:a"))
    use, now_us = town.node.on_demand.use, town.clock.now_us()
    assert use.of("item_vec@1", "item:a", now_us) == 2
    assert use.of("item_vec@1", "item:b", now_us) == 1
    assert len(use) == 2


def test_law_1_whatever_is_asked_for_no_row_of_another_subject_goes_out(town: Town, session: Session) -> None:
    """Names put together from pieces of real ones: each is answered or refused, and the session lives."""
    rng = random.Random(SEED)
    print("seed", SEED)
    town.decide(BOB, "given")
    session.settle()
    for subject in (ALICE, BOB):
        publish(town, "taste", subject, "item:a", likes=1.0)
    hers, his = token(town, ALICE), token(town, BOB)
    pieces = [
        hers,
        his,
        "~",
        "|",
        "item:a",
        "user:bob",
        hers[:-1],
        his.upper(),
        f"{his}|item:a",
        "item:|~x",
        "é",
    ]
    seen = set[str]()
    for n in range(400):
        names = ["".join(rng.choices(pieces, k=rng.randrange(1, 5))) for _ in range(rng.randrange(1, 4))]
        if rng.random() < 0.1:
            names = [f"{hers}|item:a"]
        view = rng.choice(["taste", "item_vec", "profile"])
        id_ = n.to_bytes(16, "big")
        answers = say(session, m.Fetch(id=id_, view=view, version=1, entities=names))
        assert len(answers) == 1
        if isinstance(answers[0], m.Fetched):
            seen.update(row.entity for row in answers[0].rows)
        else:
            assert refusals(answers)[0][1] == id_.hex()
    assert seen == {f"{hers}|item:a"}
    assert session.server.state is State.LIVE


# ---- what it counts with -------------------------------------------------------------------------------


def test_a_rate_is_of_the_device_and_fills_evenly() -> None:
    """Sixty a minute: what is missing says how long it takes, and is there then."""
    rate = DeviceRate(60, 2)
    assert rate.take("a", 60, 0) == 0
    assert rate.take("a", 3, 0) == 3_000_000
    assert rate.take("a", 3, 2_999_999) == 1
    assert rate.take("a", 3, 3_000_000) == 0
    assert rate.take("b", 500, 0) == 0, "more than a bucket holds empties a full one"
    assert rate.take("b", 1, 0) == 1_000_000
    assert rate.take("b", 1, -5_000_000) > 0, "a clock set back fills nothing"
    rate.take("c", 1, 0)
    assert rate.take("a", 60, 3_000_000) == 0, "a was forgotten for c, and begins full"


def test_random_takes_never_exceed_the_rate() -> None:
    """In any stretch of time at most the bucket and what came in meanwhile is given."""
    rng = random.Random(SEED)
    print("seed", SEED)
    rate, now_us, given = DeviceRate(100, 9), 0, list[tuple[int, int]]()
    for _ in range(2_000):
        now_us += rng.randrange(2_000_000)
        count = rng.randrange(1, 40)
        wait_us = rate.take("a", count, now_us)
        if wait_us == 0:
            given.append((now_us, count))
        elif rng.random() < 0.5:
            now_us += wait_us
            assert rate.take("a", count, now_us) == 0
            given.append((now_us, count))
    for start in range(0, len(given), 97):
        total = 0
        for at_us, count in given[start:]:
            total += count
            assert total <= 100 + (at_us - given[start][0]) * 100 / 60_000_000 + 1


def test_counts_fade_and_the_least_used_half_is_forgotten() -> None:
    use = Use(half_life_us=1_000, limit=10)
    use.note("v@1", ["a"] * 8, 0)
    assert use.of("v@1", "a", 0) == 8
    assert use.of("v@1", "a", 2_000) == 2
    assert use.of("v@1", "a", -5) == 8
    use.note("v@1", ["b"], 2_000)
    use.note("v@1", [f"{n}" for n in range(8)], 2_000)
    use.note("v@1", ["a", "b"], 2_000)
    assert len(use) == 10
    use.note("v@1", ["one more"], 2_000)
    assert len(use) == 5
    assert (use.of("v@1", "a", 2_000), use.of("v@1", "b", 2_000)) == (3, 2)
