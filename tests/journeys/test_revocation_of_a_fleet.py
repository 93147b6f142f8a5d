"""A town of twenty real devices, half of them in trouble, and one revocation told from beginning to proof.

Server and devices are processes of their own under one clock. Twelve devices hold features of Alice; one of
them took her consent while it was offline, so that no server knows. Five are offline when she withdraws, one
was stolen and shut out, one is put back later from an image of its disk as it was before.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import DeviceProcess, SharedClock
from tests.support.served import Served

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
HOLDERS = range(1, 13)
"""Devices with features of Alice."""
OFFLINE_HOLDER, LONG_GONE, CAME_BACK, BLIND, IDLE = 8, 9, 10, 12, 18
"""The five that are offline when she withdraws; `BLIND` took her consent while it was."""
STOLEN, IMAGED = 11, 7
ONLINE = [n for n in range(1, 21) if n not in (OFFLINE_HOLDER, LONG_GONE, CAME_BACK, BLIND, IDLE, STOLEN)]


class Fleet:
    """The server, its devices 1 to 20, and the clock of all."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, clock = folder, folder / "clock"
        self.clock = SharedClock(clock)
        self.server = stack.enter_context(Served(folder / "server", clock))
        self.client = self.server.client
        self.devices = {
            n: DeviceProcess(f"kiosk-{n:02}", folder / f"kiosk-{n:02}", clock) for n in range(1, 21)
        }
        for one in self.devices.values():
            stack.callback(one.kill)
            one.enrol(self.server.url, self.client.call("POST", "/v1/device-tokens", {})["token"])

    def names(self, *numbers: int) -> list[str]:
        """Device ids, as a revocation names them."""
        return sorted(self.devices[n].device_id for n in numbers)

    def status(self, revocation: str) -> dict[str, Any]:
        """As the API says it now."""
        found: dict[str, Any] = self.client.call("GET", f"/v1/consent-revocations/{revocation}")
        return found

    def expect(self, revocation: str, state: str, **counters: int) -> dict[str, Any]:
        """Wait until the counters are these, then hold them and the state to it."""
        until = time.monotonic() + 60
        while True:
            found = self.status(revocation)
            seen = {name: found["counters"][name] for name in counters}
            if seen == counters or time.monotonic() > until:
                break
        assert seen == counters
        assert found["state"] == state
        return found


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(tmp_path, stack)


def verify(folder: Path, receipt: Mapping[str, Any], root: str) -> subprocess.CompletedProcess[str]:
    """What a newcomer does with a receipt: a file, a fingerprint, an empty folder."""
    own = folder / "newcomer"
    own.mkdir(exist_ok=True)
    (own / "receipt.json").write_text(json.dumps(receipt))
    command = [sys.executable, "-m", "sync_server.cli", "consent", "verify", "receipt.json", "--root", root]
    return subprocess.run(command, cwd=own, capture_output=True, text=True, timeout=60, check=False)


def go(devices: Mapping[int, DeviceProcess], numbers: Sequence[int], what: str) -> None:
    """Have several devices do the same."""
    for n in numbers:
        getattr(devices[n], what)()


def test_laws_2_3_and_4_a_revocation_reaches_a_fleet_and_is_proven(fleet: Fleet, tmp_path: Path) -> None:
    devices, client, clock = fleet.devices, fleet.client, fleet.clock
    go(devices, range(1, 21), "online")
    leased_us = clock.now_us()
    for n in HOLDERS:
        if n != BLIND:
            assert devices[n].ask("collect", "alice") == "ACCEPTED"
            devices[n].online()  # its decision stands in the ledger
    go(devices, [OFFLINE_HOLDER, LONG_GONE, CAME_BACK, BLIND, IDLE], "offline")
    assert devices[BLIND].ask("collect", "alice") == "ACCEPTED"
    devices[IMAGED].kill()
    devices[IMAGED].image(tmp_path / "image")
    devices[IMAGED].start()
    devices[IMAGED].online()
    devices[STOLEN].kill()
    client.call("DELETE", f"/v1/devices/{devices[STOLEN].device_id}")

    # two hours later she withdraws
    clock.advance(2 * HOUR_US)
    body = {"subject": "user:alice", "purposes": "*"}
    accepted = client.call("POST", "/v1/consent-revocations", body, headers={"Idempotency-Key": "alice-1"})
    revocation = accepted["id"]
    root = client.call("GET", "/v1/consent-ledger/head")["root_fingerprint"]
    assert verify(tmp_path, accepted["receipt"], root).returncode == 0
    fleet.expect(revocation, "propagating", targets=20, enforced=14, erased=14, overdue=0)
    for n in (1, IMAGED):
        assert devices[n].ask("read", "alice")[0] == "REVOKED"
    assert devices[LONG_GONE].ask("read", "alice")[0] == "PRESENT"  # its lease runs: law 3 bounds it

    # one comes back in time; one is put back from an old image and must not bring her back
    devices[OFFLINE_HOLDER].online()
    fleet.expect(revocation, "propagating", targets=20, enforced=15, erased=15, overdue=0)
    devices[IMAGED].kill()
    devices[IMAGED].restore(tmp_path / "image")
    devices[IMAGED].start()
    assert devices[IMAGED].ask("read", "alice")[0] == "REVOKED"
    devices[IMAGED].online()
    assert devices[IMAGED].ask("read", "alice")[0] == "REVOKED"
    assert devices[IMAGED].ask("state", "alice") != "given"
    fleet.expect(revocation, "propagating", targets=20, enforced=15, erased=15, overdue=0)

    # the silent ones' leases end: first on the devices, then by the server's account, never before
    clock.advance(leased_us + DAY_US - 120_000_000 - clock.now_us())
    fleet.expect(revocation, "propagating", targets=20, enforced=15, erased=15, overdue=0)
    clock.advance(120_000_000 + DAY_US // 1_000 + 65_000_000)
    for n in (LONG_GONE, CAME_BACK, BLIND):
        assert devices[n].ask("read", "alice")[0] == "REVOKED"
    found = fleet.expect(revocation, "enforced", targets=20, enforced=20, erased=15, overdue=0)
    assert found["enforced_at"] <= clock.now_us()

    # those who return later erase what they hold, also under the consent that no server knew
    go(devices, [CAME_BACK, BLIND, IDLE], "online")
    assert devices[BLIND].ask("state", "alice") != "given"
    assert devices[BLIND].ask("track", "alice") == "NO_CONSENT"
    fleet.expect(revocation, "enforced", targets=20, enforced=20, erased=18, overdue=0)

    # a month after: two are missing, and named
    clock.advance(30 * DAY_US)
    found = fleet.expect(revocation, "partially_completed", targets=20, enforced=20, erased=18, overdue=2)
    assert sorted(found["overdue"]) == fleet.names(LONG_GONE, STOLEN)
    partial = client.call("GET", f"/v1/consent-revocations/{revocation}/receipt")
    told = verify(tmp_path, partial, root)
    assert told.returncode == 0, told.stderr
    assert all(f"{name}  OVERDUE" in told.stdout for name in fleet.names(LONG_GONE, STOLEN))

    # one returns, and the stolen one is found: shut out, it wipes itself, and says so
    devices[LONG_GONE].online()
    fleet.expect(revocation, "partially_completed", targets=20, enforced=20, erased=19, overdue=1)
    devices[STOLEN].start()
    devices[STOLEN].ask("go_online")
    fleet.expect(revocation, "completed", targets=20, enforced=20, erased=20, overdue=0)
    whole = client.call("GET", f"/v1/consent-revocations/{revocation}/receipt")
    told = verify(tmp_path, whole, root)
    assert told.returncode == 0, told.stderr
    answers = [line for line in told.stdout.splitlines() if line.startswith("    dev-")]
    assert len(answers) == 20
    erasers = [line.split()[0] for line in answers if "erased" in line]
    assert sorted(erasers) == fleet.names(*HOLDERS)
    assert f"{devices[STOLEN].device_id}  erased everything" in told.stdout

    # a forged one says what is wrong
    whole["statement"]["devices"][3]["erased_at"] -= 1
    told = verify(tmp_path, whole, root)
    assert told.returncode == 1
    assert "does NOT hold" in told.stdout
