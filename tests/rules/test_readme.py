"""The README's Python blocks run as written, in order, in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def server_blocks() -> str:
    section = (ROOT / "README.md").read_text().split("## A server")[1].split("\n## ")[0]
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```$", section, flags=re.M | re.S)).splitlines()
    return "\n".join(line for line in lines if not line.startswith(("pip install", "edge-sync serve")))


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's server commands need curl")
def test_readme_server_commands_run(tmp_path: Path) -> None:
    serve = [sys.executable, "-m", "sync_server.cli", "serve", "--data", "data", "--port", "0", "--json"]
    serve += ["--catalog", str(ROOT / "examples/catalogs/shop.toml")]
    with subprocess.Popen(serve, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        script = "set -e\n" + server_blocks().replace("http://localhost:8000", url)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        run = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        server.terminate()
    assert run.returncode == 0, run.stderr
    assert '"accepted":1' in run.stdout
    assert "The ledger holds." in run.stdout
    assert "It holds: revocation accepted" in run.stdout
