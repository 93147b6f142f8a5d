"""What a restored server remembers of tokens and of its audit log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_server.access import tokens
from sync_server.access.chain import AuditEntry, walk
from sync_server.access.tokens import NewSecret, TokenBook
from sync_server.store.access import ApiToken
from tests.support.night import Night


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    made = Night(tmp_path)
    yield made
    made.close()


def make(night: Night, expires_us: int | None = None) -> NewSecret:
    town = night.town
    secret = tokens.new_secret(tokens.new_id(town.entropy), town.entropy)
    made = ApiToken(
        *(secret.id, "x", ("consent",), None, None, None, None, town.clock.now_us(), "bootstrap", expires_us),
        *(None, None),
    )
    with town.store.write("t") as tx:
        tokens.create(tx, made, secret)
    return secret


def test_a_token_revoked_after_the_backup_does_not_come_back(night: Night) -> None:
    """Nor does any other: which were revoked, or rotated after a leak, the backup does not know."""
    now_us = night.clock.now_us()
    revoked, kept, expired = make(night), make(night), make(night, now_us + 1)
    night.back_up()
    with night.town.store.write("t") as tx:
        tokens.revoke(tx, revoked.id, now_us)
    night.lose()
    done = night.restore(journals=night.journals)
    assert done.tokens_ended == 2
    book = TokenBook(night.town.store, night.town.settings)
    for secret in (revoked, kept, expired):
        assert book.check(secret.text, night.clock.now_us()) is None
    with night.town.store.read() as tx:
        assert tx.access.secrets(kept.id) == []
        token = tx.access.token(kept.id)
        assert token is not None
        assert token.revoked_us is not None
    fresh = make(night)
    book.refresh()
    assert book.check(fresh.text, night.clock.now_us()) is not None


def test_the_audit_log_goes_on_where_the_backup_left_it(night: Night) -> None:
    def entry(resource: str) -> AuditEntry:
        at_us = night.clock.now_us()
        words = ("bootstrap", "", "POST", "/v1/tokens", "changed", 201, "", resource)
        return AuditEntry(at_us, at_us, 1, *words)

    with night.town.store.write("t") as tx:
        tx.audit.append([entry("one")])
    night.back_up()
    night.lose()
    night.restore(journals=night.journals)
    with night.town.store.write("t") as tx:
        tx.audit.append([entry("two")])
        rows = tx.audit.after(0, 9)
    assert [row.entry.resource for row in rows] == ["one", "two"]
    assert walk(rows, 0, bytes(32)) == (2, rows[1].hash)
