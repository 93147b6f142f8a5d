"""A folder whose files are memory, for tests that fail a disk by themselves and need no real one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = "/dev/shm"


@contextmanager
def memory_folder() -> Iterator[Path]:
    """In memory where there is such a place, else among other temporary files; gone afterwards."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
