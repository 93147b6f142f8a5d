"""How an upsert tells what it took away, without a look at what was held before: a function of SQL.

`leaves(into, hash)` appends a hash to the list behind `into` (`apsw.pyobject`), and is true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import apsw

NAME = "leaves"


def install(connection: apsw.Connection) -> None:
    """Make the function known to a connection that writes."""
    connection.create_scalar_function(NAME, cast("Callable[..., bool]", _leaves), 2)


def _leaves(into: list[bytes], hash: bytes) -> bool:
    into.append(hash)
    return True
