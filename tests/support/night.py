"""A town with a journal that is backed up, lost, and restored; and devices that go on with the new one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from sync_server.consent.auditing import Audit, Keys, audit_store
from sync_server.journal.copied import CopiedLedger
from sync_server.journal.folder import FolderJournal
from sync_server.journal.journal import Journal
from sync_server.restore.backup import back_up, back_up_keys
from sync_server.restore.gives import Gives
from sync_server.restore.rebuild import Restored, Sources, restore
from sync_server.settings import Settings
from tests.support.clock import ManualClock
from tests.support.town import Kiosk, Session, Town


class JournalledTown(Town):
    """A town as `build_app` makes it: with its journal, and no gives while they have to wait."""

    def __init__(self, folder: Path, clock: ManualClock | None = None, journals: Sequence[Path] = ()) -> None:
        super().__init__(folder, clock)
        for place in journals:
            place.mkdir(exist_ok=True)
        places = [FolderJournal(p, self.authority.incarnation, 4096) for p in journals]
        self.journal = Journal(
            places, CopiedLedger(self.store, self.authority, self.clock), self.clock.now_us
        )
        self.store.attach(self.journal)
        self.office.check_gives = Gives(self.node.catching_up, self.journal).check
        self.office.settle()


class Night:
    """One town after another in `folder`, each restored from the one before."""

    def __init__(self, folder: Path, *, journals: int = 1) -> None:
        self._folder, self._lives = folder, 0
        self.journals = [folder / f"journal-{n}" for n in range(journals)]
        self.town = JournalledTown(folder / "life-0", journals=self.journals)
        self.clock = self.town.clock
        self.backup, self.keys = folder / "backup", folder / "keys"

    def close(self) -> None:
        self.town.close()

    def back_up(self, *, keys: bool = True) -> None:
        """Last night's backup, of the store and (elsewhere) of the keys."""
        for place in (self.backup, self.keys):
            shutil.rmtree(place, ignore_errors=True)
        back_up(self.town.settings, self.backup, self.clock.now_us())
        if keys:
            back_up_keys(self.town.settings, self.keys, None, force=True)

    def lose(self, *, keys: bool = True) -> None:
        """The server is gone, with its directory; its keys too, or they lay elsewhere."""
        self.town.close()
        folder = self.town.settings.data_dir
        shutil.copy(folder / "server.key", self._folder / "server.key")
        if not keys:
            shutil.copy(folder / "keys.db", self._folder / "keys.db")
        shutil.rmtree(folder)

    def restore(
        self, *, journals: Sequence[Path] = (), keys: Path | None = None, authority: Path | None = None
    ) -> Restored:
        """Another server from the backup; by default with the old copy of the keys."""
        self._lives += 1
        data = self._folder / f"life-{self._lives}"
        sources = Sources(
            backup=self.backup,
            authority=authority or self._folder / "server.key",
            keys=keys or self.keys,
            journals=journals,
        )
        self.clock.advance(seconds=1)
        done = restore(sources, Settings(data_dir=data), self.clock.now_us(), self.town.entropy)
        self.town = JournalledTown(data, self.clock, self.journals)
        return done

    def meet(self, kiosk: Kiosk) -> Session:
        """A session of `kiosk` with the present server, up to where both fall silent."""
        kiosk.town = self.town
        session = Session(kiosk)
        session.settle()
        return session

    def payload_keys(self, subject: str) -> int:
        """Keys that open rows of a subject on the server."""
        pseudonym = self.town.pseudonym(subject)
        with self.town.store.read() as tx:
            found = tx._keys._db.execute("SELECT count(*) FROM payload_keys WHERE subject = ?", (pseudonym,))
            return int(found.fetchone()[0])

    def rows_of(self, subject: str) -> int:
        """Rows of a subject that the server holds."""
        pseudonym = self.town.pseudonym(subject)
        with self.town.store.read() as tx:
            found = tx.execute("SELECT count(*) FROM rows WHERE subject = ?", (pseudonym,))
            return int(found.fetchone()[0])

    def state(self, subject: str, purpose: str) -> str:
        with self.town.store.read() as tx:
            return tx.decision_state(self.town.pseudonym(subject), purpose).state

    def audit(self) -> Audit:
        """The whole ledger of the present server, walked from its first step."""
        authority = self.town.authority
        keys = Keys([], authority.public_key, authority.incarnation, authority.restores)
        with self.town.store.read() as tx:
            return audit_store(tx.ledger, keys)
