"""Values as JSON can hold them, for commands and exports."""

from __future__ import annotations

import numpy as np

from edge_runtime.session.operators.counts import CountMap


def plain(value: object) -> object:
    """A feature's value as JSON can hold it."""
    match value:
        case np.ndarray():
            return value.tolist()
        case CountMap():
            return dict(value)
        case _:
            return value
