"""Every limit of the device's link to its server, with its unit and default."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.wire.codec import FRAME_LIMIT_BYTES, SPOKEN

SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """Limits of one link. Times in microseconds, sizes in bytes, counts in items."""

    frame_limit_bytes: int = FRAME_LIMIT_BYTES
    """Largest frame taken from the socket; a longer one is refused before it is parsed."""
    connect_timeout_us: int = 15 * SECOND_US
    """Longest wait for the socket, and for each answer while opening the conversation."""
    send_timeout_us: int = 20 * SECOND_US
    """A server that takes longer than this to take one frame is left; the next session resumes."""
    silence_us: int = 90 * SECOND_US
    """A socket on which nothing came for so long, not even a ping, is dead."""
    tick_us: int = SECOND_US
    """How often a live link looks at its lease and its outbox when nobody pokes it."""
    backoff_first_us: int = SECOND_US
    backoff_most_us: int = 32 * SECOND_US
    """Full jitter: the n-th wait is drawn from 0 .. min(most, first * 2^n)."""
    healthy_us: int = 60 * SECOND_US
    """A session that lived so long makes the next wait start over at `backoff_first_us`."""
    unsupported_us: int = 3_600 * SECOND_US
    """How long the link stays away when server and app speak no common version of the protocol."""
    spoken: tuple[int, ...] = SPOKEN
    """Versions of the protocol that are spoken here."""
    repairs_per_hour: int = 3
    """Times in an hour that a channel is repaired after a wrong digest; then it is `diverged`."""
    refollows: int = 8
    """Times in one session that a delta may miss a channel's cursor before the session is left."""
    batch: int = 64
    """Most decisions in one frame, and most outbox items in flight."""
    resend_us: int = 30 * SECOND_US
    """An item that was sent and not acknowledged for so long is sent again."""
    fetches_in_flight: int = 4
    """Most requests for rows on demand that wait for their answer; the others wait to be sent."""
    fetch_answer_us: int = 60 * SECOND_US
    """A request of which nothing came for so long is given up, and whoever waits for it is told."""
    personal_channels: int = 64
    """Most personal channels followed at once; the newest grants win."""
