"""The examples of docs/consent-api.md run as they stand, in order, against a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from tests.support.served import Served

PAGE = Path(__file__).resolve().parents[2] / "docs" / "consent-api.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), flags=re.M | re.S)


@pytest.mark.skipif(None in map(shutil.which, ("curl", "jq")), reason="the page's examples need curl and jq")
def test_the_consent_pages_examples_run(tmp_path: Path) -> None:
    """curl, Python and edge-sync; what they print is what the page says."""
    with Served(tmp_path / "data") as server:
        python = "\n".join(
            f"cat > example.py <<'PY'\n{block}PY\npython example.py" for block in blocks("python")
        )
        script = "\n".join(["set -eu", *blocks("sh")[:-1], python, blocks("sh")[-1]])
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        commands = tmp_path / "bin"
        commands.mkdir()
        (commands / "edge-sync").write_text(f'#!/bin/sh\nexec {sys.executable} -m sync_server.cli "$@"\n')
        (commands / "edge-sync").chmod(0o700)
        run = subprocess.run(
            ["bash", "-c", script.replace("http://localhost:8000", server.url)],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{commands}:{path}"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    assert re.search(r"^304$", run.stdout, re.M)
    assert "HTTP/1.1 202 Accepted" in run.stdout
    assert "completed 0 []\n('personalization',)" in run.stdout
    assert "withdrawn: not to be used" in run.stdout
    assert '"revocation_completed"' in (tmp_path / "receipt.json").read_text()


def test_the_consent_page_names_codes_and_states_that_exist() -> None:
    """Every code of a problem and every state in it is one of the program's."""
    from sync_server.consent.progress import State
    from sync_server.errors import PROBLEMS

    named = set(re.findall(r"\b(?:400|409|422) `(\w+)`", PAGE.read_text()))
    assert named
    assert named <= set(PROBLEMS)
    for state in get_args(State):
        assert f"`{state}`" in PAGE.read_text()
