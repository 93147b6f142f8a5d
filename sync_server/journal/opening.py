"""The journals of a server, opened and told what they missed."""

from __future__ import annotations

from pathlib import Path

from sync_server.clock import Clock
from sync_server.devices.authority import Authority
from sync_server.journal.copied import CopiedLedger
from sync_server.journal.folder import FolderJournal
from sync_server.journal.journal import Journal
from sync_server.restore.catching_up import check_same_restore, note_lease
from sync_server.settings import Settings
from sync_server.store.sqlite import SqliteStore


def open_journal(settings: Settings, clock: Clock, store: SqliteStore, authority: Authority) -> Journal:
    """Open them; from here on the store writes nothing that takes a permission away without them.

    Raises `JournalAhead` or `StoreForeign`.
    """
    size = settings.journal_segment_bytes
    places = [FolderJournal(Path(folder), authority.incarnation, size) for folder in settings.journals]
    journal = Journal(places, CopiedLedger(store, authority, clock), clock.now_us)
    check_same_restore(store, authority)
    note_lease(store, settings.lease_us)
    store.attach(journal)
    return journal
