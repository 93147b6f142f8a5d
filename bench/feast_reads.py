"""Run by another interpreter: microseconds of each `get_online_features` of 32 numbers, as one JSON line.

python feast_reads.py FOLDER READS
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

CONFIG = """project: bench
registry: {folder}/registry.db
provider: local
online_store: {{type: sqlite, path: {folder}/online.db}}
offline_store: {{type: file}}
entity_key_serialization_version: 3
telemetry: false
"""


def main(folder: str, reads: int) -> None:
    """Define 32 features, write one row a user, read one user's."""
    # Names of feast are looked up here: it is not a dependency, and this file is imported by nobody.
    feast: Any = import_module("feast")
    pandas: Any = import_module("pandas")
    types: Any = import_module("feast.types")
    Path(folder, "feature_store.yaml").write_text(CONFIG.format(folder=folder))
    now = datetime.now(UTC)
    names = [f"f{n}" for n in range(32)]
    frame = pandas.DataFrame(
        {"user": list(range(100)), "event_timestamp": [now] * 100, **{name: [1.5] * 100 for name in names}}
    )
    frame.to_parquet(Path(folder, "rows.parquet"))
    user = feast.Entity(name="user", join_keys=["user"], value_type=feast.ValueType.INT64)
    view = feast.FeatureView(
        name="v",
        entities=[user],
        ttl=timedelta(days=7),
        schema=[feast.Field(name=name, dtype=types.Float64) for name in names],
        source=feast.FileSource(path=str(Path(folder, "rows.parquet")), timestamp_field="event_timestamp"),
    )
    store = feast.FeatureStore(repo_path=folder)
    store.apply([user, view])
    store.write_to_online_store("v", frame)
    wanted = [f"v:{name}" for name in names]
    times = []
    for n in range(reads + 50):
        start = time.perf_counter_ns()
        store.get_online_features(features=wanted, entity_rows=[{"user": 7}])
        if n >= 50:
            times.append((time.perf_counter_ns() - start) / 1000)
    print(json.dumps(times))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
