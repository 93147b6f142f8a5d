"""What hangs on no handle, from a damaged database into a new one: decisions, outbox, budget, facts, rows.

Everything readable is taken. What is not whole is never called so: the lane is told again from its start, the
server sends its rows again, and after a loss of spent budget nothing is reported for a while.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Final

from edge_runtime.aggregates import facts as ledger
from edge_runtime.cache.database import Database
from edge_runtime.cache.histories import META, REBUILT, Known
from edge_runtime.cache.plain_tables import PLAIN_TABLES
from edge_runtime.cache.remains import Remains
from edge_runtime.keys.keyring import Keyring

_OF_AUTHORITY: Final = ("lane", "denial", "outbox")
_SERVED: Final = ("feature", "channel")
_OF_SLOT: Final = "slot."
"""What begins so tells old copies from new ones: a new database begins without it, and is one."""
_LANE: Final = "lane"
_ROWS_AT_ONCE: Final = 1_024


class TakingOver:
    """Takes the plain tables over.

    Attributes:
        kept: table -> rows that are in the new database.
        whole: tables that were read from one end to the other.
        notes: what whoever reads the report should know.
    """

    def __init__(self, remains: Remains, fresh: Database, keyring: Keyring, now_us: int) -> None:
        self._remains, self._fresh, self._keyring, self._now_us = remains, fresh, keyring, now_us
        self.kept: Counter[str] = Counter()
        self.whole: set[str] = set()
        self.notes: list[str] = []
        facts = self._remains.plain("meta", self.whole)
        self._facts = {str(key): value for key, value in facts if isinstance(value, bytes)}

    @property
    def unread(self) -> set[str]:
        """Tables of which something may be lost."""
        return {"meta", *_OF_AUTHORITY, *_SERVED, "budget", "answer"} - self.whole

    @property
    def sessions_known(self) -> bool:
        """Whether it is known what fed the session states."""
        return META in self._facts or "meta" in self.whole

    @property
    def stands_known(self) -> bool:
        """Whether cursors can be believed: they count under a catalog and a server that are facts."""
        return "meta" in self.whole and self._same_authority

    @property
    def _same_authority(self) -> bool:
        return self._facts.get("authority") == self._keyring.authority

    def run(self) -> None:
        """Take everything over."""
        for name in (*_OF_AUTHORITY, *_SERVED, "budget", "answer"):
            self._take(name)
        if not self._same_authority:
            self._clear(_OF_AUTHORITY)
        if not self.stands_known or not self.whole.issuperset(_SERVED):
            self._clear(_SERVED)
            if self._keyring.enrolled:
                self.notes.append("rows about nobody are gone; the server sends them again")
        self._keep_facts()

    def _take(self, name: str) -> None:
        """Copy what can be read of a table."""
        rows = self._remains.plain(name, self.whole)
        while part := list(islice(rows, _ROWS_AT_ONCE)):
            with self._fresh.write("rebuild") as tx:
                self.kept[name] += tx.put_plain(PLAIN_TABLES[name], part)

    def _clear(self, names: Iterable[str]) -> None:
        with self._fresh.write("rebuild") as tx:
            for name in names:
                tx.clear_plain(PLAIN_TABLES[name])
                del self.kept[name]

    def _keep_facts(self) -> None:
        facts = {key: value for key, value in self._facts.items() if not key.startswith(_OF_SLOT)}
        if not self._lane_stands(facts):
            facts.pop(_LANE, None)
            if self._keyring.enrolled:
                self.notes.append("the decision lane starts over: the server tells it again")
        if not self.sessions_known:
            facts[META] = Known.nothing().encode()
            self.notes.append("session features begin anew: what had fed them cannot be read")
        if not self._budget_stands(facts):
            facts[ledger.UNSURE_DAY] = ledger.unsure_day(facts.get, self._now_us)
            self.notes.append("spent privacy budget is not whole: no report until its window is over")
        facts[REBUILT] = b"1"
        with self._fresh.write("rebuild") as tx:
            for key, value in facts.items():
                tx.set_meta(key, value)
        self.kept["meta"] = len(facts)

    def _lane_stands(self, facts: dict[str, bytes]) -> bool:
        """Whether the lane's position can be believed: also its answers wait in the outbox."""
        known = _LANE in facts or "meta" in self.whole
        return known and self._same_authority and {"lane", "outbox"} <= self.whole

    def _budget_stands(self, facts: dict[str, bytes]) -> bool:
        known = ledger.NEWEST_DAY in facts or "meta" in self.whole
        return known and "budget" in self.whole and not self._remains.log_cut
