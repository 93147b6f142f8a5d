"""The demo, act by act. OPEN FIRST.

1. *Opening*: the server starts, learns from the earlier days and publishes; the kiosks enrol and catch up.
2. *Shopping*: the later days are replayed on the kiosks, and in mid-run one customer withdraws.
3. *Counting*: the kiosks answer one statistic, each answer noised before it leaves.
"""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.demo.clock import present_us
from examples.demo.counting import count_privately
from examples.demo.fleet import Kiosk, stop_all
from examples.demo.kiosk import METRIC
from examples.demo.learning import learn
from examples.demo.publishing import Publisher
from examples.demo.purchases import SAMPLE, Visit, days_to, first_events, load, moved, split
from examples.demo.report import Delay, Report, Revocation
from examples.demo.scan import Findings, count, plain_values, search
from examples.demo.server import ShopServer
from examples.demo.shopping import Shopping
from examples.demo.withdrawal import Withdrawal, withdraw

READY_S = 30.0
"""How long the kiosks may take to enrol and catch up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    folder: Path
    kiosks: int
    events: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: the report, and what only the summary tells."""

    report: Report
    findings: Findings
    control_hits: int
    """What the same search finds in the file of purchases, where the customer does stand in plain text."""
    withdrawal: Withdrawal
    turned_away: int
    """Purchases of the withdrawn customer after the withdrawal: none was tracked."""

    def failures(self) -> list[str]:
        """What went wrong, in words; empty when the demo showed what it promises."""
        never = [] if self.withdrawal.completed else ["the revocation was not completed in time"]
        blind = (
            [] if self.control_hits else ["the search for plain values finds nothing even where they stand"]
        )
        return [*never, *blind, *self.report.failures()]


async def play(plan: Plan, server: ShopServer, console: Console) -> Outcome:
    """Run the three acts against a started server. The kiosks are gone when this returns or raises."""
    earlier, later = split(load())
    by_us = days_to(later, present_us())
    visits = first_events(moved(later, by_us), plan.events)
    async with AsyncExitStack() as stack:
        kiosks = [
            await Kiosk.start(number, plan.folder / "kiosks" / str(number)) for number in range(plan.kiosks)
        ]
        stack.push_async_callback(stop_all, kiosks)
        publisher = await _opening(server, kiosks, earlier, visits[0].at_us, console)
        shopping, withdrawal, sight = await _shop(server, kiosks, publisher, visits, console)
        counted = await count_privately(server, kiosks, METRIC)
        delays = [
            delay
            for kiosk in kiosks
            for delay in publisher.delays_ms((await kiosk.ask("arrived"))["editions"])
        ]
    needles = plain_values(withdrawal.customer, later)
    findings = search([kiosk.folder for kiosk in kiosks], needles)
    return Outcome(
        Report(
            events=shopping.counts["accepted"],
            kiosks=plan.kiosks,
            hit_rate_at_20=shopping.hit_rate(),
            delta_ms=Delay.of(delays),
            revocation=_revocation(withdrawal, sight.hits + findings.hits),
            aggregate=counted.aggregate(),
        ),
        findings,
        count(gzip.decompress(SAMPLE.read_bytes()), needles),
        withdrawal,
        shopping.counts["no_consent"],
    )


async def _opening(
    server: ShopServer, kiosks: list[Kiosk], earlier: list[Visit], start_us: int, console: Console
) -> Publisher:
    publisher = Publisher(server, learn(earlier), start_us / 1_000_000)
    rows = await publisher.publish_all()
    console.print(f"The server learned from {len(earlier):,} earlier invoices and published {rows:,} rows.")
    await asyncio.gather(*(_join(kiosk, server, start_us) for kiosk in kiosks))
    console.print(f"{len(kiosks)} kiosks enrolled and hold the hot features.")
    return publisher


async def _join(kiosk: Kiosk, server: ShopServer, start_us: int) -> None:
    token = await server.enrolment_token()
    await kiosk.open(server.url, token, start_us)
    async with asyncio.timeout(READY_S):
        while not (await kiosk.ask("ready"))["ready"]:
            await asyncio.sleep(0.05)


async def _shop(
    server: ShopServer, kiosks: list[Kiosk], publisher: Publisher, visits: list[Visit], console: Console
) -> tuple[Shopping, Withdrawal, Findings]:
    columns = (TextColumn("Shopping"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("shopping", total=sum(len(visit.lines) for visit in visits))
        shopping = Shopping(kiosks, visits, lambda events: progress.advance(bar, events))
        publishing = asyncio.create_task(publisher.keep_publishing())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(shopping.run())
                interlude = tasks.create_task(_withdrawal(server, kiosks, shopping, visits, console))
        finally:
            publishing.cancel()
            await asyncio.wait([publishing])
    return shopping, *interlude.result()


async def _withdrawal(
    server: ShopServer, kiosks: list[Kiosk], shopping: Shopping, visits: list[Visit], console: Console
) -> tuple[Withdrawal, Findings]:
    server_key = await server.public_key()
    await shopping.half_time()
    customer = shopping.roamer()
    console.print(f"Customer {customer} withdraws. Consent: {await _consent(kiosks, customer)}.")
    withdrawal = await withdraw(server, server_key, customer, lambda words: console.print(f"  {words}"))
    console.print(f"  consent: {await _consent(kiosks, customer)}")
    findings = search([kiosk.folder for kiosk in kiosks], plain_values(customer, visits))
    console.print(f"  {findings.hits} plain values of this customer in {findings.files} files of the kiosks")
    return withdrawal, findings


async def _consent(kiosks: list[Kiosk], customer: str) -> str:
    answers = await asyncio.gather(*(kiosk.ask("know", customer=customer) for kiosk in kiosks))
    states = Counter(f"{answer['consent']} (features {answer['status']})" for answer in answers)
    return ", ".join(f"{state} at {count}" for state, count in sorted(states.items()))


def _revocation(withdrawal: Withdrawal, plaintext_hits: int) -> Revocation:
    return Revocation(
        targets=withdrawal.targets,
        receipts=withdrawal.answered,
        held_none=withdrawal.held_none,
        enforced_ms=withdrawal.enforced_ms,
        erased_ms=withdrawal.erased_ms,
        plaintext_hits=plaintext_hits,
    )
