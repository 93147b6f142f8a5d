"""Random days of a device that fetches, held against what a reader of the server's log would expect."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import edge_runtime as er
from edge_runtime.sync.fetch import Fetch
from edge_runtime.wire import messages as m
from tests.support.town import ALICE, P, Session, Town
from tests.support.warm import HOUR_S, Device, publish, warm_town

STEPS = 120
ITEMS = [f"{n}" for n in range(8)]
TTL_US = HOUR_S * 1_000_000
Place = tuple[str, str]
"""(view, item)."""
FEATURES = {"item_vec": "rank", "taste": "likes"}


class World:
    """A town, a device, and what the device should know of each row.

    Attributes:
        stands: what the server has: event time and value.
        known: what the last answer said: the same, or when it was not there.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.town: Town = warm_town(folder / "town", frame_rows=3)
        self.device = Device(self.town, folder / "device")
        self.session: Session | None = None
        self.stands: dict[Place, tuple[int, float]] = {}
        self.known: dict[Place, tuple[int, float | None]] = {}
        self.wanted: list[tuple[Place, Fetch]] = []
        """Rows asked for and not answered yet, as far as was looked."""
        self.given = False

    # ---- what happens ----------------------------------------------------------------------------------

    def publishes(self) -> None:
        view = self.rng.choice(list(FEATURES))
        if view == "taste" and not self.given:
            return
        item, value = self.rng.choice(ITEMS), self.rng.randrange(100) / 100
        parts = (ALICE, f"item:{item}") if view == "taste" else (f"item:{item}",)
        if self.rng.random() < 0.3 and (view, item) in self.stands:
            publish(self.town, view, *parts, deleted=True)
            del self.stands[view, item]
        else:
            values: dict[str, Any] = {FEATURES[view]: value}
            publish(self.town, view, *parts, **values)
            self.stands[view, item] = self.town.clock.now_us(), value
        self.town.clock.advance(us=1)

    def fetches(self) -> None:
        view, items = self.rng.choice(list(FEATURES)), self.rng.sample(ITEMS, self.rng.randrange(1, 6))
        if view == "taste" and not self.given:
            fetch = self.device.rt.fetch(view, user="alice", item=items)
            with pytest.raises(er.SyncRefused):
                fetch.wait(0)
            return
        more = {"user": "alice"} if view == "taste" else {}
        for item in items:
            self.wanted.append(((view, item), self.device.rt.fetch(view, item=item, **more)))

    def decides(self) -> None:
        consent = self.device.rt.consent
        if self.given:
            if self.rng.random() < 0.5:
                consent.withdraw("alice")
            else:
                self.town.decide(ALICE, "withdrawn")
            self.settles()
            self.stands = {place: row for place, row in self.stands.items() if place[0] != "taste"}
            self.known = {place: row for place, row in self.known.items() if place[0] != "taste"}
        else:
            consent.give("alice", [P], notice="2026-11")
            self.settles()
        self.given = not self.given

    def breaks(self) -> None:
        """The session ends somewhere between an asking and its answer."""
        if self.session is None:
            return
        self.session.tick()
        for _ in range(self.rng.randrange(4)):
            frame = self.session.next()
            if frame is None:
                break
            if self.rng.random() < 0.8:
                self.session.hand_over(frame)
                self.looks()
            else:
                break  # lost with all that comes after it
        self.session.close()
        self.session = None

    def restarts(self) -> None:
        """What was only wanted is forgotten."""
        if self.session is not None:
            self.session.close()
            self.session = None
        self.device.close()
        self.device = Device(self.town, self.folder / "device")
        self.wanted.clear()

    def waits(self) -> None:
        self.town.clock.advance(us=self.rng.choice([1, TTL_US // 3, TTL_US]))

    def settles(self) -> None:
        if self.session is None:
            self.session = Session(self.device)  # type: ignore[arg-type]
        self.session.settle()
        self.looks()
        assert not self.wanted
        assert self.session.device.caught_up

    def looks(self) -> None:
        """What was answered is known as it stands now at the server."""
        for place, fetch in self.wanted:
            if fetch.done:
                with suppress(er.SyncRefused):
                    found = fetch.wait(0).found
                    assert found == (place in self.stands)
                    self.known[place] = self.stands.get(place, (self.town.clock.now_us(), None))
        self.wanted = [(place, fetch) for place, fetch in self.wanted if not fetch.done]

    # ---- what must hold --------------------------------------------------------------------------------

    def checks(self) -> None:
        now_us = self.town.clock.now_us()
        for view, feature in FEATURES.items():
            more = {"user": "alice"} if view == "taste" else {}
            for item in ITEMS:
                found = self.device.rt.read(f"{view}:{feature}", item=item, **more)
                status = found.reason.partition(":")[0] or "PRESENT"
                assert status == self._expected(view, item, now_us), (view, item)
                if status == "PRESENT":
                    assert found.value == self.known[view, item][1]

    def _expected(self, view: str, item: str, now_us: int) -> str:
        if view == "taste" and not self.given:
            return "REVOKED"
        known = self.known.get((view, item))
        if known is None:
            return "NOT_SYNCED"
        if known[0] + TTL_US < now_us:
            return "EXPIRED"
        return "NOT_FOUND" if known[1] is None else "PRESENT"

    def close(self) -> None:
        if self.session is not None:
            self.session.close()
        self.device.close()
        self.town.close()


@pytest.mark.parametrize("seed", range(6))
def test_law_7_after_whatever_happened_each_row_says_what_it_is(tmp_path: Path, seed: int) -> None:
    """Publishes, deletes, fetches, decisions, broken sessions, restarts, time: then a settled session."""
    print("seed", seed)
    world = World(tmp_path, seed)
    acts = [world.publishes] * 4 + [world.fetches] * 4 + [world.breaks, world.waits, world.decides]
    for _ in range(STEPS):
        world.rng.choice([*acts, world.restarts])()
        if world.rng.random() < 0.4:
            world.settles()
            world.checks()
    world.settles()
    world.checks()
    assert world.session is not None
    assert not any(isinstance(one, m.Refusal) for one in world.session.said)
    world.close()
