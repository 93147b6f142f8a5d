"""The receiver on docs/events.md takes what a server sends it, and refuses what it did not send."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.served import Served, free_port

PAGE = Path(__file__).resolve().parents[2] / "docs" / "events.md"


def test_the_receiver_on_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    """As printed there but for its two ports: it says the kind of what came, and 401 to a stranger."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    port = free_port()
    with Served(tmp_path / "data", deliver_to=["loopback"], events_look_us=20_000) as served:
        code = code.replace("127.0.0.1:9000", f"127.0.0.1:{port}").replace("9000", str(port))
        code = code.replace("http://127.0.0.1:8080", served.url).replace('["type"])', '["type"], flush=True)')
        served.client.call("POST", "/v1/webhooks", {"url": f"http://127.0.0.1:{port}/hooks"})
        command = [sys.executable, "-c", code]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as receiver:
            try:
                said = {"subject": "alice", "purpose": "personalization", "notice": "2026-11"}
                served.client.call("POST", "/v1/consents", said, headers={"Idempotency-Key": "k"})
                assert receiver.stdout is not None
                assert receiver.stdout.readline().strip() == "urn:edge-sync:event:decision-recorded"
                stranger = urllib.request.Request(f"http://127.0.0.1:{port}/hooks", data=b"{}", method="POST")
                with pytest.raises(urllib.error.HTTPError, match="401") as refused:
                    urllib.request.urlopen(stranger, timeout=20)
                refused.value.close()
            finally:
                receiver.kill()
