"""How many decisions and revocations does the embedded store take, and does it slow down as the ledger grows?

100,000 decisions (gives, renewals, refusals) and 10,000 revocations go over HTTP to a real server process, a
few connections at once, each answered only when it is durable. Everyone who is revoked has a feature row on
the server, sealed under a key of its own that has to be destroyed, and 20 devices with live leases become
targets of every revocation. Rates are of the last 5,000 decisions and 500 revocations before a tenth of them
(1x) and before the end (10x), so that growth shows. `status` and `proof` are single requests on one
connection, of random revocations and leaves.

Two limits beside it in the same run. *By hand* is the durable work that nobody can leave out, in one process
without HTTP: the rows and tree nodes of a decision in one synced SQLite commit; for a revocation the targets,
two Ed25519 signatures and a key destroyed in a second synced database besides. It is taken before and after,
because the disk is shared. *Empty calls* is `GET /healthz` over the same connections.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any, Final

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.measure import table
from bench.served import Served

DECISIONS, REVOCATIONS, DEVICES, SEED = 100_000, 10_000, 20, 20270
CONNECTIONS, ASKED, BATCH, BY_HAND = 4, 500, 2_000, 2_000
PURPOSE, NOTICE = "personalization", "bench"
STAGES: Final = {"1x": 0.1, "10x": 1.0}

Ask = Callable[[aiohttp.ClientSession], Awaitable[None]]


def run(decisions: int = DECISIONS, revocations: int = REVOCATIONS, hand: int = BY_HAND) -> dict[str, object]:
    """Measure, print the table; returns the numbers, those of 10x under the plain names."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        before = _by_hand(folder, hand)
        with Served(folder / "server", DEVICES, {}) as server:
            found = asyncio.run(Load(server, decisions, revocations).run())
        after = _by_hand(folder, hand)
    mean = {name: (before[name] + after[name]) / 2 for name in before}
    seen = _found(found, mean)
    print(_report(seen))
    return seen


def main() -> None:
    """Print the table and the JSON line."""
    print(json.dumps(run()))


class Load:
    """Everything that is asked of the server, in its order."""

    def __init__(self, server: Served, decisions: int, revocations: int) -> None:
        self._server, self._chance = server, random.Random(SEED)
        self._decisions, self._revocations = decisions, revocations
        self._decided = 0
        self._revoked: list[str] = []

    async def run(self) -> dict[str, Any]:
        """Stage by stage; rates a second, times in ms."""
        _lease_all(self._server)
        found: dict[str, Any] = {}
        token = (self._server.folder / "api.token").read_text().strip()
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(self._server.url, connector=connector, headers=headers) as session:
            for stage, share in STAGES.items():
                found[stage] = await self._stage(session, share)
            found["empty_per_s"] = await _rate(session, [_empty] * BATCH)
        return found

    async def _stage(self, session: aiohttp.ClientSession, share: float) -> dict[str, float]:
        upto, last = round(self._decisions * share), round(self._decisions * STAGES["1x"] / 2)
        await _rate(session, self._decide(upto - last))
        decided = await _rate(session, self._decide(upto))
        revoked_upto = round(self._revocations * share)
        last = round(self._revocations * STAGES["1x"] / 2)
        self._publish(revoked_upto)
        await _rate(session, self._revoke(revoked_upto - last))
        revoked = await _rate(session, self._revoke(revoked_upto))
        head = await _json(session, "/v1/consent-ledger/head")
        statuses = [f"/v1/consent-revocations/{self._chance.choice(self._revoked)}" for _ in range(ASKED)]
        seqs = [self._chance.randint(1, head["size"]) for _ in range(ASKED)]
        proofs = [f"/v1/consent-ledger/proof?seq={seq}" for seq in seqs]
        return {
            "decisions_per_s": decided,
            "revocations_per_s": revoked,
            "status_ms_p99": await _p99(session, statuses),
            "proof_ms_p99": await _p99(session, proofs),
            "ledger": head["size"],
        }

    def _decide(self, upto: int) -> list[Ask]:
        """Nine of ten are of people who never decided; the tenth renews or, now and then, refuses."""
        made = []
        for n in range(self._decided, upto):
            again = n % 10 == 9
            who = self._chance.randrange(self._revocations, max(n, self._revocations + 1)) if again else n
            state = "refused" if again and n % 100 == 99 else "given"
            made.append(_post("/v1/consents", {"subject": _name(who), "purpose": PURPOSE, **_said(state)}))
        self._decided = max(self._decided, upto)
        return made

    def _publish(self, upto: int) -> None:
        """A row of each who is about to be revoked, under a key of its own."""
        as_of = self._server.call("GET", "/v1/consent-ledger/head")["size"]
        for start in range(len(self._revoked), upto, BATCH):
            some = range(start, min(start + BATCH, upto))
            row = {"event_time": 1_700_000_000, "values": {"country": "UK"}}
            rows = [{"entity": _name(n), **row} for n in some if n % 10 != 9]
            body = {"view": "profile", "as_of": as_of, "rows": rows}
            told = self._server.call("POST", "/v1/features", body)
            assert told["refused"] == [], told["refused"][:1]

    def _revoke(self, upto: int) -> list[Ask]:
        return [self._revoke_one(n) for n in range(len(self._revoked), upto)]

    def _revoke_one(self, n: int) -> Ask:
        body = {"subject": _name(n), "purposes": "*"}

        async def ask(session: aiohttp.ClientSession) -> None:
            headers = {"Idempotency-Key": f"bench-{n}"}
            async with session.post("/v1/consent-revocations", json=body, headers=headers) as reply:
                assert reply.status == 202, await reply.text()
                self._revoked.append((await reply.json())["id"])

        return ask


def _name(n: int) -> str:
    return f"user:c{n:06d}"


def _said(state: str) -> dict[str, str]:
    return {"state": state, "notice": NOTICE}


def _post(path: str, body: object) -> Ask:
    async def ask(session: aiohttp.ClientSession) -> None:
        async with session.post(path, json=body) as reply:
            assert reply.status == 201, await reply.text()
            await reply.read()

    return ask


async def _empty(session: aiohttp.ClientSession) -> None:
    async with session.get("/healthz") as reply:
        await reply.read()


async def _json(session: aiohttp.ClientSession, path: str) -> Any:
    async with session.get(path) as reply:
        assert reply.status == 200, await reply.text()
        return await reply.json()


async def _rate(session: aiohttp.ClientSession, asks: Sequence[Ask]) -> float:
    """Calls a second, a few under way at once."""
    waiting = iter(asks)

    async def line() -> None:
        for ask in waiting:
            await ask(session)

    begin = time.perf_counter()
    await asyncio.gather(*(line() for _ in range(CONNECTIONS)))
    return len(asks) / (time.perf_counter() - begin)


async def _p99(session: aiohttp.ClientSession, paths: Iterable[str]) -> float:
    """Milliseconds, one request after another."""
    times = []
    for path in paths:
        begin = time.perf_counter()
        await _json(session, path)
        times.append((time.perf_counter() - begin) * 1e3)
    return quantiles(times, n=100)[98]


def _lease_all(server: Served) -> None:
    """Every device gets a lease, as if it had been here: it becomes a target of each revocation."""
    until_us = (time.time_ns() // 1_000) + 30 * 86_400_000_000
    store = sqlite3.connect(server.folder / "server.db", timeout=30)
    with store:
        store.execute("UPDATE devices SET lease_until_us = ?", (until_us,))
    store.close()


# ---- the same by hand ------------------------------------------------------------------------------------


def _by_hand(folder: Path, count: int) -> dict[str, float]:
    with TemporaryDirectory(dir=folder) as name:
        own = Path(name)
        return {
            "decision": by_hand(own, count, targets=0),
            "revocation": by_hand(own, count, targets=DEVICES),
        }


def by_hand(folder: Path, count: int, *, targets: int) -> float:
    """Seconds of one decision (`targets` 0) or revocation done by hand, everything durable."""
    main = sqlite3.connect(folder / f"hand-{targets}.db", isolation_level=None)
    keys = sqlite3.connect(folder / f"keys-{targets}.db", isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        main.execute(f"PRAGMA {pragma}")
    for pragma in ("journal_mode = DELETE", "synchronous = EXTRA", "secure_delete = ON"):
        keys.execute(f"PRAGMA {pragma}")
    main.execute("CREATE TABLE evidence (seq INTEGER PRIMARY KEY, subject BLOB, leaf BLOB)")
    main.execute("CREATE INDEX by_subject ON evidence (subject, seq)")
    main.execute("CREATE TABLE nodes (level INTEGER, place INTEGER, hash BLOB, PRIMARY KEY (level, place))")
    main.execute("CREATE TABLE lane (subject BLOB PRIMARY KEY, seq INTEGER)")
    main.execute("CREATE TABLE targets (id INTEGER, device INTEGER, PRIMARY KEY (id, device))")
    keys.execute("CREATE TABLE keys (subject BLOB PRIMARY KEY, key BLOB)")
    subjects = [os.urandom(16) for _ in range(count)]
    keys.executemany("INSERT INTO keys VALUES (?, ?)", [(s, os.urandom(32)) for s in subjects])
    signing = Ed25519PrivateKey.generate()
    begin = time.perf_counter()
    for seq, subject in enumerate(subjects):
        main.execute("BEGIN IMMEDIATE")
        leaf = os.urandom(200)
        main.execute("INSERT INTO evidence VALUES (?, ?, ?)", (seq, subject, leaf))
        for level in range(2):  # as many nodes as a leaf completes on average
            place = hashlib.sha256(leaf).digest()
            main.execute("INSERT INTO nodes VALUES (?, ?, ?)", (level, seq, place))
        main.execute("INSERT OR REPLACE INTO lane VALUES (?, ?)", (subject, seq))
        main.executemany("INSERT INTO targets VALUES (?, ?)", [(seq, n) for n in range(targets)])
        if targets:
            signing.sign(signing.sign(leaf))
        main.execute("COMMIT")
        if targets:
            keys.execute("DELETE FROM keys WHERE subject = ?", (subject,))
    took = (time.perf_counter() - begin) / count
    main.close()
    keys.close()
    return took


# ---- the report ------------------------------------------------------------------------------------------


def _found(found: dict[str, Any], hand: dict[str, float]) -> dict[str, object]:
    empty_s = 1 / found["empty_per_s"]
    stages = {stage: {k: round(v, 2) for k, v in found[stage].items()} for stage in STAGES}
    whole = found["10x"]
    limits = {name: hand[name] + empty_s for name in hand}
    took = {"decision": 1 / whole["decisions_per_s"], "revocation": 1 / whole["revocations_per_s"]}
    return {
        **{name: value for name, value in stages["10x"].items() if name != "ledger"},
        "growth": {
            name: round(found["1x"][name] / whole[name], 2)
            if name.endswith("_per_s")
            else round(whole[name] / found["1x"][name], 2)
            for name in whole
            if name != "ledger"
        },
        "stages": stages,
        "limit_ms": {name: round(limit * 1e3, 3) for name, limit in limits.items()},
        "by_hand_ms": {name: round(one * 1e3, 3) for name, one in hand.items()},
        "empty_calls_per_s": round(found["empty_per_s"]),
        "ratio_to_limit": {name: round(took[name] / limits[name], 2) for name in took},
        "devices": DEVICES,
    }


def _report(seen: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [("", *STAGES, "times 10x / 1x", "times its limit")]
    limits = {"decisions_per_s": "decision", "revocations_per_s": "revocation"}
    for name in seen["growth"]:
        ratio = seen["ratio_to_limit"][limits[name]] if name in limits else ""
        cells = [f"{seen['stages'][stage][name]:.1f}" for stage in STAGES]
        rows.append((name, *cells, f"{seen['growth'][name]:.2f}", str(ratio)))
    rows.append(("leaves in the ledger", *(f"{seen['stages'][s]['ledger']:,.0f}" for s in STAGES), "", ""))
    hand = seen["by_hand_ms"]
    return (
        f"{table(rows)}\nby hand: decision {hand['decision']} ms, revocation {hand['revocation']} ms; "
        f"empty calls {seen['empty_calls_per_s']} a second; the limit is both together"
    )


if __name__ == "__main__":
    main()
