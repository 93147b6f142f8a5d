"""One kiosk: a process of its own that tracks, ranks and keeps everything to itself.

`python -m examples.demo.kiosk FOLDER` keeps its files in FOLDER, takes orders as JSON lines on its standard
input and answers each with one line. The orders are the customers walking up; the answers are the demo's
bookkeeping (how many, how fast). A real kiosk answers to nobody.
"""

from __future__ import annotations

import json
import signal
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import edge_runtime as er
from examples.demo.arrivals import Arrivals
from examples.demo.clock import ReplayClock
from examples.demo.ranking import best_without, recommend, window

CATALOG = Path(__file__).with_name("catalog.toml")
METRIC = "lines_per_customer"
NOTICE = "2026-11"


CAUGHT_UP_S = 15.0
"""How long a kiosk may take to tell the server all its decisions before the count."""
REPORT_SPREAD_US = 1_000_000
"""Reports wait for a random time of at most a second, so that the demo is soon over; by default, an hour."""


class Kiosk:
    """A shop's kiosk around one runtime, enrolled at the shop's server.

    Args:
        token: a one-time token; with it the kiosk joins and keeps in touch from then on.
        start_us: time at which the kiosk's replayed life begins.
    """

    def __init__(self, rooms: ExitStack, folder: Path, url: str, token: str, start_us: int) -> None:
        catalog = er.Catalog.load(CATALOG)
        self._edges = catalog.metrics[METRIC].edges or ()
        self._clock = ReplayClock(start_us)
        self._customers: set[str] = set()
        self._rt = rooms.enter_context(
            er.Runtime.open(
                folder / "cache.db",
                catalog=catalog,
                key=er.KeyFile(folder / "device.key"),
                settings=er.Settings(report_spread_us=REPORT_SPREAD_US),
                clock=self._clock,
            )
        )
        self.device_id = self._rt.enrol(url, token)
        self._sync = self._rt.sync_in_background()
        self._arrivals = Arrivals(self._rt, self._sync.link)

    def visit(
        self,
        customer: str,
        invoice: str,
        at_us: int,
        home: bool,
        cancelled: bool,
        lines: list[tuple[str, int, float]],
        questions: list[int],
    ) -> dict[str, Any]:
        """Serve one customer: ask for consent, track each line, rank where the demo asks.

        Every kiosk asks for itself whether it may personalize; only the customer's first one (`home`) asks
        whether the customer may be counted.
        """
        self._clock.move_to(at_us)
        self._customers.add(customer)
        self._ask_for_consent(customer, ["personalization", "measurement"] if home else ["personalization"])
        answer = {"accepted": 0, "no_consent": 0, "asked": 0, "hits": 0, "popular_hits": 0}
        event = "cancel" if cancelled else "purchase"
        for place, (item, quantity, price) in enumerate(lines):
            if place in questions and self._permitted(customer):
                self._question(customer, [line[0] for line in lines[:place]], item, answer)
            verdict = self._rt.track(
                event,
                user=customer,
                item=item,
                quantity=quantity,
                price=price,
                at=at_us / 1_000_000,
                id=f"{invoice}:{place:03}",
            )
            answer["accepted"] += verdict == er.ACCEPTED
            answer["no_consent"] += verdict == er.NO_CONSENT
        return answer

    def know(self, customer: str) -> dict[str, Any]:
        """Say what this kiosk would make of a customer: status of a feature, and the consent behind it."""
        lines = self._rt.read("activity:lines_30d", user=customer)
        return {
            "status": er.Status(lines.status).name,
            "consent": self._rt.consent.state(customer, "personalization"),
        }

    def ready(self) -> dict[str, Any]:
        """Say whether consented features may be used and the shop window has arrived."""
        return {"ready": bool(window(self._rt))}

    def arrived(self) -> dict[str, Any]:
        """Say when each edition of the shop window came in, in microseconds of this machine's clock."""
        return {"editions": self._arrivals.seen()}

    def truth(self, now_us: int) -> dict[str, Any]:
        """Move the clock to the present and say, for the demo only, what an honest count would be."""
        self._clock.move_to(now_us)
        self._rt.flush()
        self._sync.wait_caught_up(CAUGHT_UP_S)
        lines = [
            self._rt.read("activity:lines_30d", user=customer).value
            for customer in self._customers
            if self._rt.consent.state(customer, "measurement") == "given"
        ]
        counts = Counter(bisect_right(self._edges, int(str(value))) for value in lines)
        return {"counts": [counts[bucket] for bucket in range(len(self._edges) + 1)]}

    def settle(self) -> dict[str, Any]:
        """Wait until the server has acknowledged everything this kiosk had to say."""
        self._sync.wait_caught_up(CAUGHT_UP_S)
        return {}

    def _ask_for_consent(self, customer: str, purposes: list[str]) -> None:
        """Everyone asked says yes, once; who withdrew is not asked again."""
        unasked = [p for p in purposes if self._rt.consent.state(customer, p) == "unknown"]
        if unasked:
            self._rt.consent.give(customer, unasked, notice=NOTICE)

    def _permitted(self, customer: str) -> bool:
        return self._rt.consent.state(customer, "personalization") == "given"

    def _question(self, customer: str, basket: list[str], bought: str, answer: dict[str, Any]) -> None:
        answer["asked"] += 1
        answer["hits"] += bought in recommend(self._rt, customer, set(basket))
        answer["popular_hits"] += bought in best_without(window(self._rt), set(basket))


Order = Callable[..., dict[str, Any]]
ORDERS: Mapping[str, Order] = {
    "visit": Kiosk.visit,
    "know": Kiosk.know,
    "ready": Kiosk.ready,
    "truth": Kiosk.truth,
    "settle": Kiosk.settle,
    "arrived": Kiosk.arrived,
}


def main(folder: Path) -> None:
    """Take orders until they end, then close in good order. The first order says how to open."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and with it the orders
    with ExitStack() as rooms:
        kiosk = Kiosk(rooms, folder, **json.loads(sys.stdin.readline()))
        _say({"device_id": kiosk.device_id})
        for line in sys.stdin:
            details = json.loads(line)
            _say(ORDERS[details.pop("order")](kiosk, **details))


def _say(answer: Mapping[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
