"""What `/v1/event-streams` takes and says: the shapes of the OpenID Shared Signals Framework 1.0."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edge_runtime.wire.printing import prints_only

PUSH, POLL = "urn:ietf:rfc:8935", "urn:ietf:rfc:8936"
Text = Annotated[str, msgspec.Meta(max_length=512)]
Header = Annotated[str, msgspec.Meta(max_length=4096, pattern=r"^[\x20-\x7e]*$")]


@prints_only("method")
class StreamDelivery(msgspec.Struct, forbid_unknown_fields=True):
    """How SETs reach the receiver: pushed to `endpoint_url`, or polled. The header is never shown."""

    method: Literal["urn:ietf:rfc:8935", "urn:ietf:rfc:8936"] = "urn:ietf:rfc:8936"
    endpoint_url: str | None = None
    authorization_header: Header | None = None


class NewStream(msgspec.Struct, forbid_unknown_fields=True):
    """A stream to be made. `events_requested` left out is all of them; `purposes` left out is all of them."""

    delivery: StreamDelivery = msgspec.field(default_factory=StreamDelivery)
    events_requested: Annotated[list[Text], msgspec.Meta(max_length=64)] | None = None
    purposes: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=1000)] | None = None
    description: Text = ""


class StreamChange(msgspec.Struct, forbid_unknown_fields=True):
    """What is to change of a stream; what is left out stays."""

    stream_id: str
    delivery: StreamDelivery | None = None
    events_requested: Annotated[list[Text], msgspec.Meta(max_length=64)] | None = None
    description: Text | None = None


class DeliveryShown(msgspec.Struct):
    """How SETs reach the receiver."""

    method: str
    endpoint_url: str


class StreamConfiguration(msgspec.Struct):
    """A stream as it stands (SSF 1.0 section 8.1.1)."""

    stream_id: str
    iss: str
    aud: str
    delivery: DeliveryShown
    events_supported: list[str]
    events_requested: list[str]
    events_delivered: list[str]
    purposes: list[str] | None
    description: str


class StreamStatusChange(msgspec.Struct, forbid_unknown_fields=True):
    """`paused` keeps every event until it is `enabled` again. There is no `disabled`: nothing is dropped."""

    stream_id: str
    status: Literal["enabled", "paused"]
    reason: Text = ""


class StreamStatus(msgspec.Struct):
    """Whether a stream flows, and what waits in it."""

    stream_id: str
    status: str
    reason: str
    waiting: int
    refused: int
    failing_since: int | None
    error: str


class Verify(msgspec.Struct, forbid_unknown_fields=True):
    """Ask for a verification event, which brings `state` back."""

    stream_id: str
    state: Text | None = None
