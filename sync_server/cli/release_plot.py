"""A release as a picture: the estimates as points, their 95 % intervals drawn, where it comes from below.

The truth is nowhere in it: nobody has it. A withheld round says why. Drawn without a screen, and the same
release gives the same bytes (with the same matplotlib and fonts).
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from edge_runtime.wire.time_text import time_text
from sync_server.aggregates.release import Release
from sync_server.cli.printable import columns, fitted, shown
from sync_server.cli.release_text import Line, lines_of
from sync_server.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN: Final = 8.0
TALLEST_IN: Final = 80.0
LABEL_COLUMNS: Final = 40
"""A longer name is cut off."""
HISTORY: Final = 200
"""Most earlier releases in one picture."""
_CAPTION_COLUMNS: Final = 110
_BLUE: Final = "#1f5f99"
_GREY: Final = "#767676"
_SCRIPTS: Final = ("Noto Sans CJK JP", "WenQuanYi Zen Hei", "Noto Sans Arabic", "Noto Sans Devanagari")
"""Fonts for names that the font of matplotlib has no letters for, where they are installed."""


def png(release: Release, earlier: Sequence[Release] = ()) -> bytes:
    """The picture of a release. Raises `MissingExtra` without matplotlib.

    Args:
        earlier: other releases of its metric; of a count, mean or sum they are drawn too, by time.
    """
    try:
        import matplotlib.style
    except ImportError:
        raise MissingExtra("matplotlib", "plot") from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = io.BytesIO()
    with matplotlib.style.context("default", after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # drawn as an empty box
        matplotlib.rcParams["font.family"] = ["DejaVu Sans", *_installed()]
        made = figure(release, earlier)
        FigureCanvasAgg(made)  # whatever screen there may be
        made.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def figure(release: Release, earlier: Sequence[Release] = ()) -> Figure:
    """The picture before it is drawn."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(WIDTH_IN, _height_in(release)), dpi=100, layout="constrained")
    made.suptitle(_title(release), parse_math=False)
    axes = made.add_subplot()
    match release:
        case Release(kind="count" | "sum" | "mean"):
            _over_time(axes, sorted([release, *earlier], key=lambda one: one.closed_at_us)[-HISTORY:])
        case Release(status="withheld"):
            _nothing(axes, release)
        case Release(kind="histogram"):
            _categories(axes, lines_of(release))
        case _:
            _quantiles(axes, lines_of(release))
    axes.spines[["top", "right"]].set_visible(False)
    made.supxlabel(caption(release), fontsize=8, color=_GREY, parse_math=False)
    return made


def caption(release: Release) -> str:
    """What stands below the picture."""
    who = f"{release.n:,} subjects" if release.n is not None else f"withheld: {release.reason}"
    noise = f"epsilon {release.epsilon:g}, {release.mechanism or 'mechanism unknown'}, {release.mode}"
    lines = (
        f"{who} · {noise} · at least {release.min_subjects:,} subjects",
        f"round {release.round} · closed {time_text(release.closed_at_us)}",
        "point: estimate · line: 95 % interval for the noise that was added",
    )
    return "\n".join(textwrap.fill(shown(line), _CAPTION_COLUMNS) for line in lines)


def _title(release: Release) -> str:
    what = {"histogram": "share of subjects", "quantile": "quantiles"}.get(release.kind, release.kind)
    return fitted(f"{shown(release.metric)}: {what}", 70).rstrip()


def _height_in(release: Release) -> float:
    if release.kind != "histogram":
        return 4.5
    return min(2.0 + _row_in(len(release.estimate or ())) * len(release.estimate or ()), TALLEST_IN)


def _row_in(count: int) -> float:
    return 0.3 if count <= 60 else 0.16


def _categories(axes: Axes, lines: Sequence[Line]) -> None:
    places = range(len(lines))
    axes.axvline(0, color=_GREY, linewidth=0.8)
    axes.hlines(places, [_percent(v.low) for v in lines], [_percent(v.high) for v in lines], color=_BLUE)
    axes.plot([_percent(v.estimate) for v in lines], places, "o", color=_BLUE, markersize=4)
    axes.set_yticks(places, _labels(lines), fontsize=9 if len(lines) <= 60 else 6)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlabel("% of the subjects who answered")
    axes.grid(axis="x", alpha=0.3)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)


def _quantiles(axes: Axes, lines: Sequence[Line]) -> None:
    places = range(len(lines))
    axes.vlines(places, [v.low for v in lines], [v.high for v in lines], color=_BLUE)
    axes.plot(places, [v.estimate for v in lines], "o", color=_BLUE)
    axes.set_xticks(places, _labels(lines))
    axes.set_xlim(-0.5, len(lines) - 0.5)
    axes.set_xlabel("part of the subjects")
    axes.set_ylabel("lies below this value")
    axes.grid(axis="y", alpha=0.3)


def _over_time(axes: Axes, releases: Sequence[Release]) -> None:
    """Each release where it closed; a withheld one as a cross at the foot, with the reason."""
    told = [(_when(one), line) for one in releases for line in lines_of(one)]
    if not told:
        return _nothing(axes, releases[-1])
    times = [at for at, _ in told]
    axes.vlines(times, [v.low for _, v in told], [v.high for _, v in told], color=_BLUE)
    axes.plot(times, [v.estimate for _, v in told], "o", color=_BLUE)
    for one in (one for one in releases if one.status == "withheld"):
        axes.plot([_when(one)], [0.03], "x", color=_GREY, transform=axes.get_xaxis_transform())
        axes.annotate(
            f"withheld: {one.reason}",
            (_when(one), 0.06),
            xycoords=("data", "axes fraction"),
            rotation=90,
            fontsize=7,
            color=_GREY,
            ha="center",
            parse_math=False,
        )
    axes.xaxis_date()
    if len({_when(one) for one in releases}) == 1:
        axes.set_xlim(times[0] - 1, times[0] + 1)  # days
    axes.set_xlabel("closed (UTC)")
    axes.set_ylabel(releases[-1].kind)
    axes.tick_params(axis="x", labelrotation=20)
    axes.grid(axis="y", alpha=0.3)
    return None


def _nothing(axes: Axes, release: Release) -> None:
    text = textwrap.fill(f"withheld: {release.reason}", 60)
    axes.text(
        0.5, 0.5, text, ha="center", va="center", color=_GREY, transform=axes.transAxes, parse_math=False
    )
    axes.set_xticks([])
    axes.set_yticks([])


def _labels(lines: Sequence[Line]) -> list[str]:
    """Names that fit; one with letters that no font here has says its place too, as the name is boxes."""
    letters = _letters()
    found = []
    for place, line in enumerate(lines, start=1):
        text = fitted(shown(line.label), min(columns(shown(line.label)), LABEL_COLUMNS))
        found.append(text if letters.issuperset(map(ord, text)) else f"{place}: {text}")
    return found


def _percent(share: float) -> float:
    return share * 100


def _when(release: Release) -> float:
    from matplotlib import dates

    moment = datetime.fromtimestamp(release.closed_at_us / 1e6, UTC)
    return float(dates.date2num(moment))  # type: ignore[no-untyped-call]  # of matplotlib, typed in part


def _installed() -> list[str]:
    from matplotlib import font_manager

    there = set(font_manager.get_font_names())
    return [name for name in _SCRIPTS if name in there]


def _letters() -> set[int]:
    """Every character that the fonts of a picture can draw."""
    from matplotlib import font_manager, ft2font

    files = [font_manager.findfont(name) for name in ("DejaVu Sans", *_installed())]
    return {letter for file in files for letter in ft2font.FT2Font(file).get_charmap()}
