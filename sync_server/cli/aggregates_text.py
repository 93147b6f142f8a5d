"""`edge-sync aggregates` as a person reads it: what happened, what it costs, what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.wire.time_text import time_text
from sync_server.aggregates.documents import DeclaredMetric, Round, RoundBrief
from sync_server.aggregates.release import Release
from sync_server.cli.printable import shown, table
from sync_server.cli.release_text import lines_of, number_text

FAMILY = "edge-sync aggregates"


def metrics_text(found: Sequence[DeclaredMetric]) -> str:
    """The metrics of a catalog and what a round of each costs."""
    if not found:
        return "The active catalog declares no metric: `[metrics.NAME]` in it does (docs/aggregates.md)."
    titles = ("metric", "counts", "of", "epsilon a round", "at least", "mechanism")
    rows = [
        (m.metric, _kind(m), m.of, f"{m.epsilon:g}", f"{m.min_subjects:,}", m.mechanism or "none: see below")
        for m in found
    ]
    lines = [table(titles, rows, right=frozenset({3, 4}))]
    lines += [
        f"  {shown(m.metric)}: no round can be opened: {m.reason}" for m in found if m.reason is not None
    ]
    budget = f"epsilon {found[0].epsilon_ceiling:g} in {days_text(found[0].window_days)}"
    lines.append(f"A subject spends at most {budget}, over all of these; who has spent it is not asked.")
    lines.append(f"Next: `{FAMILY} plan METRIC` says how exact a round would be.")
    return "\n".join(lines)


def opened_text(made: Round, *, fresh: bool) -> str:
    """A round that takes answers."""
    name = shown(made.metric)
    lines = [
        f"{made.round}   a round of {name}, open until {time_text(made.closes_at_us)}",
        f"  noise   {made.mechanism}, epsilon {made.epsilon}, {made.mode}",
        f"  minimum {made.min_subjects:,} subjects; with fewer nothing is released",
    ]
    if not fresh:
        opened = time_text(made.opened_at_us)
        lines.append(
            f"It was open already, since {opened}: when it closes, and what it asks, stay as they were."
        )
    short = made.round[:8]
    lines.append(f"Next: wait; then `{FAMILY} show {name} --round {short}`.")
    lines.append(
        "How many have answered is not told before. Closing it at once loses what devices still hold back:"
    )
    lines.append("each report waits for a random time, by default an hour at most.")
    return "\n".join(lines)


def rounds_text(found: Sequence[RoundBrief]) -> str:
    """Rounds, newest first."""
    if not found:
        return f"No round yet. Next: `{FAMILY} open METRIC --closes-in 1h`."
    titles = ("round", "metric", "state", "opened", "closed")
    rows = [
        (one.round[:8], one.metric, one.state, time_text(one.opened_at_us), _closed(one)) for one in found
    ]
    return table(titles, rows)


def releases_text(found: Sequence[Release]) -> str:
    """Releases, newest first, each in a line."""
    if not found:
        return f"Nothing was released yet. `{FAMILY} rounds` says which rounds are open."
    titles = ("released", "metric", "round", "subjects", "numbers")
    rows = [
        (time_text(r.closed_at_us), r.metric, r.round[:8], "" if r.n is None else f"{r.n:,}", _summary(r))
        for r in found
    ]
    said = f"Next: `{FAMILY} show METRIC --round ROUND` has all numbers of one, `--csv FILE` those of all."
    return "\n".join([table(titles, rows, right=frozenset({3})), said])


def never_asked_text(metric: str, *, declared: bool) -> str:
    """That there is nothing to show, not even a round; whether one could be opened."""
    name = shown(metric)
    if declared:
        return f"Nothing was ever asked of {name}. Next: `{FAMILY} open {name} --closes-in 1h`."
    return (
        f"Nothing was ever asked of {name}, and the active catalog declares no such metric.\n"
        f"Next: `{FAMILY} metrics` names what can be asked."
    )


def waiting_text(found: RoundBrief) -> str:
    """That there is nothing to show yet, and why."""
    name = shown(found.metric)
    if found.state == "open":
        until = time_text(found.closes_at_us)
        return (
            f"Not yet: round {found.round} of {name} takes answers until {until}.\nNothing is told before. "
            f"Next: come back then, or `{FAMILY} close {found.round[:8]}`."
        )
    return (
        f"Not yet: round {found.round} of {name} is closed; what it took is being counted.\n"
        f"Next: `{FAMILY} show {name} --round {found.round[:8]}` in a moment."
    )


def _kind(metric: DeclaredMetric) -> str:
    return metric.kind if metric.mode == "local" else f"{metric.kind} ({metric.mode})"


def days_text(days: int) -> str:
    """A length of time in words."""
    return "a day" if days == 1 else f"{days} days"


def _closed(one: RoundBrief) -> str:
    return f"by {time_text(one.closes_at_us)}" if one.closed_at_us is None else time_text(one.closed_at_us)


def _summary(release: Release) -> str:
    """The first numbers; of a histogram the largest."""
    if release.status == "withheld":
        return f"withheld: {release.reason}"
    lines = lines_of(release)
    if release.kind == "histogram":
        lines.sort(key=lambda line: -line.estimate)
    said = [f"{line.label} {number_text(release, line.estimate)}" for line in lines[:3]]
    return ", ".join([*said, "…"] if len(lines) > 3 else said)
