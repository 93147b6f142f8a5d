"""kill -9 on the server wherever it takes, opens or releases reports: each subject counts exactly once."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from edge_runtime.aggregates.mechanisms import mechanism_for, question_of
from edge_runtime.catalog import Catalog
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import Side, advance
from edge_runtime.wire.sealed_report import Answered, report_id, seal_report
from sync_server.aggregates.estimate import estimates
from sync_server.client import Client, Patience, Unreachable
from sync_server.devices.authority import load_authority
from sync_server.devices.entropy import system_entropy
from sync_server.load.device import SimDevice
from sync_server.load.fleet import Fleet
from tests.support.mortal import Mortal
from tests.support.raw_device import RawDevice
from tests.support.shop_server import CATALOG

PATIENCE = Patience(total_s=30, first_s=0.01, most_s=0.02)
METRIC = "customers_by_country"
ROUNDS = f"/v1/aggregates/{METRIC}/rounds"
PEOPLE = [f"guest-{n}" for n in range(5)]
MOST_PLACES, SEED = 40, 20261130


def small_catalog() -> dict[str, Any]:
    """The shop's, with a minimum that five subjects reach and answers that cost little."""
    document = Catalog.load(CATALOG).to_dict()
    document["catalog"]["version"] += 1
    document["metrics"][METRIC] |= {"min_subjects": 5, "epsilon": 0.05}
    return document


DOCUMENT = small_catalog()
QUESTION = question_of(Catalog.from_dict(DOCUMENT).metrics[METRIC])


class Journey:
    """One round after another; each time the server dies elsewhere."""

    def __init__(self, server: Mortal) -> None:
        self.server, self.places = server, list[str]()
        self.rng = random.Random(SEED)
        client = self._started()
        for name in PEOPLE:
            for purpose in ("measurement", "personalization"):
                client.consent.give(name, purpose, notice="2026-11")
        authority = load_authority(server.data / "server.key", system_entropy, store_exists=True)
        self.subjects = [authority.pseudonym(f"user:{name}") for name in PEOPLE]
        self.device = asyncio.run(_enrolled(client))

    def _started(self, kill_at: int | None = None) -> Client:
        client = self.server.start(kill_at)
        return Client(client.url, client.token, patience=PATIENCE)

    def round(self, place: int) -> bool:
        """A round from its offer to its release while the server dies at `place`; False for no such place."""
        self.server.kill()
        client = self._started(place)
        client.call("PUT", f"/v1/catalogs/shop/{DOCUMENT['catalog']['version']}?activate=true", DOCUMENT)
        round_id = bytes.fromhex(client.call("POST", ROUNDS, {"closes_in_s": 3_600})["round"])
        sealed, tally = self._drawn(round_id)
        self.server.arm()
        done: list[dict[str, Any]] = []
        worker = threading.Thread(target=lambda: done.append(self._report(client, round_id, sealed)))
        worker.start()
        places = self.server.survive(worker)
        self.places += places
        (release,) = done
        self._check(client, release, tally)
        return bool(places)

    def _drawn(self, round_id: bytes) -> tuple[list[bytes], Counter[int]]:
        """A sealed report for each subject, and what they add up to."""
        offer = Heard(self, m.RoundOffer, lambda word: word.round_id == round_id).word
        request = m.TicketRequest(round_id=round_id, subjects=self.subjects)
        tickets = Heard(self, m.Tickets, lambda word: True, request).word
        mechanism, tally, sealed = mechanism_for(QUESTION), Counter[int](), []
        for granted in tickets.granted:
            answer = mechanism.randomize(self.rng.randrange(mechanism.inputs), self.rng.randrange)
            for cell, amount in mechanism.moves(answer) or ():
                tally[cell] += amount
            answered = Answered(offer.definition, [granted.ticket], answer)
            sealed.append(seal_report(offer.collector, round_id, answered))
        assert len(sealed) == len(PEOPLE)
        return sealed, tally

    def _report(self, client: Client, round_id: bytes, sealed: list[bytes]) -> dict[str, Any]:
        """Bring them until all were acknowledged, then close until there is an answer."""
        missing = {report_id(one): one for one in sealed}
        while missing:
            try:
                report = m.Report(round_id=round_id, sealed=list(missing.values()))
                for name in Heard(self, m.ReportAck, lambda word: True, report).word.reports:
                    missing.pop(name, None)
            except (OSError, AssertionError):  # nobody there, or gone in the handshake
                continue
        while True:
            try:
                found: dict[str, Any] = client.call("POST", f"{ROUNDS}/{round_id.hex()}/close")
            except (Unreachable, OSError):
                continue
            return found

    def _check(self, client: Client, release: dict[str, Any], tally: Counter[int]) -> None:
        """Everybody counted once, nobody refused, and the numbers are those of the answers drawn."""
        mechanism, n = mechanism_for(QUESTION), len(PEOPLE)
        wanted = estimates(QUESTION, [tally[cell] for cell in range(mechanism.cells)], n, n)
        assert (release["status"], release["n"], release["reports"]) == ("released", n, n)
        assert release["refused"] == {}
        assert release["estimate"] == {name: float(round(e.estimate, 6)) for name, e in wanted.items()}
        listed = client.call("GET", f"/v1/aggregates/{METRIC}/releases")["releases"]
        assert [one for one in listed if one["round"] == release["round"]] == [release]


class Heard:
    """The next word of a kind in a session of its own, after something was said."""

    def __init__(self, journey: Journey, kind: type[Any], wanted: Any, said: m.Message | None = None) -> None:
        device = journey.device
        raw = RawDevice(journey.server.url, device)
        try:
            raw.open()
            if said is not None:
                device.state = advance(device.state, Side.DEVICE, said)
                raw.say(codec.encode(said))
            while True:
                word = codec.decode(raw.take())
                if isinstance(word, kind) and wanted(word):
                    self.word: Any = word
                    return
        finally:
            raw.close()
            device.end()


async def _enrolled(client: Client) -> SimDevice:
    async with Fleet(client.url, client.token, random.Random(SEED)) as fleet:
        await fleet.enrol(1, whole=0)
        return fleet.members[0].device


def test_law_6_a_server_killed_between_report_and_release_counts_everybody_once(tmp_path: Path) -> None:
    """Before and after every commit on the way, until there is none left to die at."""
    with Mortal(tmp_path) as server:
        journey = Journey(server)
        places = iter(range(1, MOST_PLACES))
        while journey.round(next(places)):
            pass
    print(journey.places)
    wanted = {"report", "collect", "stop_round", "release"}
    assert {place.split()[1] for place in journey.places} >= wanted
    assert {place.split()[0] for place in journey.places} == {"before", "after"}
