"""`edge-sync events|webhooks|recipients`, against a server that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sync_server.cli import main
from tests.support.receivers_sync import refusing
from tests.support.served import Served


def test_streams_webhooks_and_recipients_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Add, list, poll with acknowledgement, verify; a dead letter is listed and retried; all is removed."""
    limits: dict[str, Any] = {
        "deliver_to": ["loopback"],
        "webhook_attempts": 1,
        "events_look_us": 20_000,
    }
    with refusing() as url, Served(tmp_path / "data", **limits) as served:

        def run(*words: str) -> Any:
            assert main([*words, "--data", str(served.data), "--json"]) == 0
            return json.loads(capsys.readouterr().out)

        stream = run("events", "streams", "--add", "--event", "revocation-accepted")["stream_id"]
        assert [s["stream_id"] for s in run("events", "streams")] == [stream]
        run("events", "verify", stream, "--state", "s-1")
        (jti,) = run("events", "poll", stream)["sets"]
        assert run("events", "poll", stream, "--ack", jti)["sets"] == {}
        assert run("events", "streams", "--pause", stream)["status"] == "paused"
        assert run("recipients", "add", "crm", stream, "--purpose", "personalization")["name"] == "crm"
        hook = run("webhooks", "add", url, "--event", "decision-recorded")["id"]
        said = {"subject": "alice", "purpose": "personalization", "notice": "2026-11"}
        served.client.call("POST", "/v1/consents", said, headers={"Idempotency-Key": "k"})
        while not (letters := run("webhooks", "dead")["deliveries"]):
            pass
        assert (letters[0]["destination"], letters[0]["error"]) == (hook, "status 503")
        assert run("webhooks", "retry", letters[0]["id"])["state"] == "waiting"
        assert run("doctor")["events"]["events"] == 1
        assert run("webhooks", "remove", hook) == {"removed": hook}
        assert run("recipients", "remove", "crm") == {"removed": "crm"}
        assert run("recipients", "list") == {"recipients": []}
        assert run("events", "streams", "--delete", stream) == {"deleted": stream}
        assert run("webhooks", "list") == {"webhooks": []}
