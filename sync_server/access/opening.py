"""The rooms of access, opened together."""

from __future__ import annotations

from dataclasses import dataclass

from sync_server.access.audit import Audit
from sync_server.access.doorkeeper import Doorkeeper
from sync_server.access.issuer import load_issuer
from sync_server.access.issuer_keys import IssuerKeys
from sync_server.access.people import People
from sync_server.access.tokens import TokenBook
from sync_server.clock import Clock
from sync_server.devices.authority import Authority
from sync_server.settings import Settings
from sync_server.store.protocol import Store


@dataclass(frozen=True, slots=True)
class Access:
    """Who comes in, by which tokens, and what is remembered of it."""

    door: Doorkeeper
    book: TokenBook
    audit: Audit

    def step(self, now_us: int) -> bool:
        """What each does beside the doors; see `housekeeping.Chore`."""
        self.book.step(now_us)
        return self.audit.step(now_us)

    async def close(self) -> None:
        """Write what waits to be written; the store is still open."""
        if self.door.people is not None:
            await self.door.people.keys.close()
        self.book.write_uses()
        self.audit.flush()


def open_access(
    bootstrap: str, store: Store, clock: Clock, settings: Settings, authority: Authority
) -> Access:
    """Open them.

    Args:
        bootstrap: the token of `api.token`, which may do everything.

    Raises ValueError: `settings.oidc` is not as it should be, with the place.
    """
    people = None
    if settings.oidc is not None:
        issuer, source = load_issuer(settings.oidc)
        people = People(issuer, IssuerKeys(issuer, source, settings), settings, authority.tag_key)
    book = TokenBook(store, settings)
    door = Doorkeeper(bootstrap, book, people, clock, settings)
    return Access(door, book, Audit(store, clock, settings))
