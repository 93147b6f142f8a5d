"""Devices that mean harm in a round, over real sessions: refused with a code, counted, and nothing moves."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.aggregates.mechanisms import definition, mechanism_for, question_of
from edge_runtime.catalog import Catalog
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.sealed_report import Answered, report_id, seal_report
from sync_server.aggregates.rounds import parameters_of
from sync_server.api import rooms
from tests.server.test_hostile_device import Socket, heard, live, say
from tests.support.clock import ManualClock
from tests.support.shop_server import CATALOG, FakeDevice, ShopServer

DATA = Path(__file__).resolve().parents[1] / "data"
METRIC = "customers_by_country"
ROUNDS = f"/v1/aggregates/{METRIC}/rounds"
PEOPLE = [f"guest-{n}" for n in range(6)]
MOVED = (
    "aggregate_tallies",
    "aggregate_tickets",
    "aggregate_spends",
    "aggregate_releases",
    "aggregate_rounds",
)


class Scene:
    """A server with a round, a device that knows six subjects, and a ticket for each."""

    def __init__(self, shop: ShopServer) -> None:
        self.shop = shop
        self.round_id, self.tickets = b"", list[bytes]()

    async def begin(self) -> Scene:
        for name in PEOPLE:
            for purpose in ("measurement", "personalization"):
                assert (await self.shop.give(name, purpose)).status == 201
        self.device = await FakeDevice(self.shop, 1).enrol()
        await self.open()
        return self

    async def open(self) -> None:
        """The round, or the next one, and the tickets in it."""
        made = await self.shop.call("POST", ROUNDS, {"closes_in_s": 600})
        self.round_id = bytes.fromhex(made.body["round"])
        subjects = [self.shop.pseudonym(name) for name in PEOPLE]
        async with live(self.shop, self.device) as ws:
            await say(ws, m.TicketRequest(round_id=self.round_id, subjects=subjects))
            self.tickets = [g.ticket for g in (await heard(ws, m.Tickets)).granted]
        assert len(self.tickets) == len(PEOPLE)

    def sealed(self, ticket: bytes, answer: bytes | None = None, **other: bytes) -> bytes:
        """As a device seals it; `round_id` and `definition` may be of elsewhere."""
        with self.shop.store.read() as tx:
            row = tx.aggregates.round(self.round_id)
        assert row is not None
        honest = mechanism_for(parameters_of(row).question).randomize(0, lambda n: 0)
        answered = Answered(
            other.get("definition", row.definition), [ticket], honest if answer is None else answer
        )
        return seal_report(row.collector, other.get("round_id", row.id), answered)

    async def bring(self, *sealed: bytes, to: bytes | None = None) -> dict[bytes, str]:
        """In one message over a session of its own; id -> `stored` or the code of the refusal."""
        async with live(self.shop, self.device) as ws:
            await say(ws, m.Report(round_id=to or self.round_id, sealed=list(sealed)))
            return await told(ws, len(sealed))

    async def collect(self) -> dict[str, int]:
        """Open everything, if the server did not yet; what was refused in the round."""
        while await self.shop.app[rooms.COLLECTOR].turn():
            pass
        with self.shop.store.read() as tx:
            return dict(tx.aggregates.refusals(self.round_id))

    def rows(self) -> dict[str, list[Any]]:
        """Whatever a report could move."""
        with self.shop.store.read() as tx:
            return {t: [tuple(r) for r in tx.execute(f"SELECT * FROM {t}")] for t in MOVED}


async def told(ws: Socket, most: int) -> dict[bytes, str]:
    """What is said of each report; of the round as a whole under its empty name."""
    found: dict[bytes, str] = {}
    while len(found) < most:
        match codec.decode(await ws.receive_bytes()):
            case m.ReportAck(reports=stored):
                found |= dict.fromkeys(stored, "stored")
            case m.Refusal(code="round_closed"):
                return {b"": "round_closed"}
            case m.Refusal(code=code, about=about):
                found[bytes.fromhex(about)] = code
    return found


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with ShopServer(tmp_path / "data", ManualClock()) as shop:
        yield await Scene(shop).begin()


Harm = Callable[[Scene], bytes]
HARMS: dict[str, tuple[Harm, str]] = {
    "out of the support": (lambda s: s.sealed(s.tickets[0], b"\xff"), "unsupported_answer"),
    "of another round": (lambda s: s.sealed(s.tickets[0], round_id=bytes(16)), "unsealed"),
    "with another round's ticket": (lambda s: s.sealed(b"\x07" * 16), "ticket_invalid"),
    "of another metric": (lambda s: s.sealed(s.tickets[0], definition=b"\x07" * 16), "metric_changed"),
    "noise": (lambda s: b"\x5a" * len(s.sealed(s.tickets[0])), "unsealed"),
}


@pytest.mark.parametrize("harm", HARMS)
async def test_law_12_a_bad_report_is_counted_by_its_code_and_moves_nothing(scene: Scene, harm: str) -> None:
    """Stored like any other, as nobody at the desk can read it; opened, it changes no table but the count."""
    made, code = HARMS[harm]
    sealed, before = made(scene), scene.rows()
    assert await scene.bring(sealed) == {report_id(sealed): "stored"}
    assert await scene.collect() == {code: 1}
    assert scene.rows() == before
    honest = scene.sealed(scene.tickets[0])
    await scene.bring(honest)
    await scene.collect()
    assert scene.rows() != before, "its ticket is still good"


async def test_law_12_a_report_twice_counts_once(scene: Scene) -> None:
    """T26: the same bytes are acknowledged and ignored; another answer under the ticket is `repeated`."""
    first, second = scene.sealed(scene.tickets[0]), scene.sealed(scene.tickets[0])
    await scene.bring(first)
    assert await scene.collect() == {}
    counted = scene.rows()
    assert await scene.bring(first) == {report_id(first): "stored"}
    await scene.bring(second)
    assert await scene.collect() == {"repeated": 1}
    assert scene.rows() == counted


async def test_law_11_a_device_cannot_fill_the_queue(scene: Scene) -> None:
    """Six tickets: six reports are stored, the rest named `too_many`; of a stranger's device none."""
    many = [scene.sealed(scene.tickets[n % 6]) for n in range(20)]
    said = await scene.bring(*many)
    assert sorted(said.values()) == ["stored"] * 6 + ["too_many"] * 14
    scene.device = await FakeDevice(scene.shop, 2).enrol()
    assert set((await scene.bring(scene.sealed(scene.tickets[0]))).values()) == {"too_many"}
    assert (await scene.collect())["too_many"] == 15


async def test_law_12_bytes_that_are_no_report_are_refused_at_the_desk(scene: Scene) -> None:
    """What is known to trip readers of JSON, MessagePack and text: none has a report's length."""
    groups = json.loads((DATA / "msgpack_test_suite" / "msgpack-test-suite.json").read_text())
    packed = [bytes.fromhex(p.replace("-", "")) for g in groups.values() for c in g for p in c["msgpack"]]
    naughty = [s.encode() for s in json.loads((DATA / "naughty_strings" / "blns.json").read_text())]
    with tarfile.open(DATA / "json_test_suite" / "json_test_suite.tar.gz") as archive:
        files = [archive.extractfile(one) for one in archive.getmembers()]
        texts = [one.read() for one in files if one is not None]
    length = len(scene.sealed(scene.tickets[0]))
    tried = sorted({one for one in (*packed, *naughty, *texts) if len(one) < 4_000 and len(one) != length})
    before, refused = scene.rows(), 0
    for at in range(0, len(tried), 60):
        part = tried[at : at + 60]
        said = await scene.bring(*part)
        assert set(said.values()) == {"malformed"}
        refused += len(part)
    assert len(tried) > 700
    assert await scene.collect() == {"malformed": refused}
    assert scene.rows() == before


async def test_law_2_a_withdrawal_and_a_shut_out_device_take_back_what_is_under_way(scene: Scene) -> None:
    """The ticket of who withdrew counts for nobody, nor do those of a device that was shut out."""
    shop = scene.shop
    assert (await shop.revoke(PEOPLE[0])).status == 202
    assert set((await scene.bring(scene.sealed(scene.tickets[0]))).values()) == {"stored"}
    assert await scene.collect() == {"no_permission": 1}
    first = scene.device
    assert (await shop.call("DELETE", f"/v1/devices/{first.device_id}")).status == 200
    scene.device = await FakeDevice(shop, 2).enrol()
    async with live(shop, scene.device) as ws:
        subjects = [shop.pseudonym(name) for name in PEOPLE]
        await say(ws, m.TicketRequest(round_id=scene.round_id, subjects=subjects))
        assert (await heard(ws, m.Tickets)).granted == [], "what the first one was given stays given"
    with shop.store.read() as tx:
        assert tx.aggregates.tally(scene.round_id) == {}
        assert all(ticket[3] is None for ticket in tx.execute("SELECT * FROM aggregate_tickets"))


async def test_a_metric_that_changed_under_an_open_round_is_told_apart(scene: Scene) -> None:
    """A catalog with another epsilon is promoted: the open round goes on as it was, answers to the new
    metric are refused in it, and the next round asks the new one."""
    catalog = Catalog.load(CATALOG)
    document = catalog.to_dict()
    document["catalog"]["version"] += 1
    document["metrics"][METRIC]["epsilon"] = 0.5
    changed = Catalog.from_dict(document)
    made = await scene.shop.call("PUT", f"/v1/catalogs/shop/{changed.version}?activate=true", document)
    assert made.status in (200, 201)
    answer = mechanism_for(question_of(changed.metrics[METRIC])).randomize(0, lambda n: 0)
    await scene.bring(scene.sealed(scene.tickets[0], answer, definition=definition(changed.metrics[METRIC])))
    await scene.bring(scene.sealed(scene.tickets[0]))
    assert await scene.collect() == {"metric_changed": 1}
    closed = await scene.shop.call("POST", f"{ROUNDS}/{scene.round_id.hex()}/close")
    assert (closed.body["status"], closed.body["epsilon"]) == ("withheld", 1.0)
    await scene.open()
    with scene.shop.store.read() as tx:
        row = tx.aggregates.round(scene.round_id)
    assert row is not None
    assert parameters_of(row).question.epsilon == "1/2"


async def test_law_9_no_counter_tells_how_many_have_answered_while_a_round_is_open(scene: Scene) -> None:
    """Neither transactions by name nor refusals: whoever closes a round can only guess when."""

    async def told() -> list[str]:
        headers = {"Authorization": f"Bearer {scene.shop.token}"}
        text = await (await scene.shop.client.get("/metrics", headers=headers)).text()
        names = ('"report"', '"tickets"', '"collect"', "refused_reports_total{")
        return [line for line in text.splitlines() if any(name in line for name in names)]

    assert await scene.bring(*(scene.sealed(ticket) for ticket in scene.tickets), b"x") != {}
    await scene.collect()
    assert await told() == []
    await scene.shop.call("POST", f"{ROUNDS}/{scene.round_id.hex()}/close")
    assert await told() == ['edge_sync_refused_reports_total{code="too_many"} 1']


async def test_law_9_a_round_under_its_minimum_releases_nothing_and_says_why(scene: Scene) -> None:
    """Six of fifty: no number, not even how many; what came late is counted where only operators look."""
    await scene.bring(*(scene.sealed(ticket) for ticket in scene.tickets))
    path = f"{ROUNDS}/{scene.round_id.hex()}"
    closed = await scene.shop.call("POST", f"{path}/close")
    assert closed.body["status"] == "withheld"
    assert closed.body["reason"] == "fewer than 50 subjects answered"
    assert all(closed.body[name] is None for name in ("n", "reports", "refused", "estimate", "ci95", "share"))
    assert await scene.bring(scene.sealed(scene.tickets[0])) == {b"": "round_closed"}
    metrics = await scene.shop.client.get("/metrics", headers={"Authorization": f"Bearer {scene.shop.token}"})
    assert 'edge_sync_refused_reports_total{code="round_closed"} 1' in await metrics.text()
    assert (await scene.shop.call("POST", f"{path}/close")).body == closed.body


async def small(scene: Scene) -> None:
    """The next round of the metric, under a minimum that six subjects reach."""
    document = Catalog.load(CATALOG).to_dict()
    document["catalog"]["version"] += 1
    document["metrics"][METRIC]["min_subjects"] = 5
    path = f"/v1/catalogs/shop/{document['catalog']['version']}?activate=true"
    assert (await scene.shop.call("PUT", path, document)).status == 201
    await scene.shop.call("POST", f"{ROUNDS}/{scene.round_id.hex()}/close")
    await scene.open()


@pytest.mark.parametrize("look", ["releases", "round", "close"])
async def test_whoever_looks_at_a_round_that_is_over_sees_all_that_came_in_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    """Reports that were stored and not opened yet are opened before anything is told."""
    await small(scene)
    monkeypatch.setattr(scene.shop.app[rooms.NODE].desk, "on_reports", lambda: None)
    await scene.bring(*(scene.sealed(ticket) for ticket in scene.tickets))
    scene.shop.clock.advance(seconds=601)
    path = f"{ROUNDS}/{scene.round_id.hex()}"
    match look:
        case "releases":
            listed = (await scene.shop.call("GET", f"/v1/aggregates/{METRIC}/releases")).body["releases"]
            (release,) = [one for one in listed if one["round"] == scene.round_id.hex()]
        case "round":
            release = (await scene.shop.call("GET", path)).body["release"]
        case _:
            release = (await scene.shop.call("POST", f"{path}/close")).body
    assert (release["status"], release["n"], release["refused"]) == ("released", 6, {})
    assert release["closed_at_us"] == release["opened_at_us"] + 600_000_000


async def test_a_withdrawal_is_heard_while_thousands_of_reports_wait(scene: Scene) -> None:
    """The collector takes a breath after each few: what else the loop has to do is done in between."""
    collector, order = scene.shop.app[rooms.COLLECTOR], list[str]()
    await small(scene)
    with scene.shop.store.write("queue") as tx:
        for n in range(2_000):
            tx.aggregates.take_sealed(scene.round_id, n.to_bytes(16, "big"), b"\x00" * 176)

    async def collect() -> None:
        while await collector.turn(scene.round_id):
            order.append("batch")

    async def withdraw() -> None:
        await scene.shop.revoke(PEOPLE[0])
        order.append("withdrawn")

    await asyncio.gather(collect(), withdraw())
    assert order.index("withdrawn") < 20, "of thirty-two batches"
    assert await scene.collect() == {"unsealed": 2_000}
