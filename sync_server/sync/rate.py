"""So many a minute for each device, whatever number of sessions it opens."""

from __future__ import annotations

from collections import OrderedDict

MINUTE_US = 60_000_000


class DeviceRate:
    """A bucket of `per_minute` tokens for each device, filled evenly.

    Args:
        devices: most devices remembered; the one that asked longest ago is forgotten, and begins full.
    """

    def __init__(self, per_minute: int, devices: int) -> None:
        self._per_minute, self._devices = per_minute, devices
        self._full = per_minute * MINUTE_US
        self._buckets: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """Device -> (content, when it held so much); a token is `MINUTE_US`, so whole numbers tell all."""

    def take(self, device_id: str, count: int, now_us: int) -> int:
        """Take `count` tokens; 0 when they were there, else in how many microseconds they will be.

        A count that no bucket can ever hold empties a full one.
        """
        held, at_us = self._buckets.get(device_id, (self._full, now_us))
        held = min(held + max(now_us - at_us, 0) * self._per_minute, self._full)
        wanted = min(count * MINUTE_US, self._full)
        missing = wanted - held
        self._buckets[device_id] = (held if missing > 0 else held - wanted), now_us
        self._buckets.move_to_end(device_id)
        if len(self._buckets) > self._devices:
            self._buckets.popitem(last=False)
        return -(-missing // self._per_minute) if missing > 0 else 0
