"""Every limit of a runtime, with its unit and default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of one runtime. Times in microseconds, sizes in bytes, counts in items."""

    cold_start: Literal["server", "lease"] = "server"
    """After a restart an enrolled runtime opens consented data once the server has answered (`server`), or on
    the stored lease alone (`lease`, which status and receipts then say)."""
    grace_us: int = 604_800_000_000
    """After being locked for so long by the end of its lease, the server's rows under consent are deleted, at
    most a day later; the next session brings them anew. Consents and what was collected here stay."""
    commit_interval_us: int = 50_000
    """Longest time that a tracked event waits for its group commit."""
    pending_events: int = 20_000
    """Events waiting for the group commit; when full, `track` commits by itself, or on a full disk folds them
    into the states that hold them."""
    snapshot_every_events: int = 256
    """A subject's states are stored again some commits after this many journalled events, later if they are
    large (128 bytes an event at most); a cold load replays what was journalled since."""
    live_states: int = 20_000
    """Session states held in memory; the least recently used is stored and let go. On a full disk twice as
    many are held; an event that needs one more is not taken."""
    live_subjects: int = 20_000
    """Subjects whose data keys, or the lack of any, are held in memory; the one held longest is let go, and
    looked up in the keystore when it is asked for again."""
    live_rows: int = 200_000
    """Decoded server rows held in memory; the least recently used is let go."""
    held_rows: int = 4_096
    """Rows of services held between reads; beyond, those read first are let go and read anew."""
    id_limit_bytes: int = 512
    """Longest id of an entity or event, in UTF-8."""
    string_limit_bytes: int = 4_096
    """Longest string property, in UTF-8."""
    future_us: int = 60_000_000
    """Events further ahead of now than this are malformed."""
    candidates: int = 10_000
    """Most candidates of one `matrix` call."""
    presence_timeout_us: int = 3_600_000_000
    """Of a subject of whom nothing was read or tracked for so long, the channels are closed, and opened again
    when it is seen; 0 for never. Nothing is erased by that."""
    fetch_waiting: int = 4_096
    """Rows on demand that wait to be asked for, in memory; when full the oldest are dropped, and whoever
    waits for them is told."""
    fetched_rows: int = 50_000
    """Rows about nobody that were asked for and are kept; the coldest go."""
    fetched_rows_of_subject: int = 1_024
    """The same of one subject under one purpose; those of the oldest days go."""
    report_spread_us: int = 3_600_000_000
    """An aggregate report waits for a random time of at most so long before it is sent, and never past the
    middle of what remains of its round; 0: it goes at once."""
    remembered_answers: int = 16
    """Noised answers remembered of one metric and subject, each of another value, to be given again when a
    round finds that value again; what fell out is drawn anew, and paid for. 0 remembers none: then a value
    that stays is told anew in each round that the privacy budget allows, and shows in the end."""
    sweep_interval_us: int = 60_000_000
    """Pause between two rounds of upkeep in the background; 0 for none (then call `sweep` yourself). The
    first begins after 10 seconds at the latest."""
    sweep_step_us: int = 5_000
    """Time that one step of upkeep should take, at most; others wait no longer than for its write."""
    cache_limit_bytes: int = 268_435_456
    """Bytes of the database in use, its log left out. Beyond them the coldest values go; 0 for no limit."""
    free_space_bytes: int = 33_554_432
    """With less free space on the database's volume the values of server rows are not kept; 0 for any."""
