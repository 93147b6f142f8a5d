"""Looking for plain bytes in a device's files, as somebody would who took the disk.

The looking is done by another process on its own copies: opening a live database file in the process that
holds it would drop SQLite's locks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_SCAN = """
import json, pathlib, shutil, sys, tempfile
folder, needles = sys.argv[1], [bytes.fromhex(n) for n in json.loads(sys.argv[2])]
hits, seen = {}, 0
with tempfile.TemporaryDirectory() as away:
    copy = pathlib.Path(shutil.copytree(folder, away + "/copy"))
    for path in sorted(p for p in copy.rglob("*") if p.is_file()):
        content = path.read_bytes()
        seen += 1
        found = sum(content.count(needle) for needle in needles)
        if found:
            hits[path.name] = found
print(json.dumps({"files": seen, "hits": hits}))
"""


def plaintext_hits(folder: Path, needles: Iterable[str | bytes]) -> dict[str, int]:
    """File name -> occurrences of any of `needles` in every file under `folder`; empty is what law 5 wants.

    Raises AssertionError when there was no file to look at.
    """
    words = [n.encode() if isinstance(n, str) else n for n in needles]
    assert words
    assert all(len(word) >= 6 for word in words), "a shorter needle would be found by chance"
    command = [sys.executable, "-c", _SCAN, str(folder), json.dumps([w.hex() for w in words])]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert found["files"] > 0, "nothing was looked at"
    hits: dict[str, int] = found["hits"]
    return hits


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Name -> content of every file in `folder`. Only while no connection of this process holds one."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
