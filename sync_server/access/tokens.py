"""API tokens: made once and told once; what is kept is a hash, and all that are good are held in memory."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from edge_runtime.wire.printing import prints_only
from sync_server.access.caller import Caller, Rate
from sync_server.devices.entropy import Entropy
from sync_server.settings import HOUR_US, Settings
from sync_server.store.access import ApiToken, TokenSecret
from sync_server.store.protocol import ReadTx, Store, WriteTx

PREFIX: Final = "es_"
"""By which people and scanners for leaked secrets know one."""
_CHANGES: Final = "token_changes"
"""Named value of the store: how many changes of tokens there were."""


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
        self._unwritten: dict[str, int] = {}
        self._pruned_us = 0
        self._seen = 0
        """Number of the newest change that was read."""
        self.refresh()

    def refresh(self) -> None:
        """Read what was made, rotated or revoked since, here or by another process."""
        with self._store.read() as tx:
            for number, token in tx.access.tokens_changed(self._seen):
                self._seen = number
                if token.revoked_us is None:
                    self._held[token.id] = self._hold(tx, token)
                else:
                    self._forget(token.id)

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
            self._unwritten[held.token.id] = now_us
        return held.caller

    def step(self, now_us: int) -> bool:
        """Hear what other processes changed, and write down last uses that are due; see `Chore`."""
        self.refresh()
        self.write_uses()
        if not 0 <= now_us - self._pruned_us < HOUR_US:
            self._pruned_us = now_us
            for held in [*self._held.values()]:
                if not _before(now_us - self._settings.token_kept_us, held.token.expires_us):
                    self._forget(held.token.id)
        return False

    def write_uses(self) -> None:
        """Write down last uses; what is lost with the power only makes them coarser."""
        if self._unwritten:
            with self._store.write("token_uses", durable=False) as tx:
                tx.access.note_uses(self._unwritten.items())
            self._unwritten.clear()

    def _forget(self, token_id: str) -> None:
        self._held.pop(token_id, None)
        self._uses.pop(token_id, None)

    def _hold(self, tx: ReadTx, token: ApiToken) -> _Held:
        settings = self._settings
        rate = Rate(token.per_s or settings.token_requests_per_s, token.burst or settings.token_burst)
        teams = None if token.teams is None else frozenset(token.teams)
        bound = None if token.destinations is None else frozenset(token.destinations)
        caller = Caller(f"token:{token.id}", token.name, frozenset(token.scopes), teams, bound, rate)
        return _Held(token, tuple(tx.access.secrets(token.id)), caller)


def create(tx: WriteTx, token: ApiToken, secret: NewSecret) -> None:
    """Write down a new token. `TokenBook.refresh` afterwards."""
    tx.access.add_token(token)
    tx.access.add_secret(secret.id, secret.hash, token.created_us, token.created_us)
    _changed(tx, token.id)


def rotate(tx: WriteTx, secret: NewSecret, now_us: int, grace_us: int) -> None:
    """Give a token another secret; those before are good for `grace_us` more at most. Then `refresh`."""
    tx.access.add_secret(secret.id, secret.hash, now_us, now_us + grace_us)
    _changed(tx, secret.id)


def revoke(tx: WriteTx, token_id: str, now_us: int) -> None:
    """End a token. `TokenBook.refresh` afterwards."""
    tx.access.revoke_token(token_id, now_us)
    _changed(tx, token_id)


def _changed(tx: WriteTx, token_id: str) -> None:
    """Number the change, so that every process finds it. The number outlives the token."""
    number = int.from_bytes(tx.meta(_CHANGES) or b"", "big") + 1
    tx.set_meta(_CHANGES, number.to_bytes(8, "big"))
    tx.access.number_change(token_id, number)


def _before(now_us: int, end_us: int | None) -> bool:
    return end_us is None or now_us < end_us
