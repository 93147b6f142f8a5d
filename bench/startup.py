"""How long until a fresh process has its first vector, and how much memory does it hold then?

Each number is the median over fresh processes. `import_s` is `import edge_runtime` until `Runtime` is there,
`numpy_import_s` the part of it that numpy alone would take. Then a process loads the catalog (told apart),
opens an encrypted file of 100,000 rows, and asks for one vector of a known user and an item: 12 server
features of the user, 10 session features, 3 of the item. The rows: 97,000 of items, two for each of 1,000
users who gave consent, sealed under their own keys, and their 1,000 session states after 20 events each.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec

import edge_runtime as er
from bench.measure import table
from edge_runtime.sync.personal_rows import row_slot, seal_row
from edge_runtime.wire.messages import Row
from edge_runtime.wire.seal import subject_token

PROCESSES = 7
ITEMS, USERS, EVENTS_EACH, SEED = 97_000, 1_000, 20, 20263
DAY_US = 86_400_000_000

_PROFILE, _TASTE = [f"p{n}" for n in range(12)], [f"t{n}" for n in range(4)]
_ITEM = ["popularity", "price", "margin"]
CATALOG = f"""
[catalog]
name = "startup"
version = 1
[purposes.personalization]
legal_basis = "consent"
lease = "24h"
retention = "30d"
keep_events = "0s"
[entities.user]
personal = true
[entities.item]
[events.view]
entities = ["user", "item"]
properties = {{ price = "float64" }}
[views.profile]
entity = "user"
source = "server"
purpose = "personalization"
ttl = "7d"
owner = "bench"
features = {{ {", ".join(f'{name} = {{ dtype = "float64" }}' for name in _PROFILE)} }}
[views.taste]
entity = "user"
source = "server"
purpose = "personalization"
ttl = "7d"
owner = "bench"
features = {{ {", ".join(f'{name} = {{ dtype = "float64" }}' for name in _TASTE)} }}
[views.item_stats]
entity = "item"
source = "server"
ttl = 0
owner = "bench"
features = {{ {", ".join(f'{name} = {{ dtype = "float32" }}' for name in _ITEM)} }}
[views.activity]
entity = "user"
source = "session"
purpose = "personalization"
ttl = "30d"
owner = "bench"
[views.activity.features]
views_5m = {{ op = "count", event = "view", window = "5m" }}
views_1h = {{ op = "count", event = "view", window = "1h" }}
views_1d = {{ op = "count", event = "view", window = "1d" }}
views_7d = {{ op = "count", event = "view", window = "7d" }}
spend_1h = {{ op = "sum", event = "view", value = "price", window = "1h" }}
spend_7d = {{ op = "sum", event = "view", value = "price", window = "7d" }}
last_price = {{ op = "last", event = "view", value = "price" }}
pace = {{ op = "decayed_count", event = "view", half_life = "10m" }}
depth = {{ op = "session_count", event = "view", gap = "30m" }}
since_view = {{ op = "since_last", event = "view" }}
[services.ranker]
features = {
    json.dumps(
        [f"profile:{name}" for name in _PROFILE]
        + ["activity:views_5m", "activity:views_1h"]
        + ["activity:views_1d", "activity:views_7d", "activity:spend_1h", "activity:spend_7d"]
        + ["activity:last_price", "activity:pace", "activity:depth", "activity:since_view"]
        + [f"item_stats:{name}" for name in _ITEM]
    )
}
"""

_IMPORT_OURS = """
from time import perf_counter
start = perf_counter()
import edge_runtime
edge_runtime.Runtime
print(perf_counter() - start)
"""
_IMPORT_NUMPY = """
from time import perf_counter
start = perf_counter()
import numpy
print(perf_counter() - start)
"""

_OPEN = """
import json, sys
from time import perf_counter
import edge_runtime as er
runtime, folder = er.Runtime, sys.argv[1]
start = perf_counter()
catalog = er.Catalog.load(folder + "/catalog.toml")
loaded = perf_counter()
rt = runtime.open(folder + "/cache.db", catalog=catalog, key=er.KeyFile(folder + "/device.key"))
opened = perf_counter()
vector = rt.vector("ranker", user="user-7", item="item-4711")
ready = perf_counter()
with open("/proc/self/status") as status:
    rss_kb = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
assert all(status == 0 for status in vector.status), vector.status
print(json.dumps([loaded - start, opened - loaded, ready - opened, rss_kb / 1024]))
rt.close()
"""


def run(items: int = ITEMS, users: int = USERS, processes: int = PROCESSES) -> dict[str, object]:
    """Make the file, measure, print the table; returns the numbers."""
    with TemporaryDirectory() as folder:
        rows = fill(Path(folder), items, users)
        size_mb = (Path(folder) / "cache.db").stat().st_size / 1e6
        questions = {"ours": (_IMPORT_OURS,), "numpy": (_IMPORT_NUMPY,), "open": (_OPEN, folder)}
        answers: dict[str, list[str]] = {name: [] for name in questions}
        for number in range(processes + 1):
            for name, (script, *arguments) in questions.items():
                answer = _answer(script, *arguments, bytecode=f"{folder}/bytecode")
                if number:  # the first compiles, as an installer does
                    answers[name].append(answer)
    import_s, numpy_s = (median(map(float, answers[name])) for name in ("ours", "numpy"))
    found = map(json.loads, answers["open"])
    catalog_s, open_s, vector_s, rss_mb = (median(column) for column in zip(*found, strict=True))
    result: dict[str, object] = {
        "import_s": round(import_s, 3),
        "numpy_import_s": round(numpy_s, 3),
        "open_and_vector_ms": round((open_s + vector_s) * 1e3, 2),
        "rss_mb": round(rss_mb, 1),
        "rows": rows,
        "open_ms": round(open_s * 1e3, 2),
        "first_vector_ms": round(vector_s * 1e3, 2),
        "catalog_ms": round(catalog_s * 1e3, 2),
        "users": users,
        "file_mb": round(size_mb, 1),
    }
    print(_report(result))
    return result


def main() -> None:
    """Print the table and the JSON line."""
    print(json.dumps(run()))


def fill(folder: Path, items: int, users: int) -> int:
    """Make catalog, key and encrypted file in `folder`; returns how many rows lie in it.

    Rows are put where a delta would have put them: this bench has no server.
    """
    (folder / "catalog.toml").write_text(CATALOG)
    catalog, chance = er.Catalog.load(folder / "catalog.toml"), random.Random(SEED)
    with er.Runtime.open(folder / "cache.db", catalog=catalog, key=er.KeyFile(folder / "device.key")) as rt:
        for n in range(users):
            rt.consent.give(f"user-{n}", ["personalization"], notice="bench")
        now_us = er.SystemClock().now_us()
        with rt._database.write("bench") as tx:
            for n in range(items):
                row = _row(f"item:item-{n}", "item_stats", _ITEM, now_us, chance)
                tx.put_row("all", row, bytes(16), now_us // DAY_US)
            for n in range(users):
                key = rt._keyring.key(f"user:user-{n}", "personalization")
                assert key is not None
                entity = subject_token(rt._keyring.pseudonym(f"user:user-{n}"))
                for view, names in (("profile", _PROFILE), ("taste", _TASTE)):
                    slot = row_slot(key, f"{view}@1", entity)
                    sealed = seal_row(key, slot, _row(entity, view, names, now_us, chance), bytes(16))
                    tx.put_personal_row(key.handle, slot, now_us // DAY_US, sealed)
            tx.set_channel("all", 1, 0)
        events = (
            {"type": "view", "user": f"user-{n}", "item": f"item-{m}", "price": chance.randrange(9000) / 100}
            for m in range(EVENTS_EACH)
            for n in range(users)
        )
        taken = rt.track_many(events)
        assert taken.accepted == users * EVENTS_EACH, taken
    return items + 3 * users


def _row(entity: str, view: str, names: list[str], now_us: int, chance: random.Random) -> Row:
    values = msgspec.msgpack.encode({name: chance.random() for name in names})
    return Row(1, entity, view, 1, now_us, now_us, 1, False, values)


def _answer(script: str, *arguments: str, bytecode: str) -> str:
    """What a fresh interpreter prints; modules are kept compiled in `bytecode`, as installed ones are."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = bytecode
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=120, env=environment
    )
    return done.stdout


def _report(found: dict[str, object]) -> str:
    return table(
        [
            (f"{found['rows']} rows, {found['file_mb']} MB, {found['users']} users", "", ""),
            ("import edge_runtime, with Runtime", f"{found['import_s']} s", "goal 0.25"),
            ("import numpy alone", f"{found['numpy_import_s']} s", ""),
            ("load the catalog", f"{found['catalog_ms']} ms", ""),
            ("open", f"{found['open_ms']} ms", ""),
            ("first vector, of 25 numbers", f"{found['first_vector_ms']} ms", ""),
            ("open and first vector", f"{found['open_and_vector_ms']} ms", "goal 50"),
            ("resident memory then", f"{found['rss_mb']} MB", "goal 60"),
        ]
    )


if __name__ == "__main__":
    main()
