"""Lineage: which job wrote a row. Kept once a job and run; rows point to it. Never sent to a device."""

from __future__ import annotations

from typing import Final

from sync_server.store.chapter import Chapter
from sync_server.store.records import Lineage

_COLUMNS: Final = "who, name, run, code_version, first_us"


class LineageReads(Chapter):
    """Questions about jobs."""

    def lineage(self, lineage_id: int) -> Lineage | None:
        """The job with this number; None for 0, a row of which nobody said what wrote it."""
        row = self.execute(f"SELECT {_COLUMNS} FROM lineages WHERE id = ?", (lineage_id,)).fetchone()
        return None if row is None else Lineage(*row)

    def count_lineages(self) -> int:
        """Jobs that are known."""
        return int(self.execute("SELECT count(*) FROM lineages").fetchone()[0])


class LineageWrites(LineageReads):
    """Changes of jobs."""

    def lineage_id(self, job: Lineage) -> int:
        """The number of this job and run, given now if it has none. Its first publish is told once."""
        said = (job.who, job.name, job.run, job.code_version)
        found = self.execute(
            "SELECT id FROM lineages WHERE who = ? AND name = ? AND run = ? AND code_version = ?", said
        ).fetchone()
        if found is not None:
            return int(found[0])
        made = self.execute(
            f"INSERT INTO lineages ({_COLUMNS}, rows) VALUES (?, ?, ?, ?, ?, 0)", (*said, job.first_us)
        )
        assert made.lastrowid is not None
        return made.lastrowid

    def drop_lineages(self, limit: int) -> int:
        """Forget at most `limit` jobs of which no row is left; returns how many."""
        return self.execute(
            "DELETE FROM lineages WHERE id IN (SELECT id FROM lineages WHERE rows = 0 LIMIT ?)", (limit,)
        ).rowcount
