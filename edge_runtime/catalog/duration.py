"""Durations as people write them: `"250ms"`, `"60s"`, `"5m"`, `"24h"`, `"30d"`, `0`."""

from __future__ import annotations

import re
from typing import Final

UNIT_US: Final = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_FORM: Final = re.compile(r"([0-9]{1,18})(us|ms|s|m|h|d|w)")
EXPECTED: Final = 'a duration such as "250ms", "60s", "5m", "24h", "30d" or 0'


def parse_duration(value: object) -> int | None:
    """Microseconds of a written duration, None when it is none.

    A whole number and a unit (`us ms s m h d w`), or the integer 0.

    >>> parse_duration("5m"), parse_duration(0), parse_duration("0s"), parse_duration("5 minutes")
    (300000000, 0, 0, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return 0 if value == 0 else None
    if not isinstance(value, str):
        return None
    form = _FORM.fullmatch(value)
    return None if form is None else int(form[1]) * UNIT_US[form[2]]


def write_duration(us: int) -> str:
    """The shortest exact way to write a duration: the largest unit that divides it.

    >>> write_duration(300_000_000), write_duration(1_500), write_duration(0)
    ('5m', '1500us', '0s')
    """
    if us == 0:
        return "0s"
    for unit in ("d", "h", "m", "s", "ms"):
        if us % UNIT_US[unit] == 0:
            return f"{us // UNIT_US[unit]}{unit}"
    return f"{us}us"
