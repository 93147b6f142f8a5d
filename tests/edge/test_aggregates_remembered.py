"""Answers that are remembered: given again for the same input, drawn once, gone with either permission."""

from __future__ import annotations

import random
from collections import OrderedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.aggregates.mechanisms import (
    BUDGET_CEILING_MICROS,
    DAY_US,
    Hierarchical,
    mechanism_for,
    question_of,
    same_answers,
)
from edge_runtime.aggregates.remembered import Remembered, recall
from edge_runtime.cache.database import Database
from edge_runtime.catalog import Catalog
from edge_runtime.keys.datakey import DataKey
from edge_runtime.wire.messages import ReportAck
from edge_runtime.wire.sealed_report import report_id
from tests.support.aggregate_ends import COUNTRIES, HOUR_US, PURPOSES, Kiosk, destroy, metric_catalog, opened

ANN = "user:u0"


def said(kiosk: Kiosk, number: int, country: str, metric: str = "countries_0") -> bytes | None:
    """The answer in a round of its own, on a day of its own, with this value; None for none."""
    kiosk.clock.advance(us=DAY_US)
    return said_today(kiosk, number, country, metric)


def said_today(kiosk: Kiosk, number: int, country: str, metric: str = "countries_0") -> bytes | None:
    """As `said`, on the day of the one before."""
    kiosk.values[ANN].value = country
    reports = kiosk.answer(kiosk.offer(number, metric))
    return opened(reports[0]).answer if reports else None


def rows(database: Database) -> list[tuple[bytes, ...]]:
    with database.read() as tx:
        found = tx._connection.execute("SELECT handle, slot, also, sealed FROM answer")
        return [tuple(value for value in row if isinstance(value, bytes)) for row in found]


def keys(kiosk: Kiosk) -> list[DataKey]:
    found = [kiosk.keyring.key(ANN, purpose) for purpose in PURPOSES]
    return [key for key in found if key is not None]


def drawn_for(kiosk: Kiosk, number: int, country: str) -> int:
    """How many integers of chance an answer took."""
    before = kiosk.draws
    assert said(kiosk, number, country) is not None
    return kiosk.draws - before


def test_law_9_the_same_value_gets_the_same_answer_and_draws_nothing_again() -> None:
    """T22: a hundred rounds, a day each."""
    kiosk = Kiosk(1)
    first = said(kiosk, 1, "UK")
    assert [drawn_for(kiosk, n, "UK") for n in range(2, 100)] == [0] * 98
    assert said(kiosk, 100, "UK") == first
    assert kiosk.reporter.counts["remembered"] == 99


def test_law_9_an_answer_that_is_given_again_is_charged_in_full() -> None:
    """Else an issuer without rules sees each change of a value, in rounds without end."""
    kiosk = Kiosk(1)
    first = said(kiosk, 1, "UK")
    assert [said_today(kiosk, n, "UK") for n in range(2, 7)] == [first, first, first, None, None]
    assert kiosk.spent() == BUDGET_CEILING_MICROS
    assert said_today(kiosk, 7, "DE") is None
    assert kiosk.reporter.on_offer(kiosk.offer(8)) is None, "who is asked for hangs on the value"


def test_law_9_each_other_value_is_a_draw() -> None:
    kiosk = Kiosk(1)
    answers = {country: said(kiosk, n + 1, country) for n, country in enumerate(COUNTRIES)}
    assert {country: said(kiosk, n + 10, country) for n, country in enumerate(COUNTRIES)} == answers
    assert [drawn_for(kiosk, n + 20, country) for n, country in enumerate(COUNTRIES)] == [0] * len(COUNTRIES)


def test_what_is_remembered_outlives_a_restart_and_a_full_budget() -> None:
    """Other metrics reach the ceiling of a day; on the next the old answer is given again."""
    kiosk = Kiosk(1, of=metric_catalog(names=4))
    first = said(kiosk, 1, "UK")
    for n in range(1, 4):
        assert said_today(kiosk, n + 1, "UK", f"countries_{n}") is not None
    assert said_today(kiosk, 49, "UK") is None
    kiosk.restart()
    assert said(kiosk, 50, "UK") == first


def test_one_round_is_answered_once() -> None:
    kiosk = Kiosk(1)
    said(kiosk, 1, "UK")
    offer = kiosk.offer(2)
    (report,) = kiosk.answer(offer)
    kiosk.reporter.on_ack(ReportAck(round_id=offer.round_id, reports=[report_id(report.sealed[0])]))
    assert kiosk.answer(offer) == []


def test_another_question_starts_anew() -> None:
    """Another draw and another charge, and what was remembered for the old one is gone."""
    kiosk = Kiosk(1)
    said(kiosk, 1, "UK")
    drawn, spent = kiosk.draws, kiosk.spent()
    kiosk.restart(metric_catalog(epsilon=0.5))
    assert said(kiosk, 2, "UK") is not None
    assert kiosk.draws > drawn
    assert kiosk.spent() == spent + 500_000
    assert len(rows(kiosk.database)) == 1


@pytest.mark.parametrize("change", [metric_catalog(minimum=4), metric_catalog(window="2d")])
def test_what_makes_no_other_answer_of_a_value_makes_nobody_draw_again(change: Catalog) -> None:
    """Each draw tells more: who may change a minimum must not be able to ask for fresh ones by it."""
    kiosk = Kiosk(1)
    first = said(kiosk, 1, "UK")
    kiosk.restart(change)
    assert drawn_for(kiosk, 2, "UK") == 0
    assert said(kiosk, 3, "UK") == first


def test_law_11_the_input_not_asked_for_longest_is_forgotten_and_drawn_when_it_comes_back() -> None:
    kiosk = Kiosk(1, remembered=2)
    asked = ("UK", "DE", "UK", "FR", "UK", "DE")  # at last: asked for since, and the longest unasked
    fresh = [drawn_for(kiosk, n + 1, country) > 0 for n, country in enumerate(asked)]
    assert fresh == [True, True, False, True, False, True]


@given(st.lists(st.integers(0, 30), max_size=80), st.integers(0, 16))
def test_the_newest_inputs_are_kept(asked: list[int], limit: int) -> None:
    """Against the obvious oracle: a dictionary in the order of use."""
    known, oracle = Remembered(bytes(16), []), OrderedDict[int, bytes]()
    for n, value in enumerate(asked):
        answer = known.answer(value)
        assert answer == oracle.get(value)
        answer = answer or n.to_bytes(2, "big")
        known = known.with_answer(value, answer, limit)
        oracle[value] = answer
        oracle.move_to_end(value)
        while len(oracle) > limit:
            oracle.popitem(last=False)
    assert known.answers == list(oracle.items())


@pytest.mark.parametrize("purpose", PURPOSES)
def test_law_4_the_end_of_either_permission_makes_what_is_remembered_unreadable(purpose: str) -> None:
    """In every copy of the file: both keys are needed."""
    kiosk = Kiosk(1)
    said(kiosk, 1, "UK")
    held, asked = keys(kiosk), same_answers(kiosk.catalog.metrics["countries_0"])
    with kiosk.database.read() as tx:
        assert len(recall(tx, "countries_0", asked, held).answers) == 1
        for wrong in (held[:1] * 2, held[1:] * 2, held[::-1]):
            assert recall(tx, "countries_0", asked, wrong).answers == []
    doomed = kiosk.keyring.key(ANN, purpose)
    assert doomed is not None
    destroy(kiosk.keyring, doomed)
    kiosk.add(ANN, "UK", [purpose])
    with kiosk.database.read() as tx:
        assert recall(tx, "countries_0", asked, keys(kiosk)).answers == []


@pytest.mark.parametrize("purpose", PURPOSES)
def test_law_4_an_erasure_deletes_what_is_remembered_in_its_transaction(purpose: str) -> None:
    """By the handle of either key; what another subject is remembered for stays."""
    kiosk = Kiosk(2)
    kiosk.answer(kiosk.offer(1))
    assert len(rows(kiosk.database)) == 2
    key = kiosk.keyring.key(ANN, purpose)
    assert key is not None
    with kiosk.database.write("erase") as tx:
        assert tx.forget(key.handle)["answer"] == 1
    (left,) = rows(kiosk.database)
    assert key.handle not in left
    with kiosk.database.write("erase") as tx:
        assert tx.forget_unknown(set())["answer"] == 1
    assert rows(kiosk.database) == []


def test_law_5_what_is_remembered_names_nobody_and_shows_nothing() -> None:
    kiosk = Kiosk(1)
    answer = said(kiosk, 1, "UK")
    (row,) = rows(kiosk.database)
    assert answer is not None
    for secret in (answer, ANN.encode(), kiosk.keyring.pseudonym(ANN), b"countries_0"):
        assert all(secret not in column for column in row)


def test_a_row_that_does_not_open_is_drawn_anew() -> None:
    kiosk = Kiosk(1)
    said(kiosk, 1, "UK")
    with kiosk.database.write("damage") as tx:
        tx._connection.execute("UPDATE answer SET sealed = zeroblob(90)")
    assert drawn_for(kiosk, 2, "UK") > 0


def test_law_9_withdrawn_and_given_again_the_answer_is_new_and_is_charged() -> None:
    """What was spent stays spent, blind: the erased answer may be drawn anew only within the ceiling."""
    kiosk = Kiosk(1)
    for n in range(6):
        kiosk.answer(kiosk.offer(n + 1))
        kiosk.erase(ANN)
        with kiosk.database.write("erase") as tx:
            tx.forget_unknown({key.handle for key in kiosk.keyring.every_key()})
        kiosk.permissions.denied.clear()
        kiosk.add(ANN)
    assert kiosk.spent() == BUDGET_CEILING_MICROS


def test_law_9_each_controller_has_a_ceiling_and_finds_again_what_was_spent_at_it() -> None:
    """T23: the device goes to another one, for which everything must be erased, and comes back."""
    kiosk = Kiosk(1, of=metric_catalog(names=8))
    here = kiosk.keyring.identity
    there = msgspec.structs.replace(here, pseudonym_key=b"o" * 32)
    number = 0
    for identity, tells in ((here, 4), (there, 4), (here, 0), (there, 0)):
        for key in kiosk.keyring.keys_of(ANN):
            destroy(kiosk.keyring, key)
        kiosk.keyring.set_identity(identity)
        kiosk.add(ANN)
        number += 10
        told = [said_today(kiosk, number + n, "UK", f"countries_{n}") for n in range(8)]
        assert [one is not None for one in told] == [n < tells for n in range(8)]
    assert kiosk.spent() == 2 * BUDGET_CEILING_MICROS


def test_nothing_is_remembered_when_the_settings_say_so() -> None:
    kiosk = Kiosk(1, remembered=0)
    assert all(drawn_for(kiosk, n + 1, "UK") > 0 for n in range(4))


def test_sums_of_a_kiosk_are_never_given_again() -> None:
    """Curator mode: each round is drawn, and paid for by everybody in it: at most the ceiling in a window."""
    kiosk = Kiosk(3, of=_other_kinds())
    sent = [len(kiosk.answer(kiosk.offer(n + 1))) for n in range(8)]
    assert sent == [1, 1, 1, 1, 0, 0, 0, 0]
    assert kiosk.spent() == 3 * BUDGET_CEILING_MICROS
    assert rows(kiosk.database) == []
    kiosk.clock.advance(us=DAY_US)
    assert len(kiosk.answer(kiosk.offer(20))) == 1


def _other_kinds() -> Catalog:
    """`countries_0` summed by the kiosk, and `spend`, a quantile."""
    consent = {"title": "t", "legal_basis": "consent", "lease": "24h", "retention": "30d"}
    features = {"country": {"dtype": "string", "values": list(COUNTRIES)}, "spend": {"dtype": "float64"}}
    view = {"version": 1, "entity": "user", "source": "server", "purpose": "personalization", "ttl": "7d"}
    asked = {"purpose": "measurement", "epsilon": 1.0, "min_subjects": 3, "window": "1d"}
    tree = {"kind": "quantile", "of": "profile:spend", "bounds": [0, 100], "quantiles": [0.5]}
    sums = {"kind": "histogram", "of": "profile:country", "mode": "curator"}
    return Catalog.from_dict(
        {
            "catalog": {"name": "shop", "version": 1},
            "purposes": dict.fromkeys(PURPOSES, consent),
            "entities": {"user": {"personal": True}},
            "views": {"profile": {**view, "owner": "crm", "features": features}},
            "metrics": {"countries_0": {**asked, **sums}, "spend": {**asked, **tree}},
        }
    )


def test_a_tree_keeps_its_level_for_every_value() -> None:
    """Else the levels would tell the value from several sides, each for the whole price of one."""
    rng = random.Random(20261130)
    for seed in range(6):
        kiosk = Kiosk(1, of=_other_kinds(), seed=seed)
        levels = set()
        for n in range(12):
            kiosk.values[ANN].value = rng.uniform(0, 100)
            kiosk.clock.advance(us=6 * HOUR_US)
            reports = kiosk.answer(kiosk.offer(n + 1, "spend"))
            levels |= {opened(report).answer[0] for report in reports}
        assert len(levels) == 1


def test_values_that_a_tree_level_does_not_tell_apart_get_one_answer() -> None:
    """On a coarse level they are one node: draws for each would average out to it."""
    for seed in range(12):
        kiosk = Kiosk(1, of=_other_kinds(), seed=seed)
        tree = mechanism_for(question_of(kiosk.catalog.metrics["spend"]))
        assert isinstance(tree, Hierarchical)
        nodes, answers = set(), set()
        for n in range(40):
            leaf = n % 8 * 2
            kiosk.values[ANN].value = (leaf + 0.5) * 100 / 64
            kiosk.clock.advance(us=12 * HOUR_US)
            for report in kiosk.answer(kiosk.offer(n + 1, "spend")):
                answers.add(opened(report).answer)
                nodes.add(leaf // tree.tree.widths[opened(report).answer[0]])
        assert len(answers) <= len(nodes)
