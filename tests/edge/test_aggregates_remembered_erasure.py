"""Remembered answers in a real runtime: a withdrawal takes them, and so does the end of retention."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.consent.erasure import POINTS
from tests.support.consent_room import DAY_US, die_at, killed
from tests.support.measured import M, Measured, P

ADA, BEN = "remembered-ada", "remembered-ben"


def remembered(shop: Measured) -> int:
    """Rows of answers on the disk."""
    with shop.rt._database.read() as tx:
        return int(str(tx._connection.execute("SELECT count(*) FROM answer").fetchall()[0][0]))


@pytest.mark.parametrize("purpose", [M, P])
def test_law_2_a_withdrawal_of_either_purpose_takes_what_is_remembered(tmp_path: Path, purpose: str) -> None:
    """Of two metrics, and says so in the receipt; another subject's answers stay and are given again."""
    with Measured(tmp_path) as shop:
        shop.give(ADA, BEN)
        assert len(shop.answer("views_band")) == len(shop.answer("banner")) == 2
        assert remembered(shop) == 4
        receipt = shop.rt.consent.withdraw(BEN, [purpose])
        assert receipt.receipt.rows_deleted["answer"] == 2
        assert remembered(shop) == 2
        assert len(shop.answer("views_band")) == 1
        assert shop.reporter.counts["remembered"] == 1


@pytest.mark.parametrize("point", POINTS)
def test_law_2_killed_at_any_point_of_a_withdrawal_nothing_of_it_is_remembered(
    tmp_path: Path, point: str
) -> None:
    folder = tmp_path / "device"
    folder.mkdir()
    with Measured(folder) as shop:
        shop.give(ADA, BEN)
        assert shop.answer()
    assert killed(lambda: _withdraw(Measured(folder, step=die_at(point))))
    with Measured(folder) as shop:
        assert remembered(shop) == (2 if point == "begin" else 1)


def _withdraw(shop: Measured) -> None:
    shop.rt.consent.withdraw(BEN, [M])


def test_what_is_remembered_lasts_as_long_as_the_values_it_was_drawn_from(tmp_path: Path) -> None:
    """Counted from the subject's last event: the measurement's own retention does not end it early."""
    with Measured(tmp_path) as shop:
        shop.give(ADA, BEN)
        assert shop.answer()
        for _ in range(6):
            shop.clock.advance(us=10 * DAY_US)
            shop.enrol()  # another day's lease
            assert shop.rt.track("view", user=ADA, item="i-1") is er.ACCEPTED
            shop.rt.flush()
            shop.rt.sweep()
        assert remembered(shop) == 1
