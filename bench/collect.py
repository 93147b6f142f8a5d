"""How many reports a second does one server take in, open and release?

10,000 subjects on 100 simulated devices answer a histogram of 16 categories, each with a report of its own:
drawn and sealed by the devices' code, brought over real sessions, what is due together in one message, as
devices do after a time offline or a kiosk does; and once more one a message. The clock runs from the
first report to the release: every acknowledgement means stored and durable, every report is opened, its
ticket and its subject's permission looked at, and the tally moved. What it costs the server is told beside
it, as its processor time: the devices share this machine.

*By hand*, in the same run: the same sealed bytes opened, decoded and looked at, one after the other in one
process, with plain SQLite under the same settings and the same rows, 64 reports a transaction (the most that
the server gathers). `limit_ratio` is the server's processor time over that of the work by hand: sessions,
frames, a transaction for each message and whatever else the server does for a report are in it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bench.collect_lines import REPORTS, TICKETS, ReporterTold, ReportLine
from bench.crowd import CrowdProcess, raise_file_limit
from bench.measure import seconds, table
from bench.report_cost import report_costs
from bench.served import Served
from edge_runtime.aggregates.mechanisms import Mechanism, Question, mechanism_for, question_of
from edge_runtime.catalog import Catalog
from edge_runtime.wire.sealed_report import Answered, open_report, report_id, seal_report
from sync_server.devices.authority import load_authority
from sync_server.devices.entropy import system_entropy

DEVICES, SUBJECTS, SEED = 100, 100, 7007
AT_ONCE: Final = 64
"""Reports in a transaction, by hand."""
METRIC: Final = "by_country"
CATALOG: Final = f"""
[catalog]
name = "bench"
version = 1
[purposes.measurement]
legal_basis = "consent"
lease = "24h"
retention = "30d"
[entities.user]
personal = true
[views.profile]
entity = "user"
source = "server"
purpose = "measurement"
ttl = "7d"
owner = "bench"
[views.profile.features]
country = {{ dtype = "string", values = {json.dumps([f"c{n}" for n in range(16)])} }}
[metrics.{METRIC}]
purpose = "measurement"
kind = "histogram"
of = "profile:country"
epsilon = 1.0
min_subjects = 50
window = "1d"
"""


def run(devices: int = DEVICES, subjects: int = SUBJECTS) -> dict[str, object]:
    """Measure, print the table; returns the numbers.

    Args:
        subjects: on each device.
    """
    raise_file_limit()
    with TemporaryDirectory() as name:
        seen = _served(Path(name) / "server", devices, subjects, together=True)
        alone = _served(Path(name) / "alone", devices, subjects, together=False)
        by_hand = _by_hand(Path(name) / "hand.db", devices * subjects)
    seen |= {
        "by_hand_us_per_report": round(by_hand * 1e6, 1),
        "limit_ratio": round(float(seen["cpu_us_per_report"]) / (by_hand * 1e6), 2),
        "one_a_message_cpu_us_per_report": alone["cpu_us_per_report"],
        "one_a_message_reports_per_second": alone["reports_per_second"],
        **_costs(),
    }
    print(_report(seen))
    return {"bench": "collect", **seen}


def main() -> None:
    """Print the table and the JSON line."""
    print(json.dumps(run()))


# ---- one server ------------------------------------------------------------------------------------------


def _served(folder: Path, devices: int, subjects: int, *, together: bool) -> dict[str, Any]:
    question = question_of(Catalog.from_dict(_document()).metrics[METRIC])
    with ExitStack() as stack:
        server = stack.enter_context(Served(folder, devices, catalog=CATALOG))
        told = _told(server, question, subjects, together)
        answer = server.call("POST", f"/v1/aggregates/{METRIC}/rounds", {"closes_in_s": 86_400})
        crowd = stack.enter_context(CrowdProcess(server.host, server.port, ReportLine, told, 200))
        crowd.begin(TICKETS)
        crowd.times()
        before_s, rss = server.cpu_s(), server.rss_kib()
        began_s = time.monotonic()
        crowd.begin(REPORTS)
        stored_s = max(crowd.times()) - began_s
        release = server.call("POST", f"/v1/aggregates/{METRIC}/rounds/{answer['round']}/close")
        took_s = time.monotonic() - began_s
        worked_s, held = server.cpu_s() - before_s, server.rss_kib()
    reports = devices * subjects
    assert (release["status"], release["n"], release["refused"]) == ("released", reports, {}), release
    return {
        "reports": reports,
        "devices": devices,
        "reports_per_second": round(reports / took_s),
        "stored_per_second": round(reports / stored_s),
        "cpu_us_per_report": round(worked_s / reports * 1e6, 1),
        "server_rss_mib": round(held / 1024, 1),
        "server_grew_mib": round((held - rss) / 1024, 1),
    }


def _document() -> dict[str, Any]:
    import tomllib

    return tomllib.loads(CATALOG)


def _told(server: Served, question: Question, subjects: int, together: bool) -> list[ReporterTold]:
    """Every subject gives its consent by the API; each is known on one device."""
    authority = load_authority(server.folder / "server.key", system_entropy, store_exists=True)
    told = []
    for number, device in enumerate(server.devices):
        names = [f"bench-{number}-{n}" for n in range(subjects)]
        for name in names:
            body = {"subject": name, "purpose": "measurement", "notice": "2026-11"}
            server.call("POST", "/v1/consents", body)
        pseudonyms = [authority.pseudonym(f"user:{name}") for name in names]
        told.append(ReporterTold(device, pseudonyms, question, SEED + number, together))
    return told


# ---- the same work by hand -------------------------------------------------------------------------------


def _by_hand(path: Path, reports: int) -> float:
    """Seconds of processor time for one report."""
    key, round_id = X25519PrivateKey.generate(), os.urandom(16)
    mechanism = mechanism_for(question_of(Catalog.from_dict(_document()).metrics[METRIC]))
    tickets = [os.urandom(16) for _ in range(reports)]
    sealed = [_seal(key, round_id, ticket, mechanism) for ticket in tickets]
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("CREATE TABLE sealed (id BLOB PRIMARY KEY, sealed BLOB) WITHOUT ROWID")
    db.execute("CREATE TABLE tickets (ticket BLOB PRIMARY KEY, subject BLOB, used INTEGER) WITHOUT ROWID")
    db.execute("CREATE TABLE permitted (subject BLOB PRIMARY KEY, state TEXT) WITHOUT ROWID")
    db.execute("CREATE TABLE tally (cell INTEGER PRIMARY KEY, amount INTEGER)")
    db.executemany("INSERT INTO tickets VALUES (?, ?, 0)", [(t, t) for t in tickets])
    db.executemany("INSERT INTO permitted VALUES (?, 'given')", [(t,) for t in tickets])
    took = seconds(lambda: _work(db, key, round_id, mechanism, sealed), time.process_time)
    db.close()
    return took / reports


def _seal(key: X25519PrivateKey, round_id: bytes, ticket: bytes, mechanism: Mechanism) -> bytes:
    answer = mechanism.randomize(0, lambda n: int.from_bytes(os.urandom(8)) % n)
    return seal_report(key.public_key().public_bytes_raw(), round_id, Answered(bytes(16), [ticket], answer))


def _work(
    db: sqlite3.Connection,
    key: X25519PrivateKey,
    round_id: bytes,
    mechanism: Mechanism,
    sealed: Sequence[bytes],
) -> None:
    """Store, then open and count."""
    _in_parts(db, "FULL", sealed, lambda part: _store(db, part))
    _in_parts(db, "NORMAL", sealed, lambda part: _count(db, key, round_id, mechanism, part))


def _in_parts(
    db: sqlite3.Connection,
    synchronous: str,
    sealed: Sequence[bytes],
    work: Callable[[Sequence[bytes]], None],
) -> None:
    db.execute(f"PRAGMA synchronous = {synchronous}")
    for at in range(0, len(sealed), AT_ONCE):
        db.execute("BEGIN IMMEDIATE")
        work(sealed[at : at + AT_ONCE])
        db.execute("COMMIT")


def _store(db: sqlite3.Connection, part: Sequence[bytes]) -> None:
    db.executemany("INSERT INTO sealed VALUES (?, ?)", [(report_id(one), one) for one in part])


def _count(
    db: sqlite3.Connection,
    key: X25519PrivateKey,
    round_id: bytes,
    mechanism: Mechanism,
    part: Sequence[bytes],
) -> None:
    for one in part:
        answered = open_report(key, round_id, one)
        moves = mechanism.moves(answered.answer)
        (ticket,) = answered.tickets
        found = db.execute(
            "SELECT used, state FROM tickets t JOIN permitted p USING (subject) WHERE ticket = ?", (ticket,)
        ).fetchone()
        assert moves is not None
        assert found == (0, "given")
        db.execute("UPDATE tickets SET used = 1, subject = NULL WHERE ticket = ?", (ticket,))
        db.executemany(
            "INSERT INTO tally VALUES (?, ?)"
            " ON CONFLICT (cell) DO UPDATE SET amount = amount + excluded.amount",
            moves,
        )
        db.execute("DELETE FROM sealed WHERE id = ?", (report_id(one),))


# ---- telling ---------------------------------------------------------------------------------------------


def _costs() -> dict[str, dict[str, object]]:
    """What a report of each metric costs a device, as `report_cost` measures it."""
    costs = report_costs()
    return {
        "bytes_per_report": {cost.metric: cost.sealed_bytes for cost in costs},
        "device_us_per_report": {cost.metric: round(cost.alone_us, 1) for cost in costs},
    }


def _report(seen: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [("what", "value")]
    rows += [(name, str(value)) for name, value in seen.items() if not isinstance(value, dict)]
    return table(rows)
