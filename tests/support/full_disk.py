"""A disk that runs full when a test says so: see `FaultyDisk.room`."""

from __future__ import annotations

from tests.support.faulty_disk import FaultyDisk as FullDisk

__all__ = ["FullDisk"]
