"""Every limit of the device's link to its server, with its unit and default."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.wire.codec import FRAME_LIMIT_BYTES, SPOKEN

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US


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
    """A session that was open so long makes the next wait start over at `backoff_first_us`."""
    unsupported_us: int = 3_600 * SECOND_US
    """How long the link stays away when server and app speak no common version of the protocol."""
    spoken: tuple[int, ...] = SPOKEN
    """Versions of the protocol that are spoken here."""
    refused_most_us: int = 10 * MINUTE_US
    """Ceiling of the jitter when the server said no for good."""
    retry_after_most_us: int = 60 * MINUTE_US
    """Longest wait that a server may ask for."""
    attempts_per_minute: int = 20
    """Most connections begun in a minute, for whatever reasons."""
    short_us: int = 5 * SECOND_US
    short_sessions: int = 3
    """After so many WebSockets in a row that were cut before `short_us`, long polls take over."""
    blocked_upgrades: int = 1
    """The same after so many answers that something in between gave to the upgrade."""
    poll_for_us: int = 10 * MINUTE_US
    """How long long polls go on before a WebSocket is tried again."""
    poll_wait_us: int = 20 * SECOND_US
    poll_wait_least_us: int = SECOND_US
    """Longest wait that a poll asks for, and the shortest that it comes down to where waits are cut."""
    poll_retries: int = 3
    """Times that a poll without an answer is sent again before the session is given up."""
    poll_body_bytes: int = 192 * 1024
    """Largest body of a poll; what is more goes with the next."""
    poll_frames: int = 128
    """Most frames in one poll."""
    poll_reply_bytes: int = 1024 * 1024
    """Largest reply taken; a larger one is not read to its end."""
    bytes_per_hour: int = 0
    bytes_per_day: int = 0
    """Byte budget of a metered network, up and down together; 0: none. What is spent is counted only while
    `link.metered` is true, and kept over restarts."""
    frame_overhead_bytes: int = 80
    """What one frame costs besides itself, as an estimate: WebSocket, TLS and TCP headers."""
    request_overhead_bytes: int = 1_000
    """The same of one poll and its reply: HTTP headers too."""
    channels: int = 192
    """Most shared channels that an app may wish for."""
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
    """Most personal channels followed at once; those that can bring rows win, of these the newest grants."""
