"""Values as commands print them."""

from __future__ import annotations

import numpy as np


def plain(value: object) -> object:
    """A feature's value as JSON can hold it."""
    return value.tolist() if isinstance(value, np.ndarray) else value
