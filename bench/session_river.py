"""river's nearest statistic for each feature of `bench session` that it has one for.

| ours | river |
|---|---|
| views_5m, views_1h, views_1d | `TimeRolling(Sum)` of 1 over 5 minutes, 1 hour, 1 day (`Count` cannot roll) |
| spend_1h, spend_7d | `TimeRolling(Sum)` of the price over 1 hour, 7 days |
| dear_1d | `TimeRolling(Sum)` of 1 over 1 day, of events with a price over 10 |
| last_items | `Rolling(Sum, 10)`, whose window holds the last ten values |
| pace | `EWMean` (decays by event, not by time) |
| by_category | `Agg` by category of `TimeRolling(Sum)` of 1 over 1 day |
| last_item, depth, since_view | nothing: they are left out, here and in the engine that is compared |

None of them knows ids, lateness or exact sums; events are handed over in order of time, with their datetimes
made before.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.session_feeds import Feed

FEATURES = (
    *("views_5m", "views_1h", "views_1d", "spend_1h", "spend_7d", "dear_1d"),
    *("last_items", "pace", "by_category"),
)
"""The features that river keeps too."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
_5M, _1H, _1D, _7D = timedelta(minutes=5), timedelta(hours=1), timedelta(days=1), timedelta(days=7)


def river(feed: Feed) -> Callable[[], object] | None:
    """The work of feeding river, each user with statistics of its own; None where it is not installed."""
    try:
        from river import feature_extraction, stats, utils
    except ImportError:
        return None

    class Features:
        __slots__ = ("by", "dear", "last", "n_1d", "n_1h", "n_5m", "pace", "sum_1h", "sum_7d")

        def __init__(self) -> None:
            rolling = utils.TimeRolling
            self.n_5m, self.n_1h = rolling(stats.Sum, period=_5M), rolling(stats.Sum, period=_1H)
            self.n_1d, self.dear = rolling(stats.Sum, period=_1D), rolling(stats.Sum, period=_1D)
            self.sum_1h, self.sum_7d = rolling(stats.Sum, period=_1H), rolling(stats.Sum, period=_7D)
            self.last, self.pace = utils.Rolling(stats.Sum, window_size=10), stats.EWMean()
            daily = rolling(stats.Sum, period=_1D)
            self.by: Any = feature_extraction.Agg(on="one", by="category", how=daily)

        def update(self, at: datetime, price: float | None, category: str) -> None:
            self.n_5m.update(1, t=at)
            self.n_1h.update(1, t=at)
            self.n_1d.update(1, t=at)
            if price is not None:
                self.sum_1h.update(price, t=at)
                self.sum_7d.update(price, t=at)
                self.last.update(price)
                if price > 10:
                    self.dear.update(1, t=at)
            self.pace.update(1)
            self.by.learn_one({"one": 1, "category": category}, t=at)

    rows = _rows(feed)

    def work() -> None:
        users: dict[str, Features] = {}
        for user, at, price, category in rows:
            features = users.get(user)
            if features is None:
                features = users[user] = Features()
            features.update(at, price, category)

    return work


def _rows(feed: Feed) -> list[tuple[str, datetime, Any, Any]]:
    """(user, time, price, category) in order of time."""
    return [
        (one.user, _EPOCH + timedelta(microseconds=one.event.at_us), p.get("price"), p["category"])
        for one in sorted(feed, key=lambda one: one.event.at_us)
        for p in (one.event.properties,)
    ]
