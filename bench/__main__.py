"""`python -m bench NAME` prints a table and, as its last line, one JSON object; `all` runs every bench."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module

from bench.streams import FOLDER_VARIABLE

BENCHES = (
    *("session", "read", "track", "cache", "erase", "replay", "startup", "memory", "aggregate"),
    *("audit", "population", "experiment", "apply", "fanout", "revoke", "consent"),
    *("report_cost", "collect"),
)
"""One question each; `bench/<name>.py` answers it with `run()`."""


def main(arguments: list[str]) -> int:
    """Run the named bench, or all; the exit code is 2 for a name that is none, 1 when one says `failed`."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=(*BENCHES, "all"))
    parser.add_argument("--data", metavar="FOLDER", help=f"the real streams; else ${FOLDER_VARIABLE}")
    chosen = parser.parse_args(arguments)
    if chosen.data is not None:
        os.environ[FOLDER_VARIABLE] = chosen.data
    failed = False
    for name in BENCHES if chosen.name == "all" else (chosen.name,):
        found = import_module(f"bench.{name}").run()
        print(json.dumps(found), flush=True)
        failed |= bool(found.get("failed"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
