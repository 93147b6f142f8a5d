"""A kill at any write of a sweep: what is left reads true, and the next sweep ends as the first would."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cache.writing import WriteTransaction
from tests.support.clock import ManualClock
from tests.support.consent_room import die, killed
from tests.support.sweeping import BASE_US, DAY_US, QUIET, Kiosk, P

NOW_US = BASE_US + 40 * DAY_US
LIMIT = 300_000


def furnished(folder: Path) -> None:
    """Ann left 40 days ago, bob comes every week; rows about nobody, half past their ttl, are too many."""
    settings = dataclasses.replace(QUIET, snapshot_every_events=2)
    with Kiosk(folder, settings=settings) as kiosk:
        for user in ("ann", "bob"):
            kiosk.give(user, P)
            kiosk.track(user, 3)
            kiosk.track(user, 2, item="y")
            kiosk.put_personal("badge", user, {"level": 3})
            kiosk.put_personal("profile", user, {"country": "UK"})
        for _ in range(5):
            kiosk.days(7)
            kiosk.track("bob", 3)
        kiosk.clock.set_wall(NOW_US)
        for n in range(300):
            kiosk.put("lasting", f"{n}", "x" * 900)
            kiosk.put("stock", f"{n}", "x" * 100, age_us=8 * 3_600_000_000)
        kiosk.track("bob")


def opened(folder: Path) -> Kiosk:
    settings = dataclasses.replace(QUIET, cache_limit_bytes=LIMIT)
    return Kiosk(folder, settings=settings, clock=ManualClock(NOW_US + 1_000_000))


def facts(kiosk: Kiosk) -> dict[str, object]:
    """All that can be read."""
    found: dict[str, object] = {}
    for user in ("ann", "bob"):
        for ref in ("activity:views", "activity:spend_7d", "badge:level", "profile:country"):
            value = kiosk.read(ref, user=user)
            found[f"{user} {ref}"] = (value.value, value.status.name)
        for item in "xy":
            found[f"{user} {item}"] = kiosk.read("pairs:views", user=user, item=item).value
    for view in ("stock", "lasting"):
        rows = [kiosk.read(f"{view}:text", item=f"{n}") for n in range(300)]
        found[view] = {row.status.name for row in rows}
        assert all(
            row.value is None or row.value.startswith("x") for row in rows if isinstance(row.value, str)
        )
    return found


@contextmanager
def dying_at(kiosk: Kiosk, number: int, after: bool) -> Iterator[None]:
    """The `number`th write ends in a kill, before its commit or after it."""
    write, count = kiosk.rt._database.write, 0

    @contextmanager
    def counted(name: str) -> Iterator[WriteTransaction]:
        nonlocal count
        count += 1
        with write(name) as tx:
            yield tx
            if count == number and not after:
                die()
        if count == number:
            die()

    kiosk.rt._database.write = counted  # type: ignore[method-assign]
    yield


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    furnished(folder)
    return folder


@pytest.fixture(scope="module")
def unhurt(template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], int]:
    """What a sweep that nobody kills leaves, and how many writes it took."""
    folder = tmp_path_factory.mktemp("unhurt") / "here"
    shutil.copytree(template, folder)
    with opened(folder) as kiosk:
        before = sum(kiosk.rt._database.writes.values())
        kiosk.rt.sweep()
        writes = sum(kiosk.rt._database.writes.values()) - before
        assert not kiosk.rows("ann")
        assert kiosk.used_bytes() <= LIMIT
        return facts(kiosk), writes


@pytest.mark.parametrize("after", [False, True], ids=["before its commit", "after it"])
def test_law_6_a_kill_at_any_write_of_a_sweep(
    template: Path, unhurt: tuple[dict[str, object], int], tmp_path: Path, after: bool
) -> None:
    expected, writes = unhurt
    assert writes > 12
    for number in range(1, writes + 1):
        folder = tmp_path / f"{number}"
        shutil.copytree(template, folder)

        def swept(folder: Path = folder, number: int = number) -> None:
            with opened(folder) as kiosk, dying_at(kiosk, number, after):
                kiosk.rt.sweep()

        assert killed(swept), number
        with opened(folder) as kiosk:
            between = facts(kiosk)
            for name, value in expected.items():
                if name.startswith("bob") or name in ("ann activity:views", "ann activity:spend_7d"):
                    assert between[name] == value, (number, name)
            assert between["stock"] == {"EXPIRED"}
            with kiosk.rt._database.read() as tx:
                assert len(list(tx.rows_of_view("lasting", 1))) == 300
            kiosk.rt.sweep()
            assert facts(kiosk) == expected, number
            assert not kiosk.rows("ann")
            assert kiosk.rt.consent.state("ann", P) == "given"
            assert kiosk.used_bytes() <= LIMIT


def test_the_template_is_what_it_says(template: Path, tmp_path: Path) -> None:
    """Without a sweep ann's rows are there, rows about nobody hold their values, the limit is passed."""
    shutil.copytree(template, tmp_path / "c")
    with opened(tmp_path / "c") as kiosk:
        assert kiosk.rows("ann")
        assert kiosk.used_bytes() > LIMIT
        assert facts(kiosk)["lasting"] == {er.Status.PRESENT.name}
