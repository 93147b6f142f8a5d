"""Two rules that the ledgers of device and server share: which day it is, how long a debit counts. Pure.

A window passes only with time that has passed: while a process runs, the ledger's day follows the clock that
nobody can set, and between two runs the wall clock, never backwards. A debit counts for as long as the window
under which it was made, also when a later catalog declares a shorter one.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edge_runtime.aggregates.mechanisms.question import DAY_US

Windows = Mapping[int, int]
"""Length of a window in days -> the newest day on which something was debited under it."""


class LedgerTime:
    """The ledger's day in one process. Times in microseconds, days since 1970 UTC.

    At its first question it goes by the wall clock, or by the newest day known where that is later; from then
    on only by the steady clock, so that setting the wall clock neither opens a window again nor keeps one
    shut.
    """

    def __init__(self) -> None:
        self._start: tuple[int, int] | None = None

    def day(self, newest_day: int, now_us: int, steady_us: int) -> int:
        """Today in the ledger.

        Args:
            newest_day: the newest day ever noted in it, 0 for none.
            now_us: wall time.
            steady_us: a clock that nobody sets; when it begins again, so does this.
        """
        if self._start is None or steady_us < self._start[1]:
            self._start = max(now_us, newest_day * DAY_US), steady_us
        at_us, since_us = self._start
        return max(newest_day, (at_us + steady_us - since_us) // DAY_US)


def longest(windows: Windows, days: int, today: int) -> int:
    """The window that counts today: `days`, or a longer one whose debits are not all over yet."""
    return max([days, *(one for one, newest in windows.items() if newest + one > today)])


def noted(windows: Windows, days: int, today: int) -> dict[int, int]:
    """`windows` after a debit today under a window of `days`; those that a longer one covers, or over, go."""
    known = {one: newest for one, newest in windows.items() if newest + one > today} | {days: today}
    return {
        one: newest
        for one, newest in known.items()
        if not any(other > one and later >= newest for other, later in known.items())
    }


def encode_windows(windows: Windows) -> bytes:
    """As a ledger keeps them."""
    return msgspec.msgpack.encode(dict(windows))


def decode_windows(raw: bytes | None) -> dict[int, int]:
    """As they were noted; none where nothing was. Raises `msgspec.DecodeError` for anything else."""
    return {} if raw is None else msgspec.msgpack.decode(raw, type=dict[int, int])
