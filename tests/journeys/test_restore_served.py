"""Last night's backup after a withdrawal, over real processes: the server, its commands, and a runtime.

The server's port stays the same, as its name would: the device meets the restored one where the lost one was.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import pytest

import edge_runtime as er
from edge_runtime.sync.settings import SyncSettings
from sync_server.cli import main
from sync_server.client import Client, Refused
from tests.support.served import Served
from tests.support.shop_server import CATALOG

FAST = SyncSettings(backoff_first_us=20_000, backoff_most_us=100_000, tick_us=20_000, resend_us=200_000)
P = "personalization"


def command(*words: object) -> dict[str, Any]:
    """Run `edge-sync` beside the server and return what it says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main([*map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(said.getvalue())
    return found


def until(what: Callable[[], bool], why: str) -> None:
    """Wait, for processes of their own, until `what` holds."""
    end = monotonic() + 30
    while not what():
        assert monotonic() < end, why
        sleep(0.01)


def country(rt: er.Runtime, subject: str) -> tuple[object, str]:
    found = rt.read("profile:country", user=subject)
    return found.value, found.status.name


@pytest.mark.parametrize("journal", [True, False])
def test_law_2_last_nights_backup_brings_back_neither_the_consent_nor_the_features(
    tmp_path: Path, journal: bool
) -> None:
    """And no device is bricked, and the lane never runs backwards; a backup while writes flow is one."""
    mount, data = tmp_path / "mount", tmp_path / "data"
    mount.mkdir()
    served = Served(data, journals=[str(mount)])
    catalog = er.Catalog.load(CATALOG)
    rt = er.Runtime.open(tmp_path / "cache.db", catalog=catalog, key=er.KeyFile(tmp_path / "device.key"))
    with served, rt:
        rt.enrol(served.url, served.client.call("POST", "/v1/device-tokens", {})["token"])
        rt.consent.give("alice", [P], notice="2026-11")
        rt.consent.give("bob", [P], notice="2026-11")
        with rt.sync_in_background(settings=FAST) as sync:
            sync.wait_caught_up(30)
            publish(served.client)
            until(lambda: country(rt, "alice")[0] == "DE", "no profile came")
            writer = Writer(served.client)
            made = command("backup", tmp_path / "backup", "--data", data)
            command("backup", tmp_path / "keys", "--keys", "--force", "--data", data)
            writer.stop()
            assert made["ledger_size"] >= 2
            rt.consent.withdraw("alice", [P])
            sync.wait_caught_up(30)
            before = served.client.call("GET", "/v1/consent-ledger/head")["size"]
        assert before > made["ledger_size"]
        served.end(signal.SIGKILL)
        shutil.rmtree(data)
        journals = ("--journal", mount) if journal else ()
        keys = ("--keys", tmp_path / "keys")
        done = command("restore", tmp_path / "backup", "--data", data, *keys, *journals)
        assert done["whole"] is journal
        served.start()
        if not journal:
            ready = served.client.call("GET", "/readyz")["restore"]
            assert (ready["state"], ready["waiting"]) == ("closed", 1)
            with pytest.raises(Refused, match="catching_up"):
                give(served.client, "carol")
        with rt.sync_in_background(settings=FAST) as sync:
            sync.wait_caught_up(30)
            until(lambda: country(rt, "bob")[0] == "DE", "the device is bricked")
            assert rt.consent.state("alice", P) == "withdrawn"
            assert country(rt, "alice") == ("other", "REVOKED")  # the default
            assert served.client.call("GET", "/v1/consent-ledger/head")["size"] >= before
            assert served.client.call("GET", "/readyz")["restore"]["state"] == "open"
            give(served.client, "carol")
            rt.consent.give("alice", [P], notice="2026-11")
            until(lambda: rt.read("activity:views_5m", user="alice").status.name == "PRESENT", "not again")
            assert country(rt, "alice")[0] == "other"
        told = command("doctor", "--data", data)
        assert told["journals"] == [{"place": str(mount), "state": "whole"}]
        assert not [line for line in told["to_do"] if "journal" in line or "closed" in line]


def publish(client: Client) -> None:
    rows = [
        {"entity": f"user:{name}", "event_time": int(time()), "values": {"country": "DE"}}
        for name in ("alice", "bob")
    ]
    head = client.call("GET", "/v1/consent-ledger/head")["size"]
    reply = client.call("POST", "/v1/features", {"view": "profile", "rows": rows, "as_of": head})
    assert reply["accepted"] == 2, reply


def give(client: Client, subject: str) -> None:
    body = {"subject": f"user:{subject}", "purpose": P, "notice": "2026-11"}
    client.call("POST", "/v1/consents", body)


class Writer:
    """Consents that are given one after another by somebody else."""

    def __init__(self, client: Client) -> None:
        self._client, self._stopped = client, threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _write(self) -> None:
        count = 0
        while not self._stopped.is_set():
            give(self._client, f"w{count}")
            count += 1
