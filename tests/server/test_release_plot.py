"""A release as a picture: what is drawn is what was released, without a screen, the same bytes each time."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from sync_server.aggregates.release import Release
from sync_server.cli.release_plot import caption, figure, png
from sync_server.errors import MissingExtra
from tests.support.released import CLOSED_US, released, withheld

DAY_US = 86_400_000_000
NAMES = {
    "UK": (0.66, 0.70, 0.74),
    "日本語": (0.06, 0.11, 0.15),
    "$\\frac{a$ _x": (-0.06, -0.013, 0.03),
    "a very long name of a category that nobody could draw in whole \x07": (0.1, 0.2, 0.3),
}
EVERY = {
    "names": released("histogram", NAMES),
    "many": released("histogram", {f"c{i}": (i / 1e3 - 0.01, i / 1e3, i / 1e3 + 0.01) for i in range(200)}),
    "quantile": released("quantile", {"0.1": (-5.0, -3.0, 0.0), "0.9": (110.0, 120.0, 130.0)}),
    "mean": released("mean", {"mean": (-1.0, 0.5, 2.0)}),
    "withheld": withheld("histogram"),
    "withheld mean": withheld("mean"),
}


def decoded(made: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    found: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = matplotlib.image.imread(io.BytesIO(made))
    return found


def drawn(made: Figure) -> tuple[Axes, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """The axes of a picture, and its intervals as an array of (ends, x and y)."""
    (axes,) = made.axes
    (lines,) = (one for one in axes.collections if isinstance(one, LineCollection))
    return axes, np.array(lines.get_segments())


@pytest.mark.parametrize("release", EVERY.values(), ids=EVERY)
def test_it_is_a_picture_with_something_in_it_and_the_same_one_each_time(release: Release) -> None:
    """Decoded: wide, not blank, and in the middle more than white; twice the same bytes."""
    made = png(release)
    image = decoded(made)
    height, width, _ = image.shape
    assert width == 800
    assert height >= 200
    assert image.std() > 0.01
    assert image[height // 8 : -height // 3, width // 3 :].std() > 0.005
    assert png(release) == made
    assert b"matplotlib" not in made, "the same bytes from another version of the writer"


def test_the_points_and_intervals_of_a_histogram_are_those_of_the_release() -> None:
    """In percent, in the order of the categories; every name stands at its place."""
    axes, intervals = drawn(figure(EVERY["names"]))
    points = axes.lines[-1]
    assert np.allclose(points.get_xdata(), [100 * n[1] for n in NAMES.values()])
    assert np.allclose(intervals[:, :, 0], [(100 * n[0], 100 * n[2]) for n in NAMES.values()])
    assert np.array_equal(intervals[:, 0, 1], range(len(NAMES)))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "UK"
    assert labels[1].endswith("日本語")
    assert labels[2] == "$\\frac{a$ _x"
    assert len(labels[3]) == 40
    assert labels[3].endswith("…")


def test_a_mean_is_drawn_over_time_and_a_withheld_round_says_why() -> None:
    """Earlier releases beside it, by the time at which they closed, whatever their order."""
    told = [
        released("mean", {"mean": (i - 1.0, i + 0.0, i + 1.0)}, closed_at_us=CLOSED_US + i * DAY_US)
        for i in range(4)
    ]
    missing = withheld("mean", closed_at_us=CLOSED_US + 2 * DAY_US + 1)
    axes, intervals = drawn(figure(told[3], [missing, *told[:3][::-1]]))
    points = next(line for line in axes.lines if line.get_marker() == "o")
    assert np.allclose(points.get_ydata(), [0, 1, 2, 3])
    assert np.allclose(np.diff(np.asarray(points.get_xdata(), dtype=float)), 1), "days"
    assert np.allclose(intervals[:, :, 1], [(i - 1, i + 1) for i in range(4)])
    assert [text.get_text() for text in axes.texts] == ["withheld: fewer than 50 subjects answered"]


def test_quantiles_are_drawn_with_their_intervals() -> None:
    axes, intervals = drawn(figure(EVERY["quantile"]))
    assert np.allclose(axes.lines[-1].get_ydata(), [-3, 120])
    assert np.allclose(intervals[:, :, 1], [(-5, 0), (110, 130)])


@pytest.mark.parametrize("release", EVERY.values(), ids=EVERY)
def test_the_caption_says_how_the_numbers_came_about(release: Release) -> None:
    """Subjects or why there are none, epsilon, mechanism, round; and nothing claims to be the truth."""
    said = caption(release)
    who = "withheld: fewer than 50 subjects answered" if release.n is None else "1,234 subjects"
    for part in (who, "epsilon 1", "subset_selection", release.round, "95 % interval"):
        assert part in said
    text = figure(release).get_supxlabel()
    assert text == said
    assert "tru" not in said.lower()


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.style"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"pip install 'edge-runtime\[plot\]'"):
        png(EVERY["mean"])


def test_it_is_drawn_where_there_is_no_screen_and_whatever_the_machine_prefers(tmp_path: Path) -> None:
    """In a process whose backend needs a screen and whose settings differ: the same bytes."""
    (tmp_path / "matplotlibrc").write_text("backend: TkAgg\nfont.size: 30\naxes.facecolor: red\n")
    code = (
        "import sys; from tests.server.test_release_plot import EVERY, png;"
        "sys.stdout.buffer.write(png(EVERY['quantile']))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
        env={"MATPLOTLIBRC": str(tmp_path), "MPLCONFIGDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert run.stdout == png(EVERY["quantile"])
