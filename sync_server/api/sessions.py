"""The device session's two doors, `/v1/sync`: what they promise. They are served by `sync/door.py`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from edge_runtime.wire import bundle
from sync_server.api.route import Query, Route, Told
from sync_server.sync.door import SyncDoor

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=999_999_999)]


def routes(door: SyncDoor) -> tuple[Route, ...]:
    """The session over a WebSocket, and by long poll."""
    socket = Route(
        "GET",
        "/v1/sync",
        door.handle,
        "The device session (WebSocket, binary frames). Devices sign in with their enrolled key.",
        "devices",
        open=True,
        replies={101: "the session is open"},
        problems=("overloaded", "upgrade_required"),
    )
    polled = Route(
        "POST",
        "/v1/sync",
        door.polls.handle,
        "The same session by long poll, where WebSocket is blocked: frames up, frames down, each behind its "
        "length (4 bytes, big-endian).",
        "devices",
        open=True,
        media=bundle.MEDIA_TYPE,
        headers=(
            Query(bundle.SESSION_HEADER, "The token given with the first reply; without it a session opens."),
            Query(
                bundle.POLL_HEADER,
                "0 opens; then one higher each time. The same again: the same reply.",
                True,
            ),
            Query(bundle.WAIT_HEADER, "Longest wait in milliseconds.", type=Milliseconds),
        ),
        replies={200: "frames, perhaps none"},
        gives={200: bundle.MEDIA_TYPE},
        tells={
            200: (
                Told(bundle.SESSION_HEADER, "The session's token, with the first reply.", False),
                Told(bundle.POLL_HEADER, "The number of the poll that is answered.", False),
            )
        },
        tells_all=(Told("Cache-Control", "`no-store`.", False),),
        problems=(
            *("overloaded", "session_closed", "poll_replaced", "poll_out_of_order", "malformed_frames"),
            *("too_large", "too_slow", "unsupported_media", "invalid_request"),
        ),
    )
    return socket, polled
