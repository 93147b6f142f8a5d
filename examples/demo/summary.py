"""The end of the demo in plain words, for someone who sees it for the first time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from examples.demo.report import Aggregate, Report
from examples.demo.story import Outcome


def show(console: Console, outcome: Outcome, failures: Sequence[str], folder: Path, seconds: float) -> None:
    """Print what happened, what it means and what to try next."""
    report = outcome.report
    parts: list[RenderableType] = [
        _shopping(report),
        _withdrawal(outcome),
        _statistic(report.aggregate),
        f"\n[bold]Next[/bold]  Read {folder / 'report.json'}, then examples/demo/catalog.toml (what the "
        "shop declares) and examples/demo/kiosk.py (a whole kiosk). `make demo KEEP=1` leaves the "
        "server up and says what to ask it with curl.",
    ]
    title = f"What happened, in {seconds:.0f} seconds" if not failures else "The demo failed"
    console.print(Panel(Group(*parts), title=title, border_style="red" if failures else "green"))
    for failure in failures:
        console.print(f"[red]failed:[/red] {failure}")


def _shopping(report: Report) -> str:
    hits = report.hit_rate_at_20
    return (
        f"[bold]Shopping[/bold]  {report.kiosks} kiosks, each a process with an encrypted file of its own, "
        f"saw {report.events:,} real purchase lines of June 2011, and no event left a kiosk. Now and then a "
        "kiosk showed 20 items; the one bought next was among them\n"
        f"  [green]{hits.personalized:7.1%}[/green]  when ranked on the kiosk for this basket\n"
        f"  {hits.popularity:7.1%}  when they were simply the 20 most popular items\n"
        f"News from the server reached the kiosks in {_ms(report.delta_ms.p50)} (median), "
        f"{_ms(report.delta_ms.p99)} (99 of 100), all on this one machine.\n"
    )


def _withdrawal(outcome: Outcome) -> str:
    found, findings = outcome.report.revocation, outcome.findings
    erased = found.receipts - found.held_none
    return (
        f"[bold]Withdrawal[/bold]  In mid-run customer {outcome.withdrawal.customer} took consent back over "
        f"HTTP. After {_ms(found.enforced_ms)} no kiosk used the data any more, after "
        f"{_ms(found.erased_ms)} all had answered: {found.receipts} receipts from {found.targets} kiosks, "
        f"each signed by its kiosk and verified here; {erased} say `erased`, {found.held_none} `held none`. "
        f"The {outcome.turned_away} lines bought later by this customer were not tracked. A search through "
        f"the kiosks' {findings.files} files ({findings.size_bytes / 1e6:.0f} MB) for the customer's id and "
        f"invoices found [green]{found.plaintext_hits}[/green]; the same search finds "
        f"{outcome.control_hits} in the file of purchases.\n"
    )


def _ms(milliseconds: float | None) -> str:
    return "?" if milliseconds is None else f"{milliseconds:,.0f} ms"


def _statistic(aggregate: Aggregate) -> RenderableType:
    if not aggregate.estimate:
        return "[bold]A statistic[/bold]  Withheld: fewer customers than its minimum."
    table = Table(
        title=f"How many lines did each of {aggregate.subjects} customers buy?",
        title_justify="left",
        title_style="",
    )
    for heading in ("lines", "truth", "released", "95 % interval"):
        table.add_column(heading, justify="right")
    for name, estimate in aggregate.estimate.items():
        low, high = aggregate.ci95[name]
        interval = f"{low:.1%} to {high:.1%}"
        table.add_row(escape(name), f"{aggregate.truth[name]:.1%}", f"{estimate:.1%}", interval)
    words = (
        "[bold]A statistic without the people[/bold]  Every kiosk noised each customer's answer before it "
        "left (local differential privacy, epsilon 2), so the server never saw a true one. In 95 of 100 runs "
        "the truth of a row lies in its interval. The truth is known to this demo only.\n"
    )
    return Group(words, table)
