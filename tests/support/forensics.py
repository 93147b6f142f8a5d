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
import json, os, pathlib, shutil, sys, tempfile
folder, needles, pid = sys.argv[1], [bytes.fromhex(n) for n in json.loads(sys.argv[2])], sys.argv[3]
hits, seen = {}, 0
def look(name, path):
    global seen
    content = path.read_bytes()
    seen += 1
    found = sum(content.count(needle) for needle in needles)
    if found:
        hits[name] = found
with tempfile.TemporaryDirectory(dir=os.path.dirname(folder)) as away:
    copy = pathlib.Path(shutil.copytree(folder, away + "/copy"))
    for path in sorted(p for p in copy.rglob("*") if p.is_file()):
        look(path.name, path)
for path in pathlib.Path("/proc", pid, "fd").iterdir() if pid else ():
    name = os.readlink(path)
    if name.startswith(folder) and name.endswith(" (deleted)"):
        look(os.path.basename(name), path)
print(json.dumps({"files": seen, "hits": hits}))
"""


def plaintext_hits(folder: Path, needles: Iterable[str | bytes], *, pid: int | None = None) -> dict[str, int]:
    """File name -> occurrences of any of `needles` in every file under `folder`; empty is what law 5 wants.

    Args:
        pid: a process whose open files are looked at too where they were deleted already, as SQLite does
            with its temporary ones.

    Raises AssertionError when there was no file to look at.
    """
    words = [n.encode() if isinstance(n, str) else n for n in needles]
    assert words
    assert all(len(word) >= 6 for word in words), "a shorter needle would be found by chance"
    hidden = "" if pid is None else str(pid)
    command = [sys.executable, "-c", _SCAN, str(folder), json.dumps([w.hex() for w in words]), hidden]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert found["files"] > 0, "nothing was looked at"
    hits: dict[str, int] = found["hits"]
    return hits


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Name -> content of every file in `folder`. Only while no connection of this process holds one."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
