"""Timers and limits of both sides, as they come: each leaves room for what it waits for on the other."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.sync.long_poll import PAUSE_MOST_US
from edge_runtime.sync.settings import SECOND_US, SyncSettings
from edge_runtime.wire import codec
from sync_server.settings import Settings

DEVICE, SERVER = SyncSettings(), Settings(data_dir=Path("nowhere"))


def test_a_device_waits_longer_than_the_server_is_silent() -> None:
    """Three pings, a whole wait of a poll, the server's own time for a Hello."""
    assert DEVICE.silence_us >= 3 * SERVER.ping_us
    assert SERVER.poll_wait_us + DEVICE.connect_timeout_us > DEVICE.poll_wait_us
    assert DEVICE.connect_timeout_us > SERVER.hello_timeout_us


def test_waits_are_shorter_than_what_proxies_leave_unanswered() -> None:
    assert max(SERVER.ping_us, SERVER.poll_wait_us, DEVICE.poll_wait_us) < 30 * SECOND_US


def test_a_server_keeps_a_polled_session_while_its_device_still_tries() -> None:
    """Pauses and repeats of one poll fit into the idle time, and so does a backoff; a lease is longer."""
    assert SERVER.poll_idle_us > PAUSE_MOST_US * DEVICE.poll_retries
    assert SERVER.poll_idle_us > DEVICE.backoff_most_us
    assert SERVER.lease_us > 100 * max(DEVICE.backoff_most_us, DEVICE.refused_most_us // 2)
    assert SERVER.retry_longest_us < DEVICE.retry_after_most_us


def test_what_a_device_sends_the_server_takes_and_the_other_way_round() -> None:
    assert DEVICE.poll_body_bytes <= SERVER.poll_body_bytes
    assert DEVICE.poll_frames <= SERVER.poll_frames
    assert SERVER.poll_reply_bytes + codec.FRAME_LIMIT_BYTES < DEVICE.poll_reply_bytes
    assert SERVER.poll_reply_bytes > 2 * codec.FRAME_LIMIT_BYTES
    assert DEVICE.poll_body_bytes > codec.FRAME_LIMIT_BYTES + 4
    assert DEVICE.channels + DEVICE.personal_channels <= SERVER.follows


def test_states_and_ways_are_decided_faster_than_they_matter() -> None:
    assert DEVICE.tick_us < DEVICE.short_us < DEVICE.healthy_us < DEVICE.poll_for_us
    assert DEVICE.short_us < DEVICE.connect_timeout_us
    assert (
        DEVICE.backoff_first_us < DEVICE.backoff_most_us < DEVICE.refused_most_us < DEVICE.retry_after_most_us
    )
    assert DEVICE.poll_wait_least_us < DEVICE.poll_wait_us
