"""Decisions: the ledger's evidence and nodes, and the lane, which holds the present state of each pair."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from edge_runtime.wire.messages import LaneEntry
from sync_server.consent import merkle
from sync_server.errors import StoreForeign
from sync_server.journal.record import Step
from sync_server.store.chapter import Chapter
from sync_server.store.keys import KeyDatabase
from sync_server.store.ledger import EVIDENCE, evidence_of
from sync_server.store.records import BARS, DecisionState, Evidence


class LaneReads(Chapter):
    """Questions about decisions. Lane position and ledger seq are one number."""

    def lane_head(self) -> int:
        """The newest lane position: the number of leaves in the ledger."""
        return int(self.execute("SELECT coalesce(max(seq), 0) FROM evidence").fetchone()[0])

    def lane_since(self, position: int, limit: int) -> list[LaneEntry]:
        """At most `limit` pairs whose state changed after `position`, in order; superseded ones are gone."""
        found = self.execute(
            "SELECT l.seq, l.subject, l.purpose, l.state, l.grant_seq, l.denial, e.decision FROM lane l"
            " LEFT JOIN evidence e ON e.seq = l.denial WHERE l.seq > ? ORDER BY l.seq LIMIT ?",
            (position, limit),
        )
        return [LaneEntry(*row) for row in found]

    def decision_state(self, subject: bytes, purpose: str) -> DecisionState:
        """What holds for the pair now; state `unknown` when nothing was ever said."""
        row = self.execute(
            "SELECT state, grant_seq, denial, seq FROM lane WHERE subject = ? AND purpose = ?",
            (subject, purpose),
        ).fetchone()
        return DecisionState("unknown", 0, 0) if row is None else DecisionState(*row)

    def lane_entry(self, subject: bytes, purpose: str) -> LaneEntry | None:
        """The pair's present state with its position; None when nothing was ever said."""
        row = self.execute(
            "SELECT seq, subject, purpose, state, grant_seq, denial FROM lane"
            " WHERE subject = ? AND purpose = ?",
            (subject, purpose),
        ).fetchone()
        return None if row is None else LaneEntry(*row)

    def evidence(self, seq: int) -> Evidence | None:
        """One step of the ledger."""
        row = self.execute(f"SELECT {EVIDENCE} FROM evidence WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else evidence_of(row)

    def evidence_of_decision(self, actor: str, decision: bytes) -> Evidence | None:
        """The step that recorded an actor's decision, for repeats."""
        row = self.execute(
            f"SELECT {EVIDENCE} FROM evidence WHERE actor = ? AND decision = ?", (actor, decision)
        ).fetchone()
        return None if row is None else evidence_of(row)

    def barred_between(self, subject: bytes, purpose: str, after: int, before: int) -> bool:
        """Whether a step with after < seq < before ended or restricted the pair's permission."""
        found = self.execute(
            "SELECT 1 FROM evidence WHERE subject = ? AND purpose = ? AND seq > ? AND seq < ?"
            f" AND state IN ({', '.join('?' * len(BARS))}) LIMIT 1",
            (subject, purpose, after, before, *sorted(BARS)),
        )
        return found.fetchone() is not None

    def history(self, subject: bytes, purpose: str | None, after: int, limit: int) -> list[Evidence]:
        """At most `limit` of the subject's steps after seq `after`, oldest first; of one purpose or all."""
        one = "" if purpose is None else " AND purpose = ?"
        values: Sequence[object] = (subject, after, *(() if purpose is None else (purpose,)), limit)
        found = self.execute(
            f"SELECT {EVIDENCE} FROM evidence WHERE subject = ? AND seq > ?{one} ORDER BY seq LIMIT ?",
            values,
        )
        return [evidence_of(row) for row in found]

    def states(self, subject: bytes) -> dict[str, DecisionState]:
        """purpose -> what holds now, for every purpose that anything was ever said about."""
        found = self.execute(
            "SELECT purpose, state, grant_seq, denial, seq FROM lane WHERE subject = ? ORDER BY purpose",
            (subject,),
        )
        return {purpose: DecisionState(*state) for purpose, *state in found}

    def newest_step(self, subject: bytes) -> int:
        """Ledger seq of the subject's newest step; 0 for none."""
        found = self.execute("SELECT coalesce(max(seq), 0) FROM evidence WHERE subject = ?", (subject,))
        return int(found.fetchone()[0])

    def gave_here(self, device_id: str, subject: bytes, purpose: str) -> bool:
        """Whether the pair's live grant rests (also) on a decision taken on this device."""
        state = self.decision_state(subject, purpose)
        return (
            state.grant != 0
            and self.execute(
                "SELECT 1 FROM evidence WHERE subject = ? AND purpose = ? AND seq >= ? AND actor = ?"
                " AND state = 'given' AND outcome = 'recorded' LIMIT 1",
                (subject, purpose, state.grant, f"device:{device_id}"),
            ).fetchone()
            is not None
        )

    def count_gives(self, actor: str, since_us: int) -> int:
        """Consents that the actor recorded since then."""
        found = self.execute(
            "SELECT count(*) FROM evidence WHERE actor = ? AND recorded_us >= ? AND state = 'given'",
            (actor, since_us),
        )
        return int(found.fetchone()[0])

    def decided_purposes(self) -> list[str]:
        """Every purpose that anybody ever decided on."""
        return [row[0] for row in self.execute("SELECT purpose FROM decided_purposes ORDER BY purpose")]

    def count_states(self) -> dict[str, int]:
        """state -> number of pairs in it."""
        return dict(self.execute("SELECT state, count(*) FROM lane GROUP BY state ORDER BY state").fetchall())

    def ledger_node(self, level: int, place: int) -> bytes:
        """A kept subtree hash; see `consent.merkle`."""
        row = self.execute(
            "SELECT hash FROM ledger_nodes WHERE level = ? AND place = ?", (level, place)
        ).fetchone()
        if row is None:
            raise StoreForeign(f"the ledger has lost node {level}:{place}; nothing was changed")
        return bytes(row[0])

    def pending_key_erasures(self) -> list[tuple[bytes, str, int]]:
        """(subject, purpose, denial) whose payload keys are still to be destroyed."""
        return self.execute("SELECT subject, purpose, denial FROM key_erasures").fetchall()


class LaneWrites(LaneReads):
    """Changes of decisions."""

    def __init__(self, connection: sqlite3.Connection, keys: KeyDatabase, digest_key: bytes) -> None:
        super().__init__(connection, keys, digest_key)
        self.lane_moved = False

    def append_evidence(self, step: Evidence) -> None:
        """Append one step to the ledger; its seq must be the next."""
        size = self.lane_head()
        assert step.seq == size + 1, (step.seq, size)
        self.execute(
            f"INSERT INTO evidence ({EVIDENCE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(step.seq, step.subject, step.purpose, step.state, step.outcome, step.notice, step.base),
                *(step.actor, step.decision, step.at_us, step.recorded_us, step.grant, step.salt, step.leaf),
                *(step.notice_hash, step.registry, " ".join(step.signals)),
            ),
        )
        self.execute_many(
            "INSERT INTO ledger_nodes VALUES (?, ?, ?)", merkle.append(size, step.leaf, self.ledger_node)
        )
        self.lane_moved = True
        self.told.append(Step(step))

    def put_lane(self, entry: LaneEntry) -> None:
        """Make `entry` the present state of its pair."""
        self.execute(
            "INSERT OR REPLACE INTO lane VALUES (?, ?, ?, ?, ?, ?)",
            (entry.subject, entry.purpose, entry.seq, entry.state, entry.grant, entry.denial),
        )
        self.execute("INSERT OR IGNORE INTO decided_purposes VALUES (?)", (entry.purpose,))

    def erase_keys(self, subject: bytes, purpose: str, denial: int) -> None:
        """Promise that the pair's payload keys from before `denial` go right after this commit."""
        self.execute("INSERT OR REPLACE INTO key_erasures VALUES (?, ?, ?)", (subject, purpose, denial))

    def erase_denied_keys(self) -> None:
        """Promise the same for every pair that was ever denied: keys put back from a copy go again."""
        self.execute(
            "INSERT OR REPLACE INTO key_erasures SELECT subject, purpose, denial FROM lane WHERE denial > 0"
        )
        self.lane_moved = True

    def keys_erased(self, subject: bytes, purpose: str, denial: int) -> None:
        """The promise was kept."""
        self.execute(
            "DELETE FROM key_erasures WHERE subject = ? AND purpose = ? AND denial <= ?",
            (subject, purpose, denial),
        )
