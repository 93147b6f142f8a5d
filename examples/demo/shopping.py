"""The replay: real purchases walk up to the kiosks, each kiosk serving its own customers in order of time."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from examples.demo.fleet import Kiosk
from examples.demo.purchases import Visit, home_of
from examples.demo.report import HitRate

ONE_IN = 5
"""The kiosk is asked for a recommendation before one purchase line in this many."""
EVENTS_PER_S = 350
"""Pace of the replay over all kiosks, so that they live like kiosks (mostly idle) and not like a benchmark. A
machine that cannot keep up goes as fast as it can."""


class Shopping:
    """A replay under way."""

    def __init__(
        self, kiosks: Sequence[Kiosk], visits: Sequence[Visit], progress: Callable[[int], None]
    ) -> None:
        self._kiosks, self._visits, self._progress = kiosks, visits, progress
        self._home = home_of(visits, len(kiosks))
        self._events = sum(len(visit.lines) for visit in visits)
        self._shown = self._visits_done = 0
        self._half = asyncio.Event()
        self.counts: Counter[str] = Counter()
        """What the kiosks answered, added up: accepted, no_consent, asked, hits, popular_hits."""
        self.seen_at: dict[str, set[int]] = defaultdict(set)
        """customer -> kiosks that served them so far."""

    async def run(self) -> None:
        """Replay every visit; returns when the last kiosk is through."""
        queues: dict[int, list[tuple[float, Visit]]] = defaultdict(list)
        due = asyncio.get_running_loop().time()
        for visit in self._visits:
            queues[visit.kiosk(len(self._kiosks))].append((due, visit))
            due += len(visit.lines) / EVENTS_PER_S
        await asyncio.gather(*(self._serve(kiosk, queues[kiosk.number]) for kiosk in self._kiosks))
        self._half.set()

    async def half_time(self) -> None:
        """Wait until half of the events are through."""
        await self._half.wait()

    def roamer(self) -> str:
        """Return a customer whom several kiosks have served and who will come again; else the best known."""
        again = {visit.customer for visit in self._visits[self._visits_done :]}

        def rank(customer: str) -> tuple[bool, int]:
            kiosks = len(self.seen_at[customer])
            return kiosks > 1 and customer in again, kiosks

        return max(sorted(self.seen_at), key=rank)

    def hit_rate(self) -> HitRate:
        """Hit rates at 20 over the same questions."""
        asked = max(self.counts["asked"], 1)
        return HitRate(
            round(self.counts["hits"] / asked, 4),
            round(self.counts["popular_hits"] / asked, 4),
        )

    async def _serve(self, kiosk: Kiosk, visits: list[tuple[float, Visit]]) -> None:
        for due, visit in visits:
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            answer = await kiosk.ask(
                "visit",
                customer=visit.customer,
                invoice=visit.invoice,
                at_us=visit.at_us,
                home=self._home[visit.customer] == kiosk.number,
                cancelled=visit.cancelled,
                lines=[(line.item, line.quantity, line.price) for line in visit.lines],
                questions=visit.questions(ONE_IN),
            )
            self.counts.update(answer)
            self.seen_at[visit.customer].add(kiosk.number)
            self._shown += len(visit.lines)
            self._visits_done += 1
            self._progress(len(visit.lines))
            if 2 * self._shown >= self._events:
                self._half.set()
