"""The conversation table: who may say what, and when. What is not in it is `out_of_turn`.

::

    CONNECTED --Challenge--> CHALLENGED --Hello--> GREETED --Welcome--> DRAINING --LaneAck--> LIVE
                                                                         Lane (loop)          all the rest
                                              after a restore, before it: Recall, Recalled, Restated (loop)
    a Refusal while opening ends in CLOSED; in LIVE it speaks of one channel or id and changes nothing
    GREETED, DRAINING, LIVE --Revoked--> LEAVING: only receipts of the wiping, and their acknowledgements

Both sides walk the same table: each looks up what it says and hears, so a programmer's mistake shows at
the sender and a stranger's at the receiver.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure


class Side(StrEnum):
    """Who speaks."""

    DEVICE = "device"
    SERVER = "server"


class State(StrEnum):
    """Where a conversation stands."""

    CONNECTED = "connected"
    """The socket is open; the server has not spoken."""
    CHALLENGED = "challenged"
    """The device owes a Hello."""
    GREETED = "greeted"
    """The server owes a Welcome or a Refusal."""
    DRAINING = "draining"
    """Only the decision lane flows, until the device says that it stands at the Welcome's `lane_head`."""
    LIVE = "live"
    LEAVING = "leaving"
    """The device was revoked: it wipes itself and hands in what proves that."""
    CLOSED = "closed"


_SERVER_LIVE: Final[tuple[type[m.Message], ...]] = (
    m.Lane,
    m.Lease,
    m.Drop,
    m.Delta,
    m.Checkpoint,
    m.Patch,
    m.Fetched,
    m.KeyChanged,
    m.DecisionAck,
    m.ReceiptAck,
    m.RoundOffer,
    m.Tickets,
    m.ReportAck,
    m.Refusal,
)
_DEVICE_LIVE: Final[tuple[type[m.Message], ...]] = (
    m.LaneAck,
    m.LeaseRequest,
    m.Follow,
    m.Unfollow,
    m.Repair,
    m.Fetch,
    m.KeyChange,
    m.Decisions,
    m.ReceiptNote,
    m.TicketRequest,
    m.Report,
    m.Refusal,
)

TABLE: Final[Mapping[tuple[Side, State, type[m.Message]], State]] = {
    (Side.SERVER, State.CONNECTED, m.Challenge): State.CHALLENGED,
    (Side.SERVER, State.CONNECTED, m.Refusal): State.CLOSED,
    (Side.DEVICE, State.CHALLENGED, m.Hello): State.GREETED,
    (Side.DEVICE, State.CHALLENGED, m.Refusal): State.CLOSED,
    (Side.SERVER, State.CHALLENGED, m.Refusal): State.CLOSED,
    (Side.SERVER, State.GREETED, m.Welcome): State.DRAINING,
    (Side.SERVER, State.GREETED, m.Refusal): State.CLOSED,
    (Side.SERVER, State.DRAINING, m.Lane): State.DRAINING,
    (Side.SERVER, State.DRAINING, m.Recall): State.DRAINING,
    (Side.DEVICE, State.DRAINING, m.Recalled): State.DRAINING,
    (Side.SERVER, State.DRAINING, m.Restated): State.DRAINING,
    (Side.SERVER, State.DRAINING, m.Refusal): State.CLOSED,
    (Side.DEVICE, State.DRAINING, m.LaneAck): State.LIVE,
    (Side.DEVICE, State.DRAINING, m.Refusal): State.CLOSED,
    (Side.SERVER, State.GREETED, m.Revoked): State.LEAVING,
    (Side.SERVER, State.DRAINING, m.Revoked): State.LEAVING,
    (Side.SERVER, State.LIVE, m.Revoked): State.LEAVING,
    (Side.SERVER, State.LEAVING, m.ReceiptAck): State.LEAVING,
    (Side.SERVER, State.LEAVING, m.Refusal): State.CLOSED,
    # what a device had said before it heard that it was revoked is no fault; only its receipts count
    **{(Side.DEVICE, State.LEAVING, said): State.LEAVING for said in _DEVICE_LIVE if said is not m.Refusal},
    (Side.DEVICE, State.LEAVING, m.Refusal): State.CLOSED,
    **{(Side.SERVER, State.LIVE, said): State.LIVE for said in _SERVER_LIVE},
    **{(Side.DEVICE, State.LIVE, said): State.LIVE for said in _DEVICE_LIVE},
}


def advance(state: State, speaker: Side, message: m.Message) -> State:
    """The state after `speaker` says `message`; `WireFailure("out_of_turn")` where the table is blank."""
    try:
        return TABLE[speaker, state, type(message)]
    except KeyError:
        name = type(message).__name__
        raise WireFailure("out_of_turn", f"{speaker} may not say {name} while {state}") from None
