"""API tokens: made once and told once; what is kept is a hash, and all that are good are held in memory."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edge_runtime.wire.printing import prints_only
from sync_server.access.caller import Caller, Rate
from sync_server.devices.entropy import Entropy
from sync_server.settings import Settings
from sync_server.store.access import ApiToken, TokenSecret
from sync_server.store.protocol import ReadTx, Store, WriteTx

PREFIX: Final = "es_"
"""By which people and scanners for leaked secrets know one."""
_CHANGED: Final = "tokens_changed"
"""Named value of the store that moves with every change of a token."""


@prints_only("id")
@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret as it is told, once."""

    id: str
    """Of its token."""
    text: str
    hash: bytes
    """What is kept of it."""


def hash_of(text: str) -> bytes:
    """SHA-256 of a token's whole text: it holds 256 random bits, so a slow hash would add nothing."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def new_id(entropy: Entropy) -> str:
    """The id of a token to be made."""
    return "tok-" + base64.b32encode(entropy(10)).decode().lower()


def new_secret(token_id: str, entropy: Entropy) -> NewSecret:
    """A secret for the token: `es_<id>_<43 of base64url>`."""
    secret = base64.urlsafe_b64encode(entropy(32)).decode().rstrip("=")
    text = f"{PREFIX}{token_id}_{secret}"
    return NewSecret(token_id, text, hash_of(text))


@prints_only("caller")
@dataclass(frozen=True, slots=True)
class _Held:
    """A token in memory, with what it lets its bearer do."""

    token: ApiToken
    secrets: tuple[TokenSecret, ...]
    caller: Caller


class TokenBook:
    """Every token that is good, in memory. A check reads nothing else and takes microseconds."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._held: dict[str, _Held] = {}
        self._uses: dict[str, int] = {}
        """Token -> last use that was written down, or is about to be."""
        self._unwritten: set[str] = set()
        self._mark: bytes | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the tokens anew when one was made, rotated or revoked since, here or by another process."""
        with self._store.read() as tx:
            mark = tx.meta(_CHANGED) or b""
            if mark == self._mark:
                return
            self._held = {token.id: self._hold(tx, token) for token in _all(tx, self._settings.page_rows)}
        self._mark = mark
        self._uses = {token_id: self._uses.get(token_id, 0) for token_id in self._held}
        self._unwritten &= self._held.keys()

    def check(self, text: str, now_us: int) -> Caller | None:
        """Whose token this is; None when it is unknown, wrong, revoked, replaced or expired: all the same."""
        held = self._held.get(text[len(PREFIX) :].partition("_")[0])
        if held is None or not text.startswith(PREFIX):
            return None
        given, good = hash_of(text), False
        for secret in held.secrets:
            good |= hmac.compare_digest(secret.hash, given) and _before(now_us, secret.until_us)
        if not good or not _before(now_us, held.token.expires_us):
            return None
        if now_us - self._uses.get(held.token.id, 0) >= self._settings.token_use_us:
            self._uses[held.token.id] = now_us
            self._unwritten.add(held.token.id)
        return held.caller

    def step(self, now_us: int) -> bool:
        """Hear what other processes changed, and write down last uses that are due; see `Chore`."""
        self.refresh()
        self.write_uses()
        return False

    def write_uses(self) -> None:
        """Write down last uses; what is lost with the power only makes them coarser."""
        if self._unwritten:
            with self._store.write("token_uses", durable=False) as tx:
                tx.access.note_uses([(token_id, self._uses[token_id]) for token_id in self._unwritten])
            self._unwritten.clear()

    def _hold(self, tx: ReadTx, token: ApiToken) -> _Held:
        settings = self._settings
        rate = Rate(token.per_s or settings.token_requests_per_s, token.burst or settings.token_burst)
        teams = None if token.teams is None else frozenset(token.teams)
        caller = Caller(f"token:{token.id}", token.name, frozenset(token.scopes), teams, rate)
        return _Held(token, tuple(tx.access.secrets(token.id)), caller)


def create(tx: WriteTx, token: ApiToken, secret: NewSecret) -> None:
    """Write down a new token. `TokenBook.refresh` afterwards."""
    tx.access.add_token(token)
    tx.access.add_secret(secret.id, secret.hash, token.created_us, token.created_us)
    _changed(tx)


def rotate(tx: WriteTx, secret: NewSecret, now_us: int, grace_us: int) -> None:
    """Give a token another secret; those before are good for `grace_us` more at most. Then `refresh`."""
    tx.access.add_secret(secret.id, secret.hash, now_us, now_us + grace_us)
    _changed(tx)


def revoke(tx: WriteTx, token_id: str, now_us: int) -> None:
    """End a token. `TokenBook.refresh` afterwards."""
    tx.access.revoke_token(token_id, now_us)
    _changed(tx)


def _changed(tx: WriteTx) -> None:
    count = int.from_bytes(tx.meta(_CHANGED) or b"", "big") + 1
    tx.set_meta(_CHANGED, count.to_bytes(8, "big"))


def _all(tx: ReadTx, page: int) -> Iterator[ApiToken]:
    """Every token that was not revoked."""
    after = ""
    while tokens := tx.access.tokens(after, page):
        yield from (token for token in tokens if token.revoked_us is None)
        after = tokens[-1].id


def _before(now_us: int, end_us: int | None) -> bool:
    return end_us is None or now_us < end_us
