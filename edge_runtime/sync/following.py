"""Which channels a session ought to follow now, and what it takes to get there. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from edge_runtime.wire.printing import prints_only


@prints_only()
class Fit(NamedTuple):
    """What is to be said: first what is left, then what is followed."""

    leave: list[str]
    drop: list[str]
    """Of these, the ones whose rows and cursor go too: the app wants none of them."""
    follow: list[str]


def fit(
    following: Collection[str],
    shared: Collection[str],
    personal: Collection[str],
    *,
    against: Collection[str],
    refused: Collection[str],
    lean: bool,
) -> Fit:
    """From `following` to what is wanted.

    Args:
        shared: channels about nobody that are wanted: held, named by the enrolment, wished for.
        personal: channels that live grants open.
        against: channels of which the app wants none.
        refused: channels that this session does not get; they are not asked for again.
        lean: nothing at all is wanted, until the byte budget has room again.
    """
    wanted = [] if lean else [c for c in (*shared, *personal) if c not in against]
    leave = [c for c in following if c not in wanted]
    return Fit(
        leave=leave,
        drop=[c for c in leave if c in against],
        follow=[c for c in wanted if c not in following and c not in refused],
    )
