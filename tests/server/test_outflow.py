"""Whoever has something to say gets a turn: the urgent first, nobody past a full socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from sync_server.sync.outflow import FEW, TURNS, Outflow, Pump
from tests.server.test_steps import split
from tests.support.town import ALICE, Kiosk, Session, Town


class Pipe:
    """A transport with so much room; what it has no room for it keeps until there is some."""

    def __init__(self) -> None:
        self.wire, self.kept = b"", b""
        self.room_bytes = 10**9
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        fits, self.kept = data[: self.room_bytes], self.kept + data[self.room_bytes :]
        self.wire += fits
        self.room_bytes -= len(fits)

    def get_write_buffer_size(self) -> int:
        return len(self.kept)

    def is_closing(self) -> bool:
        return False

    def make_room(self) -> None:
        self.wire, self.kept, self.room_bytes = self.wire + self.kept, b"", 10**9


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town")
    made.put(3)
    yield made
    made.close()


class Carried:
    """A session whose frames flow through a pipe."""

    def __init__(self, town: Town, folder: Path, pump: Pump, send_us: int = 10_000_000) -> None:
        self.session, self.pipe = Session(Kiosk(town, folder)), Pipe()
        self.session.settle()
        transport = cast(asyncio.WriteTransport, self.pipe)
        subscription = self.session.subscription
        ended: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.flow = Outflow(pump, self.session.server, subscription, transport, send_us, ended, lambda: None)

    def heard(self) -> list[m.Message]:
        """What came through since the last time, as messages."""
        wire, self.pipe.wire = self.pipe.wire, b""
        return [codec.decode(frame) for frame in split(wire)]


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_delta_and_checkpoint_go_in_one_write(town: Town, tmp_path: Path) -> None:
    one = Carried(town, tmp_path / "k", Pump())
    await turns()
    assert one.pipe.writes == 0
    town.put(1)
    await turns()
    assert [type(message) for message in one.heard()] == [m.Delta, m.Checkpoint]
    assert one.pipe.writes == 1
    town.put(1, pad=6_000)
    await turns()
    assert [type(message) for message in one.heard()] == [m.Delta, m.Checkpoint]
    one.flow.close()


async def test_law_2_a_full_socket_is_not_asked_past_and_the_denial_goes_next(
    town: Town, tmp_path: Path
) -> None:
    """Rows that were published behind a full socket stay in the store; the lane overtakes them."""
    one = Carried(town, tmp_path / "k", Pump())
    one.pipe.room_bytes = 10
    town.put(1)
    await turns()
    assert one.pipe.writes == 1
    town.put(5, pad=500)
    town.decide(ALICE, "withdrawn")
    await turns()
    assert one.pipe.writes == 1
    one.pipe.make_room()
    one.flow.room()
    await turns()
    kinds = [type(message) for message in one.heard()]
    assert kinds[:3] == [m.Delta, m.Checkpoint, m.Lane]
    assert kinds[3:] == [m.Delta, m.Checkpoint]
    one.flow.close()


async def test_law_2_who_was_woken_by_the_lane_goes_before_a_long_line(town: Town, tmp_path: Path) -> None:
    """Many wait for a turn to say rows; a decision is on its way to all before the first of those."""
    pump = Pump()
    many = [Carried(town, tmp_path / f"k{n}", pump) for n in range(3)]
    await turns()
    order: list[str] = []
    for number, one in enumerate(many):
        write = one.pipe.write

        def noted(data: bytes, number: int = number, write: object = write) -> None:
            kinds = {type(codec.decode(frame)).__name__ for frame in split(data)}
            order.append(f"{number}:{'lane' if 'Lane' in kinds else 'rows'}")
            many[number].pipe.wire += data

        one.pipe.write = noted  # type: ignore[method-assign]
    town.put(1)
    town.decide(ALICE, "withdrawn")
    await turns()
    assert sorted(order[:3]) == ["0:lane", "1:lane", "2:lane"]
    for one in many:
        one.flow.close()


async def test_law_2_decisions_go_alone_and_rows_go_after_everybody_s_decisions(
    town: Town, tmp_path: Path
) -> None:
    """Two devices have rows to hear when a decision is made: no write mixes them, no rows go in between."""
    pump = Pump()
    many = [Carried(town, tmp_path / f"k{n}", pump) for n in range(2)]
    await turns()
    order: list[tuple[int, list[type[m.Message]]]] = []
    for number, one in enumerate(many):

        def noted(data: bytes, number: int = number) -> None:
            order.append((number, [type(codec.decode(frame)) for frame in split(data)]))

        one.pipe.write = noted  # type: ignore[method-assign]
    town.put(1)
    town.decide(ALICE, "withdrawn")
    await turns()
    rows = [m.Delta, m.Checkpoint]
    assert sorted(number for number, _ in order[:2]) == sorted(number for number, _ in order[2:]) == [0, 1]
    assert [kinds for _, kinds in order] == [[m.Lane], [m.Lane], rows, rows]
    for one in many:
        one.flow.close()


async def test_law_2_few_go_on_with_rows_while_decisions_are_acknowledged(tmp_path: Path) -> None:
    """Decisions are not held back, and rows neither for good nor while nothing was decided."""
    answering, said = [True], list[str]()
    pump = Pump(lambda: answering[0], lasts_s=10)

    class Flow:
        def __init__(self, kind: str) -> None:
            self.kind = kind

        def flow(self) -> None:
            said.append(self.kind)

    async def counts(rows: int, turns: int) -> list[int]:
        for _ in range(rows):
            pump.ring(cast(Outflow, Flow("rows")), urgent=False)
        found = []
        for _ in range(turns):
            before = len(said)
            await asyncio.sleep(0)
            found.append(len(said) - before)
        return found

    assert await counts(TURNS, 1) == [TURNS]
    for _ in range(FEW * 2):
        pump.ring(cast(Outflow, Flow("decision")), urgent=True)
    assert await counts(FEW * 2, 3) == [FEW * 2, FEW, FEW]
    assert said[TURNS:] == ["decision"] * (FEW * 2) + ["rows"] * (FEW * 2)
    answering[0] = False
    assert await counts(TURNS, 1) == [TURNS]


async def test_a_socket_that_takes_nothing_for_too_long_ends_its_session_alone(
    town: Town, tmp_path: Path
) -> None:
    pump = Pump()
    slow, quick = Carried(town, tmp_path / "slow", pump, send_us=1), Carried(town, tmp_path / "quick", pump)
    slow.pipe.room_bytes = 0
    town.put(1)
    with pytest.raises(TimeoutError):
        await slow.flow.ended
    town.put(1)
    await turns()
    assert len(quick.heard()) == 4
    assert not quick.flow.ended.done()
    for one in (slow, quick):
        one.flow.close()


async def test_a_fault_in_one_session_is_no_fault_of_those_behind_it(town: Town, tmp_path: Path) -> None:
    pump = Pump()
    broken, sound = Carried(town, tmp_path / "broken", pump), Carried(town, tmp_path / "sound", pump)
    await turns()
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, told: faults.append(told["exception"]))
    broken.session.server._following._follows["all"].cursor = cast(int, "no number")
    broken.session.subscription.wake.set()
    town.put(1)
    await turns()
    assert len(sound.heard()) == 2
    assert isinstance(broken.flow.ended.exception(), RuntimeError)
    assert [type(fault) for fault in faults] == [TypeError]
    for one in (broken, sound):
        one.flow.close()


async def test_law_11_so_many_write_in_one_turn_and_no_more(tmp_path: Path) -> None:
    """Then the loop hears what others say to us."""
    pump, seen = Pump(lasts_s=10), 0

    class Flow:
        def flow(self) -> None:
            nonlocal seen
            seen += 1

    for _ in range(TURNS * 2 + 1):
        pump.ring(cast(Outflow, Flow()), urgent=False)
    counts = []
    for _ in range(3):
        await asyncio.sleep(0)
        counts.append(seen)
    assert counts == [TURNS, TURNS * 2, TURNS * 2 + 1]


async def test_law_11_a_turn_of_large_frames_ends_in_time() -> None:
    """The urgent first, and one in any case."""
    pump, order = Pump(lasts_s=0), list[str]()

    class Flow:
        def __init__(self, name: str) -> None:
            self._name = name

        def flow(self) -> None:
            order.append(self._name)

    for name in ("rows", "more rows", "lane"):
        pump.ring(cast(Outflow, Flow(name)), urgent=name == "lane")
    counts = []
    for _ in range(3):
        await asyncio.sleep(0)
        counts.append(len(order))
    assert counts == [1, 2, 3]
    assert order == ["lane", "rows", "more rows"]


async def test_a_revoked_device_that_says_nothing_is_left_after_a_while(town: Town, tmp_path: Path) -> None:
    one = Carried(town, tmp_path / "k", Pump())
    await turns()
    with town.store.write("revoke") as tx:
        tx.revoke_device(one.session.kiosk.device_id, town.clock.now_us())
    one.session.subscription.device = True
    one.session.subscription.wake.set()
    await turns()
    assert [type(message) for message in one.heard()] == [m.Revoked]
    assert one.flow._patience is not None
    one.flow._patience._run()
    with pytest.raises(TimeoutError):
        await one.flow.ended
    one.flow.close()
