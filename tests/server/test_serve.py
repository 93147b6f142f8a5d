"""The command as a process: it says where it listens, stops when asked, and survives being killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sync_server.cli import main
from sync_server.cli.told import NOT_THERE, REFUSED
from sync_server.client import Client
from tests.support.shop_server import CATALOG


class Served:
    """`edge-sync serve` in a process of its own."""

    def __init__(self, data: Path) -> None:
        command = [sys.executable, "-c", "import sys; from sync_server.cli import main; sys.exit(main())"]
        command += ["serve", "--data", str(data), "--port", "0", "--catalog", str(CATALOG), "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.said: dict[str, Any] = json.loads(line) if line else {}
        self.client = Client.of(data, None) if line else None

    def end(self, signal_number: int) -> int:
        self.process.send_signal(signal_number)
        self.process.communicate(timeout=20)
        return self.process.returncode


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main([*arguments, "--json"])
    out = capsys.readouterr()
    return code, json.loads(out.out or out.err)


def test_law_6_kill_dash_nine_loses_nothing_that_was_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Publish, consent, revoke; kill -9; start again: all of it stands. One process at a time."""
    server = Served(tmp_path)
    assert server.said["url"] == json.loads((tmp_path / "server.json").read_text())["url"]
    assert (tmp_path / "api.token").stat().st_mode & 0o777 == 0o600
    data = ("--data", str(tmp_path))
    rows = tmp_path / "rows.jsonl"
    good = {"entity": "item:a", "event_time": 1, "values": {"popularity": 0.5}}
    rows.write_text(json.dumps(good) + "\n" + json.dumps({**good, "entity": "user:b"}) + "\n")
    code, pushed = run(capsys, "push", "item_stats", str(rows), *data)
    assert (code, pushed["accepted"], pushed["refused"][0]["index"]) == (0, 1, 1)
    assert run(capsys, "consent", "give", "alice", "personalization", "--notice", "n", *data)[0] == 0
    code, made = run(capsys, "consent", "revoke", "alice", *data)
    assert code == 0
    assert run(capsys, "enrol", "--new-token", "--ttl", "5m", *data)[1]["token"]
    busy = Served(tmp_path)  # a second server on the same directory
    assert busy.process.wait(timeout=20) == REFUSED
    busy.process.communicate()
    server.end(signal.SIGKILL)

    again = Served(tmp_path)
    code, found = run(capsys, "consent", "status", made["id"], *data)
    assert (code, found["state"]) == (0, "completed")
    code, state = run(capsys, "consent", "state", "alice", *data)
    assert [s["state"] for s in state["history"]] == ["given", "withdrawn", "withdrawn"]
    code, checked = run(capsys, "doctor", *data)
    assert (code, checked["ledger"]["size"]) == (0, 3)
    assert run(capsys, "devices", "list", *data)[1]["counts"]["enrolled"] == 0
    assert run(capsys, "catalog", "list", *data)[1]["active"] == "shop@3"
    assert run(capsys, "catalog", "put", str(CATALOG), "--activate", *data)[0] == 0
    assert run(capsys, "consent", "status", "rev-none", *data)[0] == REFUSED
    for end in ("revoke", "lost"):
        assert run(capsys, "devices", end, "dev-none", *data)[0] == REFUSED
    assert again.end(signal.SIGTERM) == 0
    assert not (tmp_path / "server.json").exists()
    assert run(capsys, "doctor", *data)[0] == NOT_THERE


def test_law_12_commands_say_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken catalog names its faults; a missing server is another exit code; usage is argparse's 2."""
    broken = tmp_path / "broken.toml"
    broken.write_text('[catalog]\nname = "x"\nversion = 1\n[views.v]\nsource = "nowhere"\n')
    code, said = run(capsys, "catalog", "check", str(broken))
    assert (code, "views.v" in said["error"]) == (REFUSED, True)
    assert run(capsys, "catalog", "check", str(CATALOG))[1]["name"] == "shop"
    assert run(capsys, "devices", "list", "--data", str(tmp_path))[0] == NOT_THERE
    assert (
        run(capsys, "devices", "list", "--data", str(tmp_path), "--url", "http://127.0.0.1:9")[0] == NOT_THERE
    )
    with pytest.raises(SystemExit) as caught:
        main(["consent", "give", "alice"])
    assert caught.value.code == 2
    assert "EDGE_SYNC_DATA" not in os.environ
