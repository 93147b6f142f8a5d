"""Which device is here and how far it is, in memory alone: what `doctor` shows of one device.

A change goes to thousands of devices without one write for each of them, so where a device stands is known
while its session lives, remembered after its end, and gone with the process; its next Hello says it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from edge_runtime.wire.printing import prints_only


@prints_only("state", "stage", "transport", "lane_acked")
@dataclass(frozen=True, slots=True)
class Standing:
    """Where one session stands, or stood at its end."""

    state: str
    """Of the conversation."""
    stage: str
    """Of admission: `guest` gets no rows."""
    transport: str
    """`websocket` or `poll`."""
    since_us: int
    until_us: int | None
    """None: it lives."""
    lane_sent: int
    lane_acked: int | None
    """Newest position acknowledged in this session."""
    cursors: Mapping[str, int]
    """channel -> seq, as far as was sent."""
    compared: Mapping[str, int]
    """channel -> seq of the newest checkpoint sent: the device says so when its digest differs."""
    snapshots: Mapping[str, str]
    """channel -> `streaming` or `waiting`, for those whose snapshot is under way."""
    mismatched: Mapping[str, int]
    """channel -> how often the device said that its digest differs."""
    refused: Mapping[str, str]
    """channel -> code with which it was refused."""


class Here(Protocol):
    """A session as presence sees it."""

    @property
    def device_id(self) -> str:
        """Whose it is."""
        ...

    def standing(self) -> Standing:
        """Where it stands now."""
        ...


class Presence:
    """Live sessions by device, and how the last one of each device ended.

    Args:
        remembered: most devices of which the end is remembered; the longest gone is forgotten first.
    """

    def __init__(self, remembered: int) -> None:
        self._limit = remembered
        self._here: dict[str, Here] = {}
        self._gone: OrderedDict[str, Standing] = OrderedDict()

    def came(self, session: Here) -> None:
        """The device has proved who it is. A newer session takes the place of an older one."""
        self._here[session.device_id] = session

    def left(self, session: Here, standing: Standing) -> None:
        """The session ended; `standing` is how."""
        if self._here.get(session.device_id) is session:
            del self._here[session.device_id]
            self._gone[session.device_id] = standing
            self._gone.move_to_end(session.device_id)
            if len(self._gone) > self._limit:
                self._gone.popitem(last=False)

    def of(self, device_id: str) -> Standing | None:
        """How far the device is, or was at the end of its last session; None: not known here."""
        session = self._here.get(device_id)
        return self._gone.get(device_id) if session is None else session.standing()

    def __len__(self) -> int:
        return len(self._here)
