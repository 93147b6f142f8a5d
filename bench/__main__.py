"""`python -m bench NAME` prints a table and, as its last line, one JSON object; `all` runs every bench."""

from __future__ import annotations

import json
import sys
from importlib import import_module

BENCHES = ("session", "read", "track", "aggregate")
"""One question each; `bench/<name>.py` answers it with `run()`."""


def main(arguments: list[str]) -> int:
    """Run the named bench, or all; the exit code is 2 for a name that is none."""
    if len(arguments) != 1 or arguments[0] not in (*BENCHES, "all"):
        print(f"usage: python -m bench {'|'.join(BENCHES)}|all", file=sys.stderr)
        return 2
    for name in BENCHES if arguments[0] == "all" else arguments:
        print(json.dumps(import_module(f"bench.{name}").run()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
