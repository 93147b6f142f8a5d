"""The Python of `docs/keys.md` runs as written, in an empty folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.rules.test_readme import ROOT, python_blocks


def test_the_blocks_of_the_keys_page_run(tmp_path: Path) -> None:
    blocks = python_blocks(ROOT / "docs/keys.md")
    assert blocks, "the page shows no Python"
    command = [sys.executable, "-W", "error", "-c", "\n".join(blocks)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["device.slot"]
