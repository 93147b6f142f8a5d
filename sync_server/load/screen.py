"""What a person sees of a run: a bar while it runs, a table and histograms at the end.

With rich where it is installed and the terminal is one; else a line now and then. Progress goes to standard
error, so that the report on standard output stays clean.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

from sync_server.load.figures import histogram


class Bar(Protocol):
    """Progress of one phase."""

    def show(self, done: int, note: str = "") -> None:
        """So many are done."""
        ...


class PlainBar:
    """A line at the start, at each quarter and at the end."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._quarter = title, total, -1

    def show(self, done: int, note: str = "") -> None:
        """See `Bar.show`."""
        quarter = 4 * done // max(self._total, 1)
        if quarter > self._quarter:
            self._quarter = quarter
            print(f"{self._title:<10} {done:>6} of {self._total}  {note}", file=sys.stderr, flush=True)


class RichBar:
    """A moving bar with speed and time."""

    def __init__(self, title: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=36),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(title, total=total, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, done: int, note: str = "") -> None:
        """See `Bar.show`."""
        self._progress.update(self._task, completed=done, note=note)


@contextmanager
def phase(title: str, total: int, *, quiet: bool) -> Iterator[Bar]:
    """A bar for one phase."""
    if quiet or not sys.stderr.isatty() or not _has_rich():
        yield PlainBar(title, total) if not quiet else _Silent()
        return
    with RichBar(title, total) as bar:
        yield bar


class _Silent:
    def show(self, done: int, note: str = "") -> None:
        """Nobody looks."""


def _has_rich() -> bool:
    try:
        import rich.progress  # noqa: F401 - only whether it is there
    except ImportError:
        return False
    return True


def report(result: Mapping[str, Any], fresh_s: list[float], latency_s: list[float]) -> str:
    """The run as text."""
    lines = [f"{result['devices']} devices at {result['url']}", ""]
    lines += [f"  {name:<26} {value}" for name, value in _facts(result)]
    lines += _drawn("Time to fresh, from wanting a session", fresh_s, 1.0, "s")
    lines += _drawn("Publish to device", latency_s, 1_000.0, "ms")
    return "\n".join(lines)


def _facts(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    fresh = result["fresh"]
    yield "fresh", f"{fresh['devices']} of {result['devices']}, the last after {_s(fresh['last_s'])}"
    for name in ("time_to_fresh_s", "publish_to_device_ms"):
        figures = result[name]
        if figures["count"]:
            unit = name.rpartition("_")[2]
            parts = [f"{p} {figures[p]:g} {unit}" for p in ("p50", "p99", "max")]
            yield name.rpartition("_")[0].replace("_", " "), ", ".join(parts)
    yield "checkpoints", f"{result['matched']} equal, {result['mismatched']} different"
    yield "rows taken in", f"{result['rows']:,}"
    for name, text in (("refused", "told to come back"), ("broken", "broken off"), ("faults", "FAULTS")):
        counts = result[name]
        if counts:
            yield text, ", ".join(f"{code} {n}" for code, n in sorted(counts.items()))
    if server := result.get("server"):
        yield "server: snapshots at once", f"{server['streaming_most']:.0f} at most"


def _drawn(title: str, values: list[float], factor: float, unit: str) -> list[str]:
    if not values:
        return []
    return ["", title, *histogram([v * factor for v in values], unit)]


def _s(seconds: float | None) -> str:
    return "—" if seconds is None else f"{seconds:.2f} s"
