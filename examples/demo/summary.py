"""The end of the demo in plain words, for someone who sees it for the first time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from examples.demo.report import Aggregate, Report
from examples.demo.scan import Findings
from examples.demo.story import Outcome


def show(console: Console, outcome: Outcome, failures: Sequence[str], folder: Path, seconds: float) -> None:
    """Print what happened, what it means and what to try next."""
    report = outcome.report
    parts: list[RenderableType] = [
        _shopping(report),
        _withdrawal(report, outcome.findings, outcome.control_hits),
        _statistic(report.aggregate),
        f"\n[bold]Next[/bold]  read {folder / 'report.json'}, then examples/demo/story.py and catalog.toml; "
        "keep the server\nup with `make demo KEEP=1` and talk to it with curl.",
    ]
    title = f"What happened, in {seconds:.0f} seconds" if not failures else "The demo failed"
    console.print(Panel(Group(*parts), title=title, border_style="red" if failures else "green"))
    for failure in failures:
        console.print(f"[red]failed:[/red] {failure}")


def _shopping(report: Report) -> str:
    hits, delay = report.hit_rate_at_20, report.delta_ms
    return (
        f"[bold]Shopping[/bold]  {report.kiosks} kiosks, each a process with an encrypted file of its own, saw "
        f"{report.events:,}\nreal purchases of June 2011. No event left a kiosk. Now and then a kiosk showed 20 "
        "items;\nthe one bought next was among them\n"
        f"  [green]{hits.personalized:7.1%}[/green]  ranked on the kiosk for this customer\n"
        f"  {hits.popularity:7.1%}  the 20 most popular items, for comparison\n"
        f"News from the server reached a kiosk in {delay.p50:.0f} ms (median), {delay.p99:.0f} ms (99 of 100),\n"
        "while all of this shared one machine.\n"
    )


def _withdrawal(report: Report, findings: Findings, control_hits: int) -> str:
    found = report.revocation
    erased = found.receipts - found.held_none
    return (
        f"[bold]Withdrawal[/bold]  In mid-run a customer known to {erased} kiosks took consent back. After "
        f"{found.enforced_ms:,.0f} ms\nno kiosk used the data any more, after {found.erased_ms:,.0f} ms all had "
        f"answered: {found.receipts} of {found.targets} signed\nreceipts verified, {erased} say `erased` and "
        f"{found.held_none} `held none`. A search through {findings.files} files\n"
        f"({findings.size_bytes / 1e6:.0f} MB) of the kiosks for the customer's id and invoices found "
        f"[green]{found.plaintext_hits}[/green] places;\nthe same search finds {control_hits} in the file of "
        "purchases.\n"
    )


def _statistic(aggregate: Aggregate) -> RenderableType:
    if not aggregate.estimate:
        return "[bold]A statistic without the people[/bold]  Withheld: fewer customers than its minimum."
    table = Table(
        title="[bold]A statistic without the people[/bold]  How many lines did each of "
        f"{aggregate.subjects} customers buy?\nEvery answer was noised on the kiosk (epsilon 2): the server "
        "never saw a true one.",
        title_justify="left",
        title_style="",
    )
    for heading in ("lines", "truth", "released", "95 % interval"):
        table.add_column(heading, justify="right")
    for name, estimate in aggregate.estimate.items():
        low, high = aggregate.ci95[name]
        interval = f"{low:.1%} to {high:.1%}"
        table.add_row(escape(name), f"{aggregate.truth[name]:.1%}", f"{estimate:.1%}", interval)
    return table
