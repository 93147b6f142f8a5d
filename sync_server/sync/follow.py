"""How far a device is in one channel that it follows."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Follow:
    """How far the device is in one channel, as far as was sent."""

    cursor: int
    floor: int | None = None
    """The channel's floor when this cursor was good; None: nothing was sent yet."""
    checkpoint: tuple[int, int, bool] | None = None
    """(seq, digest, whole) of the newest checkpoint sent."""
    snapshot: bool = False
    """Whether a snapshot began and more of it is to come."""
    grant: int = 0
    """Live grant of a personal channel when it was opened."""
    patches: list[tuple[int, int]] = field(default_factory=list)
    """(sub-range, seq it was sent up to) of the patches still to be sent, in order."""

    def must_replace(self, floor: int, head: int) -> bool:
        """Whether the channel has to be sent from nothing: what left without a delete must not stay there.

        In the middle of a snapshot the cursor is below the floor it began at; only a floor raised since
        counts.
        """
        if self.floor is None:
            return self.cursor == 0 or self.cursor < floor or self.cursor > head
        return self.floor < floor and self.cursor < floor
