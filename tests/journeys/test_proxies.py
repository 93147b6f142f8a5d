"""Behind proxies that spoil WebSockets, against a server in a process of its own: long polls take over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.sync.settings import SECOND_US, SyncSettings
from tests.server.test_server_kill import Served
from tests.support.proxies import Kind, Proxy
from tests.support.shop_server import CATALOG

ALICE, P = "alice", "personalization"
PATIENCE_S = 30
SETTINGS = SyncSettings(
    tick_us=SECOND_US // 10,
    connect_timeout_us=SECOND_US // 2,
    backoff_first_us=SECOND_US // 20,
    poll_wait_us=2 * SECOND_US,
    poll_wait_least_us=SECOND_US // 10,
)
"""Quick, so that three failures do not take a minute."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path / "server")
    yield made
    made.end()


@pytest.fixture
def rt(served: Served, tmp_path: Path) -> Iterator[er.Runtime]:
    key = er.KeyFile(tmp_path / "device.key")
    with er.Runtime.open(tmp_path / "cache.db", catalog=er.Catalog.load(CATALOG), key=key) as made:
        token = served.client.call("POST", "/v1/device-tokens", {})["token"]
        made.enrol(served.client.url, token)
        yield made


def until(true: Callable[[], bool]) -> float:
    """Wait for it; returns how long that took, in seconds."""
    began, pause = time.monotonic(), threading.Event()
    while not true():
        assert time.monotonic() - began < PATIENCE_S
        pause.wait(0.005)
    return time.monotonic() - began


def publish(served: Served, view: str, entity: str, as_of: int, **values: object) -> None:
    row = {"entity": entity, "event_time": time.time(), "values": values}
    assert served.client.call("POST", "/v1/features", {"view": view, "rows": [row], "as_of": as_of})[
        "accepted"
    ]


@pytest.mark.parametrize("kind", ["refuses upgrades", "strips upgrades", "buffers", "cuts idle"])
def test_law_2_behind_a_proxy_that_spoils_websockets_a_device_is_fresh_and_hears_revocations(
    served: Served, rt: er.Runtime, kind: Kind
) -> None:
    said: list[tuple[str, str]] = []
    publish(served, "item_stats", "item:a", 0, popularity=0.5)
    rt.consent.give(ALICE, [P], notice="2026-11")
    with (
        Proxy(kind, served.client.url) as proxy,
        rt.sync_in_background(
            proxy.url, settings=SETTINGS, on_state=lambda state, reason: said.append((state, reason))
        ) as sync,
    ):
        until(lambda: sync.state == "fresh" and sync.link.way == "poll")
        assert rt.read("item_stats:popularity", item="a").value == 0.5
        head = served.client.call("GET", "/v1/consent-ledger/head")["size"]
        publish(served, "profile", f"user:{ALICE}", head, country="FR")
        until(lambda: rt.read("profile:country", user=ALICE).value == "FR")
        time_of_call = time.monotonic()
        body = {"subject": ALICE, "purposes": [P]}
        served.client.call("POST", "/v1/consent-revocations", body, headers={"Idempotency-Key": "1"})
        until(lambda: rt.read("profile:country", user=ALICE).status is er.Status.REVOKED)
        took_s = time.monotonic() - time_of_call
        assert took_s < (2 if kind != "cuts idle" else 4)
        assert rt.consent.state(ALICE, P) == "withdrawn"
        until(lambda: sync.state == "fresh")
        status = rt.status()["sync"]
        assert isinstance(status, dict)
        assert (status["state"], status["way"]) == ("fresh", "poll")
        assert proxy.seen["cut" if kind == "cuts idle" else "POST"] > 1
    assert ("fresh", "") in said
    assert rt.status()["sync"] is None


def test_law_6_a_server_killed_under_polls_is_found_again_and_told_what_was_decided_meanwhile(
    served: Served, rt: er.Runtime, tmp_path: Path
) -> None:
    """kill -9 while a poll waits: stale at once, fresh by polls when it is back, decisions recorded once."""
    with (
        Proxy("refuses upgrades", served.client.url) as proxy,
        rt.sync_in_background(proxy.url, settings=SETTINGS) as sync,
    ):
        until(lambda: sync.state == "fresh")
        served.end()
        took_s = until(lambda: sync.state != "fresh")
        assert took_s < 2
        for n in range(3):
            rt.consent.give(f"u{n}", [P], notice="2026-11")
        again = Served(tmp_path / "server")
        try:
            proxy.lead_to(again.client.url)
            until(lambda: sync.state == "fresh")
            sync.wait_caught_up(PATIENCE_S)
            assert again.client.call("GET", "/v1/consent-ledger/head")["size"] == 3
            assert sync.link.way == "poll"
        finally:
            again.end()


def test_a_proxy_that_leaves_websockets_alone_is_no_reason_to_poll(served: Served, rt: er.Runtime) -> None:
    """It cuts what is idle for longer than the device ever is here."""
    with (
        Proxy("cuts idle", served.client.url, idle_s=60) as proxy,
        rt.sync_in_background(proxy.url, settings=SETTINGS) as sync,
    ):
        sync.wait_caught_up(PATIENCE_S)
        assert sync.link.way == "websocket"
