"""`rt.assign` over a real cache: who is exposed, once, durably, and gone with the subject."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edge_runtime as er
from edge_runtime.aggregates.exposed import cell_of
from edge_runtime.assignments import BELIEVED_US
from edge_runtime.catalog import Catalog
from edge_runtime.catalog.assignment import arm_of, takes_part
from edge_runtime.serving.value import FeatureValue
from tests.support.aggregate_ends import Value
from tests.support.clock import ManualClock
from tests.support.experiments import NAME, experiment_table, shop, shop_table
from tests.support.full_disk import FullDisk
from tests.support.sweeping import QUIET, Kiosk

VISITORS = [f"visitor-{i}" for i in range(40)]
WHO = "user:visitor-0"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def opened(folder: Path, clock: ManualClock, catalog: Catalog | None = None) -> er.Runtime:
    return er.Runtime.open(
        folder / "cache.db", catalog=catalog or shop(), key=er.KeyFile(folder / "key"), clock=clock
    )


@pytest.fixture
def rt(tmp_path: Path, clock: ManualClock) -> Iterator[er.Runtime]:
    with opened(tmp_path, clock) as runtime:
        yield runtime


def give(rt: er.Runtime, *visitors: str, purposes: tuple[str, ...] = ("measurement",)) -> None:
    for visitor in visitors or VISITORS:
        rt.consent.give(f"user:{visitor}", list(purposes), notice="n")


def exposures(rt: er.Runtime, visitor: str) -> list[dict[str, Any]]:
    events = rt.export(f"user:{visitor}")["purposes"]["measurement"]["events"]
    return [event for event in events if event["type"] == f"exposure.{NAME}"]


def cell(rt: er.Runtime, visitor: str, name: str = NAME) -> str | None:
    return cell_of(rt.catalog.experiments[name], rt._read_subject, f"user:{visitor}")


def test_law_1_without_permission_it_is_the_control_and_nothing_is_recorded(rt: er.Runtime) -> None:
    for visitor in VISITORS:
        assert rt.assign(NAME, user=visitor) == er.Assignment("control", False, "unknown")
    give(rt)
    assert all(exposures(rt, visitor) == [] for visitor in VISITORS)


def test_law_1_a_restriction_ends_exposure_and_its_end_brings_the_arm_back(rt: er.Runtime) -> None:
    """Also for one whose exposure is known in memory."""
    give(rt, "visitor-0")
    before = rt.assign(NAME, user="visitor-0")
    rt.consent.restrict(WHO, ["measurement"])
    assert rt.assign(NAME, user="visitor-0") == er.Assignment("control", False, "restricted")
    assert cell(rt, "visitor-0") is None
    give(rt, "visitor-0")
    assert rt.assign(NAME, user="visitor-0") == before


def test_with_permission_each_gets_the_arm_of_the_hash_and_is_exposed(rt: er.Runtime) -> None:
    give(rt)
    given = {visitor: rt.assign(NAME, user=visitor) for visitor in VISITORS}
    for visitor, found in given.items():
        assert found == er.Assignment(
            arm_of(rt.catalog.experiments[NAME], f"user:{visitor}"), True, "exposed"
        )
        (event,) = exposures(rt, visitor)
        assert event["properties"]["arm"] == found.arm
    assert {found.arm for found in given.values()} == {"control", "treatment"}


def test_the_same_subject_gets_the_same_arm_on_another_device(tmp_path: Path, clock: ManualClock) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    given = []
    for folder in folders:
        folder.mkdir()
        with opened(folder, clock) as rt:
            give(rt)
            given.append([rt.assign(NAME, user=visitor).arm for visitor in VISITORS])
    assert given[0] == given[1]


def test_asking_again_records_nothing_also_after_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    with opened(tmp_path, clock) as rt:
        give(rt, "visitor-0")
        first = rt.assign(NAME, user="visitor-0")
        for _ in range(5):
            clock.advance(seconds=BELIEVED_US / 2_000_000)
            assert rt.assign(NAME, user="visitor-0") == first
    with opened(tmp_path, clock) as rt:
        assert cell(rt, "visitor-0") == f"{first.arm}/no"
        assert rt.assign(NAME, user="visitor-0") == first
        assert len(exposures(rt, "visitor-0")) == 1


def test_an_exposure_survives_a_copy_taken_right_after_flush(tmp_path: Path, clock: ManualClock) -> None:
    """What a power loss would leave: the files as they lie there, without a close."""
    here, copy = tmp_path / "here", tmp_path / "copy"
    here.mkdir()
    with opened(here, clock) as rt:
        give(rt, "visitor-0")
        arm = rt.assign(NAME, user="visitor-0").arm
        rt.flush()
        shutil.copytree(here, copy)
    with opened(copy, clock) as again:
        assert cell(again, "visitor-0") == f"{arm}/no"


def test_law_4_an_erasure_takes_the_exposure_and_memory_forgets_it(rt: er.Runtime) -> None:
    give(rt, "visitor-0")
    assert rt.assign(NAME, user="visitor-0").exposed
    rt.consent.withdraw(WHO, ["measurement"])
    assert rt.assign(NAME, user="visitor-0") == er.Assignment("control", False, "withdrawn")
    assert cell(rt, "visitor-0") is None
    give(rt, "visitor-0")
    assert cell(rt, "visitor-0") == "unexposed"
    assert rt.assign(NAME, user="visitor-0").exposed
    assert len(exposures(rt, "visitor-0")) == 1


def test_outside_the_traffic_it_is_the_control_and_arm_says_the_same(
    tmp_path: Path, clock: ManualClock
) -> None:
    catalog = shop(**{NAME: experiment_table(traffic=0.5)})
    with opened(tmp_path, clock, catalog) as rt:
        give(rt)
        for visitor in VISITORS:
            inside = takes_part(catalog.experiments[NAME], f"user:{visitor}")
            shown = rt.arm(NAME, user=visitor)
            found = rt.assign(NAME, user=visitor)
            assert found.exposed is inside
            assert found.arm == shown
            assert inside or (shown, found.why) == ("control", "not_in_traffic")
            assert cell(rt, visitor) == (f"{found.arm}/no" if inside else "unexposed")


def test_arm_exposes_nobody(rt: er.Runtime) -> None:
    assert rt.arm(NAME, user="visitor-0") == "control"
    give(rt)
    assert {rt.arm(NAME, user=visitor) for visitor in VISITORS} == {"control", "treatment"}
    assert all(cell(rt, visitor) == "unexposed" for visitor in VISITORS)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("ghost", {"user": "visitor-0"}),
        (NAME, {}),
        (NAME, {"item": "x"}),
        (NAME, {"user": ""}),
        (NAME, {"user": "v" * 600}),
    ],
)
def test_law_12_what_is_asked_wrongly_is_refused(rt: er.Runtime, name: str, unit: dict[str, str]) -> None:
    for ask in (rt.assign, rt.arm):
        with pytest.raises(er.MalformedRequest):
            ask(name, **unit)


# ---- the cell that a subject answers with ----------------------------------------------------------------


def test_an_outcome_counts_from_the_exposure_on(rt: er.Runtime, clock: ManualClock) -> None:
    """Bought before, at, and after; and what comes late is judged by its own time."""
    give(rt)
    before, at, after, late, never = VISITORS[:5]
    rt.track("buy", user=before, item="x")
    clock.advance(seconds=1)
    arms = {visitor: rt.assign(NAME, user=visitor).arm for visitor in VISITORS[:5]}
    rt.track("buy", user=at, item="x")
    clock.advance(seconds=30)
    rt.track("buy", user=after, item="x")
    rt.track("buy", user=late, item="x", at=clock.now_us() / 1e6 - 30.5)
    for visitor, success in ((before, False), (at, True), (after, True), (late, False), (never, False)):
        assert cell(rt, visitor) == f"{arms[visitor]}/{'yes' if success else 'no'}", visitor


def test_an_outcome_by_value_counts_what_its_window_holds(tmp_path: Path, clock: ManualClock) -> None:
    """Also from before the exposure: that is the feature's own meaning, the same in every arm."""
    spent = {"event": "buy", "op": "sum", "value": "price", "window": "1h"}
    with opened(tmp_path, clock, shop(**{NAME: experiment_table(outcome=spent)})) as rt:
        give(rt, "visitor-0")
        rt.track("buy", user="visitor-0", item="x", price=2.0)
        clock.advance(seconds=1)
        arm = rt.assign(NAME, user="visitor-0").arm
        assert cell(rt, "visitor-0") == f"{arm}/yes"
        clock.advance(seconds=2 * 3600)
        assert cell(rt, "visitor-0") == f"{arm}/no"


def test_law_1_an_outcome_of_another_purpose_needs_that_one_too(tmp_path: Path, clock: ManualClock) -> None:
    with opened(tmp_path, clock, shop(**{NAME: experiment_table(outcome="activity:buys")})) as rt:
        give(rt, "visitor-0")
        arm = rt.assign(NAME, user="visitor-0").arm
        assert cell(rt, "visitor-0") is None
        give(rt, "visitor-0", purposes=("personalization",))
        rt.track("buy", user="visitor-0", item="x")
        assert cell(rt, "visitor-0") == f"{arm}/yes"


def test_an_experiment_added_by_a_later_catalog_answers_at_once(tmp_path: Path, clock: ManualClock) -> None:
    """No warming: from the exposure on, every event is known."""
    plain = shop_table()
    del plain["experiments"]
    with opened(tmp_path, clock, Catalog.from_dict(plain)) as rt:
        give(rt, purposes=("measurement", "personalization"))
        rt.track("buy", user="visitor-0", item="x")
    clock.advance(seconds=60)
    with opened(tmp_path, clock) as rt:
        assert cell(rt, "visitor-0") == "unexposed"
        arm = rt.assign(NAME, user="visitor-0").arm
        assert cell(rt, "visitor-0") == f"{arm}/no"
        rt.track("buy", user="visitor-0", item="x")
        assert cell(rt, "visitor-0") == f"{arm}/yes"


def test_law_7_what_a_catalog_without_the_experiment_missed_is_not_passed_off_as_no(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Exposed, then a roll back that hears no `buy`, then the experiment again: who knows what was bought."""
    without = shop_table(other=experiment_table(outcome={"event": "view"}))
    del without["views"]["activity"], without["views"]["carts"], without["metrics"]
    full = shop_table()
    del full["views"]["activity"], full["views"]["carts"], full["metrics"]
    with opened(tmp_path, clock, Catalog.from_dict(full)) as rt:
        give(rt, "visitor-0")
        arm = rt.assign(NAME, user="visitor-0").arm
        assert cell(rt, "visitor-0") == f"{arm}/no"
    clock.advance(seconds=60)
    with opened(tmp_path, clock, Catalog.from_dict(without)) as rt:
        rt.track("buy", user="visitor-0", item="x")
    clock.advance(seconds=60)
    with opened(tmp_path, clock, Catalog.from_dict(full)) as rt:
        assert cell(rt, "visitor-0") in (None, "unexposed")


def test_other_weights_begin_the_experiment_anew(tmp_path: Path, clock: ManualClock) -> None:
    with opened(tmp_path, clock) as rt:
        give(rt, "visitor-0")
        rt.assign(NAME, user="visitor-0")
    with opened(tmp_path, clock, shop(**{NAME: experiment_table(arms={"control": 9, "treatment": 1})})) as rt:
        assert cell(rt, "visitor-0") == "unexposed"
        assert rt.assign(NAME, user="visitor-0").exposed


def test_an_exposure_ends_with_the_retention_and_is_recorded_anew(rt: er.Runtime, clock: ManualClock) -> None:
    """The app that runs on must not believe for ever what it once recorded."""
    give(rt, "visitor-0")
    arm = rt.assign(NAME, user="visitor-0").arm
    clock.advance(seconds=31 * 86_400)
    assert cell(rt, "visitor-0") == "unexposed"
    assert rt.assign(NAME, user="visitor-0").exposed
    assert cell(rt, "visitor-0") == f"{arm}/no"


def test_a_clock_set_back_exposes_nobody_twice(rt: er.Runtime, clock: ManualClock) -> None:
    give(rt, "visitor-0")
    first = rt.assign(NAME, user="visitor-0")
    clock.set_wall(clock.now_us() - 7_200_000_000)
    assert rt.assign(NAME, user="visitor-0") == first
    clock.set_wall(clock.now_us() + 7_200_000_000)
    assert len(exposures(rt, "visitor-0")) == 1


def test_a_clock_set_back_behind_the_journal_is_an_exposure_all_the_same(
    rt: er.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view holds nothing but exposures, so one that lies ahead was one: it is not recorded again."""

    def in_past(*_: object) -> FeatureValue:
        raise er.ReadInPast("the journal no longer reaches back")

    give(rt, "visitor-0")
    monkeypatch.setattr(rt._assignments, "_read", in_past)
    assert rt.assign(NAME, user="visitor-0").exposed
    assert exposures(rt, "visitor-0") == []


OUTCOMES = [
    (Value(1), "yes"),
    (Value(0), "no"),
    (Value(-2.5), "no"),
    (Value(0.5), "yes"),
    (Value(True), "yes"),
    (Value(False), "no"),
    (Value(float("nan")), "no"),
    (Value(None, er.Status.NULL), "no"),
    (Value(None, er.Status.NOT_SYNCED), "unknown"),
    (Value(3, er.Status.DEFAULTED), "unknown"),
    (Value(None, er.Status.EXPIRED), "unknown"),
    (Value(None, er.Status.WARMING), "unknown"),
    (Value(None, er.Status.REVOKED), None),
]


@pytest.mark.parametrize(("outcome", "answer"), OUTCOMES)
def test_law_7_only_a_whole_outcome_is_one(outcome: Value, answer: str | None) -> None:
    """Without one the exposed subject answers as one who was not: silence would say that it was exposed."""
    experiment = shop(x=experiment_table(outcome="activity:buys")).experiments["x"]
    read = {str(experiment.exposure): Value("treatment"), str(experiment.outcome): outcome}
    expected = None if answer is None else f"treatment/{answer}"
    expected = "unexposed" if answer == "unknown" else expected
    assert cell_of(experiment, lambda ref, _: read[ref], WHO) == expected


def test_law_11_on_a_full_disk_the_app_still_gets_an_arm(tmp_path: Path, clock: ManualClock) -> None:
    """No room in the file nor in memory: the control, and no exposure that could not be kept."""
    few = dataclasses.replace(QUIET, pending_events=10, live_states=4)
    with Kiosk(tmp_path / "kiosk", settings=few, clock=clock, catalog=shop(), disk=FullDisk()) as kiosk:
        assert kiosk.disk is not None
        crowd = [f"visitor-{i}" for i in range(600)]  # more states than memory may hold beyond its limit
        give(kiosk.rt, *crowd, "early")
        early = kiosk.rt.assign(NAME, user="early")
        kiosk.rt.flush()
        kiosk.disk.room = 0
        found = [kiosk.rt.assign(NAME, user=visitor) for visitor in crowd]
        refused = [a for a in found if not a.exposed]
        assert refused
        assert {(a.arm, a.why) for a in refused} == {("control", "no_storage")}
        key = kiosk.rt._keyring.key("user:early", "measurement")
        assert key is not None
        kiosk.rt._states.forget({key.handle})
        clock.advance(us=BELIEVED_US)
        assert kiosk.rt.assign(NAME, user="early") == early, "who was exposed before keeps the arm"
        kiosk.disk.room = None
        kiosk.rt.flush()
        assert all(kiosk.rt.assign(NAME, user=visitor).exposed for visitor in crowd)
