"""The README's Python blocks run as written, in order, in an empty folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(), flags=re.M | re.S)


def test_readme_python_blocks_run(tmp_path: Path) -> None:
    blocks = python_blocks(ROOT / "README.md")
    assert blocks, "the README shows no Python"
    program = tmp_path / "readme.py"
    program.write_text("\n".join(blocks))
    (tmp_path / "catalog.toml").write_bytes((ROOT / "examples/catalogs/shop.toml").read_bytes())
    run = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
