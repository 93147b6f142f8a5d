"""A look into a store that no server has to have open, and that nothing changes in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from sync_server.errors import StoreForeign
from sync_server.store.ledger import LedgerRows
from sync_server.store.schema import APPLICATION_ID, VERSION


@contextmanager
def look(path: Path) -> Iterator[LedgerRows]:
    """The ledger in the file, as it stood at one moment; a server may be writing beside it.

    Raises `StoreForeign`: not a store of this version; OSError: it cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(f"expected a store at {path}")
    uri = f"file:{quote(str(path.resolve()))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            facts = [
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version")
            ]
            if facts != [APPLICATION_ID, VERSION]:
                raise StoreForeign(f"expected a store of schema {VERSION}, found {facts[1]}; untouched")
            connection.execute("BEGIN")
            yield LedgerRows(connection)
    except sqlite3.DatabaseError as error:
        raise StoreForeign(f"the store cannot be read ({error}); untouched") from None
