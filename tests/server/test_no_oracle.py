"""Revoking tells nobody whether a subject is known: the same reply, the same work, the same time.

A subject is told apart once if at all: whoever asks again asks about somebody withdrawn.
"""

from __future__ import annotations

import itertools
import sqlite3
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sync_server.consent.office import ConsentOffice
from sync_server.store.protocol import WriteTx
from tests.support.clock import ManualClock
from tests.support.shop_server import Answer, ShopServer
from tests.support.stopwatch import Stopwatch, difference, rounds

KINDS = ("known", "unknown", "withdrawn")
BOUND = 0.2
"""Share of a revocation's time by which kinds may differ. What is left is the deleting of a known subject's
rows: about 0.08 ms of 0.8 ms for one row here. Whatever waits for a disk does not differ."""
PLANTED = 0.25
"""Share that a planted oracle takes longer, of what the revocations before it took: 0.2 ms here, and more
where others load the machine."""
RECENT = 30
"""Revocations that say how long one takes now."""
ROUNDS = 200


async def people(shop: ShopServer, count: int) -> None:
    """`count` subjects of each kind; who is known has, and who is withdrawn had, consent and a row."""
    for kind in ("known", "withdrawn"):
        names = [name_of(kind, n) for n in range(count)]
        for name in names:
            assert (await shop.give(name)).status == 201
        with shop.store.read() as tx:
            as_of = tx.lane_head()
        rows = [{"entity": f"user:{n}", "event_time": 1, "values": {"country": "DE"}} for n in names]
        assert (await shop.publish("profile", rows, as_of=as_of)).body["accepted"] == count
    for number in range(count):
        assert (await shop.revoke(name_of("withdrawn", number))).status == 202


def name_of(kind: str, number: int) -> str:
    """Equally long for all kinds."""
    return f"{kind[0]}{number:06d}"


async def test_revoking_unknown_known_and_withdrawn_subjects_gets_the_same_reply(shop: ShopServer) -> None:
    """Status, headers, members, types, lengths; the same of the resource, its targets and its receipt."""
    await people(shop, 8)
    shapes: dict[str, list[object]] = {kind: [] for kind in KINDS}
    for number, kind in itertools.product(range(8), KINDS):
        made = await shop.revoke(name_of(kind, number))
        pages = [
            await shop.call("GET", made.headers["Location"] + end) for end in ("", "/targets", "/receipt")
        ]
        shapes[kind].append([shape_of(reply) for reply in (made, *pages)])
    assert shapes["known"] == shapes["unknown"] == shapes["withdrawn"]
    assert [status for status, *_ in shapes["known"][0]] == [202, 200, 200, 200]  # type: ignore[attr-defined]


def shape_of(reply: Answer) -> tuple[int, object, object]:
    """Everything of a reply but the values of ids, numbers and hashes."""
    headers = {
        k: v for k, v in reply.headers.items() if k not in ("Date", "Location", "Content-Length", "ETag")
    }
    return reply.status, headers, _shape(reply.body)


def _shape(value: Any, name: str = "") -> object:
    """A proof is as long as the log makes it, whoever is meant; how many rows went is told to who may ask."""
    match value:
        case dict():
            return {key: _shape(part, key) for key, part in value.items()}
        case list():
            return "path" if name == "inclusion" else [_shape(part) for part in value]
        case str() if name == "leaf":
            return str
        case str() if name in ("id", "subject", "salt", "root", "signature", "commitment", "incarnation"):
            return len(value)
        case int() if not isinstance(value, bool):
            return int
        case _:
            return value


@pytest.mark.parametrize("kind", KINDS)
async def test_a_revocation_writes_and_syncs_the_same_files_whoever_is_meant(
    shop: ShopServer, kind: str
) -> None:
    """The key database commits, whether or not there is a key: on a disk this is most of the time."""
    await people(shop, 1)
    before = shop.store.transactions()
    outside = sqlite3.connect(shop.settings.key_database)
    (version,) = outside.execute("PRAGMA data_version").fetchone()
    assert (await shop.revoke(name_of(kind, 0))).status == 202
    assert outside.execute("PRAGMA data_version").fetchone() != (version,)
    outside.close()
    made = {n: c - before.get(n, 0) for n, c in shop.store.transactions().items() if c != before.get(n, 0)}
    assert {name: count for name, count in made.items() if name != "audit"} == {
        "revoke": 1,
        "keys_erased": 1,
        "erased": 1,
    }


async def test_revoking_unknown_known_and_withdrawn_subjects_takes_the_same_time(tmp_path: Path) -> None:
    """Interleaved, by the processor's time; no two kinds differ by more than the bound."""
    taken = await measured(tmp_path, Stopwatch())
    for one, other in itertools.permutations(KINDS, 2):
        found = difference(taken[one], taken[other], seed=1)
        assert not found.above(BOUND), (one, other, found)


async def test_a_planted_oracle_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same measurement fails when a known subject takes a quarter longer."""
    revoke, watch, known = ConsentOffice.revoke, Stopwatch(), False
    honest_s: deque[float] = deque(maxlen=RECENT)

    def longer(office: ConsentOffice, tx: WriteTx, subject: bytes, *more: Any) -> Any:
        nonlocal known
        if not known:
            honest_s.append(watch.last_s)
        known = bool(tx.decision_state(subject, "personalization").grant)
        end_s = time.thread_time() + PLANTED * statistics.median(honest_s) * known
        while time.thread_time() < end_s:
            pass
        return revoke(office, tx, subject, *more)

    monkeypatch.setattr(ConsentOffice, "revoke", longer)
    taken = await measured(tmp_path, watch)
    assert difference(taken["known"], taken["unknown"], seed=1).above(BOUND)
    assert not difference(taken["withdrawn"], taken["unknown"], seed=1).above(BOUND)


async def measured(tmp_path: Path, watch: Stopwatch) -> Mapping[str, Any]:
    """Seconds of revocations by kind."""
    server = ShopServer(tmp_path / "data", ManualClock())
    watch.hang(server.app)

    def revoking(kind: str) -> Callable[[int], Awaitable[float]]:
        async def one(number: int) -> float:
            assert (await server.revoke(name_of(kind, number))).status == 202
            return watch.last_s

        return one

    async with server:
        await people(server, ROUNDS)
        return await rounds({kind: revoking(kind) for kind in KINDS}, range(ROUNDS), seed=1)
