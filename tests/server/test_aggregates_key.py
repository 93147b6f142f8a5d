"""`collector.key`: made once, private, and never replaced by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_server.aggregates.collector_key import load_collector
from sync_server.app import build_app
from sync_server.errors import KeysMissing
from sync_server.settings import Settings
from sync_server.store.sqlite import SqliteStore
from tests.support.entropy import CountingEntropy


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path, entropy = tmp_path / "collector.key", CountingEntropy()
    made = load_collector(path, entropy).private_bytes_raw()
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_collector(path, entropy).private_bytes_raw() == made
    path.unlink()
    assert load_collector(path, entropy).private_bytes_raw() != made, "deleted, it is another"


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 33, "\udcff"])
def test_law_12_a_file_that_is_no_key_is_refused_untouched(tmp_path: Path, text: str) -> None:
    path = tmp_path / "collector.key"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    before = path.read_bytes()
    with pytest.raises(KeysMissing, match="untouched"):
        load_collector(path, CountingEntropy())
    assert path.read_bytes() == before


def test_a_server_that_does_not_start_for_it_lets_go_of_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[SqliteStore] = []

    def close(store: SqliteStore) -> None:
        closed.append(store)
        really(store)

    really = SqliteStore.close
    monkeypatch.setattr(SqliteStore, "close", close)
    settings = Settings(data_dir=tmp_path)
    settings.collector_file.write_text("no key")
    with pytest.raises(KeysMissing):
        build_app(settings)
    assert len(closed) == 1
