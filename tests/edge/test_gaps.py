"""Rows around unreadable pages: all that can be reached is found once, and nothing unknown is denied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.cache.gaps import Gap, Unreadable, readable

Page = tuple[bool, list[int]]
"""Whether it can be read, and the keys on it."""
WHOLE = Gap(0, 1 << 20)


def scanning(pages: Sequence[Page]) -> Callable[[int, int, bool], Iterator[tuple[int, str]]]:
    """A table of pages in order of their keys. A scan reads the page on which its first key would be."""

    def scan(low: int, high: int, backwards: bool) -> Iterator[tuple[int, str]]:
        ordered = [page for page in pages if page[1]]
        if backwards:
            begun = [p for p in ordered if min(p[1]) <= high] or ordered[:1]
            walk = reversed(begun)
        else:
            walk = iter([p for p in ordered if max(p[1]) >= low] or ordered[-1:])
        for sound, keys in walk:
            if not sound:
                raise Unreadable
            for key in reversed(keys) if backwards else keys:
                if low <= key <= high:
                    yield key, f"row {key}"
                elif (key < low) if backwards else (key > high):
                    return

    return scan


@st.composite
def tables(draw: st.DrawFn) -> list[Page]:
    keys = sorted(draw(st.sets(st.integers(0, 1 << 20), max_size=60)))
    pages: list[Page] = []
    while keys:
        count = draw(st.integers(1, 5))
        pages.append((draw(st.integers(0, 3)) > 0, keys[:count]))
        keys = keys[count:]
    return pages


@given(tables(), st.integers(0, 200))
def test_law_7_every_key_was_read_or_lies_in_a_gap(pages: list[Page], probes: int) -> None:
    left: list[Gap] = []
    found = list(readable(scanning(pages), WHOLE, left, probes))
    keys = [key for key, _ in found]
    assert len(set(keys)) == len(keys)
    assert all(row == f"row {key}" for key, row in found)
    there = {key for _, on_page in pages for key in on_page}
    unknown = {key for key in there if any(gap.low <= key <= gap.high for gap in left)}
    assert set(keys) == there - unknown
    assert all(a.high + 1 < b.low for a, b in pairwise(left))


@given(tables())
def test_with_enough_probes_only_unreadable_pages_are_left(pages: list[Page]) -> None:
    left: list[Gap] = []
    found = {key for key, _ in readable(scanning(pages), WHOLE, left, 10_000)}
    assert found == {key for sound, on_page in pages for key in on_page if sound}


@given(tables())
def test_a_table_that_is_well_leaves_no_gap(pages: list[Page]) -> None:
    left: list[Gap] = []
    sound = [(True, keys) for _, keys in pages]
    assert [key for key, _ in readable(scanning(sound), WHOLE, left, 0)] == [k for _, ks in sound for k in ks]
    assert left == []


def test_law_11_no_more_probes_than_allowed() -> None:
    asked = 0

    def scan(low: int, high: int, backwards: bool) -> Iterator[tuple[int, str]]:
        nonlocal asked
        asked += 1
        if asked:
            raise Unreadable
        yield low, ""

    left: list[Gap] = []
    assert list(readable(scan, Gap(0, 1 << 128), left, 50)) == []
    assert left == [Gap(0, 1 << 128)]
    assert asked <= 2 + 2 * 50
