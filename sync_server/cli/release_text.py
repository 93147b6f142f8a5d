"""One release as a person reads it: numbers, bars that show how sure they are, and where they come from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from edge_runtime.wire.time_text import time_text
from sync_server.aggregates.release import Release
from sync_server.cli.printable import columns, fitted, shown

NARROWEST: Final = 60
WIDEST: Final = 120
SHORTEST: Final = 10
"""Columns of a bar, and of a name, however narrow the terminal."""
MOST_LINES: Final = 40
"""Of a histogram with more categories only so many are shown, the largest."""


@dataclass(frozen=True, slots=True)
class Line:
    """One number with its 95 % interval."""

    label: str
    estimate: float
    low: float
    high: float


def release_text(release: Release, width: int | None = None) -> str:
    """The release for a terminal of `width` columns (None: of this one)."""
    columns_ = shutil.get_terminal_size((100, 24)).columns if width is None else width
    parts = [head_text(release), ""]
    if release.status == "withheld":
        parts += [f"  No number: {release.reason}.", *_next_of_withheld(release)]
    else:
        parts += [*_lines(release, min(max(columns_, NARROWEST), WIDEST)), "", *_meaning(release)]
    return "\n".join([*parts, *provenance(release)])


def head_text(release: Release) -> str:
    """What it is and of when."""
    return f"{shown(release.metric)}   {release.status.upper()} {time_text(release.closed_at_us)}"


def lines_of(release: Release) -> list[Line]:
    """The numbers of a release, in its order."""
    intervals = release.ci95 or {}
    return [Line(label, value, *intervals[label]) for label, value in (release.estimate or {}).items()]


def number_text(release: Release, value: float) -> str:
    """A number of the release: a share in percent, a count whole, anything else to four figures.

    >>> number_text(Release("00", "m", "released", 2, 1.0, 0, 0), 0.12345)
    '12.3 %'
    """
    match release.kind:
        case "histogram":
            return f"{value * 100:.1f} %"
        case "count":
            return f"{value:,.0f}"
        case _:
            return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.4g}"


def provenance(release: Release) -> Iterator[str]:
    """How the numbers came about."""
    many = "" if release.n is None else f"{release.n:,} subjects in {release.reports:,} reports, "
    yield f"  from    {many}at least {release.min_subjects:,} asked for"
    yield f"  noise   {release.mechanism or 'unknown'}, epsilon {release.epsilon:g}, {_where(release)}"
    asked = f"opened {time_text(release.opened_at_us)} under {shown(release.catalog) or 'a catalog unknown'}"
    yield f"  round   {release.round}, {asked}"
    if release.refused:
        counted = ", ".join(f"{code} {count:,}" for code, count in release.refused.items())
        yield f"  refused {counted}"


def _where(release: Release) -> str:
    return "added on each device" if release.mode == "local" else "added by each kiosk over its own subjects"


def _next_of_withheld(release: Release) -> Iterator[str]:
    yield f"Next: `edge-sync aggregates open {shown(release.metric)} --closes-in 7d` asks again, for longer;"
    yield f"`edge-sync aggregates plan {shown(release.metric)}` says how many subjects tell how much."
    yield "Who was not reached, permits nothing, has no value or has spent the budget does not answer;"
    yield "after a restore of the server nobody does until the budget's window is over."
    yield ""


def _meaning(release: Release) -> Iterator[str]:
    of_subjects = {
        "histogram": "Shares of the subjects who answered.",
        "count": "Of the subjects who answered.",
    }
    if release.kind in of_subjects:
        below = any(value < 0 for value in (release.estimate or {}).values())
        left = " Below 0 means: as good as nobody." if below else ""
        yield f"  {of_subjects[release.kind]}{left}"
        if all(line.low <= 0 and line.high >= _most(release) for line in lines_of(release)):
            yield "  Nothing was learned: the noise reaches over all that could be. It takes more subjects."
    yield "  ● the estimate   ├──┤ where the truth lies 95 times of 100, for the noise that was added"


def _most(release: Release) -> float:
    return 1.0 if release.kind == "histogram" else float(release.n or 0)


def _lines(release: Release, width: int) -> Iterator[str]:
    found = lines_of(release)
    kept = _largest(found)
    labels = [shown(line.label) for line in kept]
    texts = [number_text(release, line.estimate) for line in kept]
    ranges = [_range(release, line) for line in kept]
    first, second = max(map(len, texts)), max(map(len, ranges))
    room = width - first - second - 8
    widest = min(max(map(columns, labels)), width // 3, max(room - SHORTEST, SHORTEST))
    scale = Scale.over(kept, max(room - widest, SHORTEST))
    for line, label, text, range_ in zip(kept, labels, texts, ranges, strict=True):
        yield f"  {fitted(label, widest)}  {text:>{first}}  {range_:<{second}}  {scale.bar(line)}".rstrip()
    if len(kept) < len(found):
        left = len(found) - len(kept)
        yield f"  and {left} smaller ones: `edge-sync aggregates releases --csv FILE` has all"


def _largest(lines: Sequence[Line]) -> Sequence[Line]:
    """The largest, where there are too many, in the order that they had."""
    if len(lines) <= MOST_LINES:
        return lines
    least = sorted((line.estimate for line in lines), reverse=True)[MOST_LINES - 1]
    return [line for line in lines if line.estimate >= least][:MOST_LINES]


def _range(release: Release, line: Line) -> str:
    return f"[{number_text(release, line.low)} … {number_text(release, line.high)}]"


@dataclass(frozen=True, slots=True)
class Scale:
    """A row of `width` columns that stands for the numbers from `first` to `last`; 0 is among them."""

    first: float
    last: float
    width: int

    @classmethod
    def over(cls, lines: Sequence[Line], width: int) -> Scale:
        """The scale on which every interval has room."""
        first = min(0.0, *(line.low for line in lines)) if lines else 0.0
        last = max(0.0, *(line.high for line in lines)) if lines else 0.0
        return cls(first, last if last > first else first + 1.0, width)

    def at(self, value: float) -> int:
        """The column in which `value` stands."""
        part = (value - self.first) / (self.last - self.first)
        return min(max(round(part * (self.width - 1)), 0), self.width - 1)

    def bar(self, line: Line) -> str:
        """A bar from 0 to the interval, the interval, and the estimate in it."""
        low, high, zero = self.at(line.low), self.at(line.high), self.at(0.0)
        cells = [" "] * self.width
        cells[zero] = "│"
        for i in range(min(low, zero), max(high, zero) + 1):
            inside = low <= i <= high
            cells[i] = "─" if inside else "█" if i != zero or low > zero else cells[i]
        cells[zero] = "┼" if low < zero < high else cells[zero]
        cells[low], cells[high] = "├", "┤"
        cells[self.at(line.estimate)] = "●"
        return "".join(cells)
