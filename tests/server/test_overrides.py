"""Limits on the command line: numbers, durations and sizes; what is none of them is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_server.cli.overrides import overridden
from sync_server.settings import Settings


def test_limits_are_set_by_name_in_their_units() -> None:
    """A bare number is in the unit that the name says."""
    words = ["snapshots=8", "drain_us=5s", "guest_us=250", "fanout_cache_bytes=2MiB", "fanout_file_bytes=0"]
    made = overridden(Settings(Path("d")), words)
    assert (made.snapshots, made.drain_us, made.guest_us) == (8, 5_000_000, 250)
    assert (made.fanout_cache_bytes, made.fanout_file_bytes) == (2 * 1024 * 1024, 0)
    assert overridden(made, []) == made


@pytest.mark.parametrize(
    "word",
    [
        *("snapshots", "snapshots=", "snapshots=0", "snapshots=-1", "snapshots=1.5", "snapshots=8s"),
        *("nothing=1", "=1", "data_dir=/tmp", "host=0.0.0.0", "fanout_cache_bytes=2MB", "drain_us=5 years"),
        *("shared_channels=all", "snapshots=²", "fanout_cache_bytes=MiB"),
    ],
)
def test_law_12_what_is_no_limit_is_refused_by_name(word: str) -> None:
    """Nothing starts with a limit that was misspelt."""
    with pytest.raises(ValueError, match=r"expected"):
        overridden(Settings(Path("d")), [word])
