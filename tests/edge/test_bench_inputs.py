"""What benches feed on: real streams read as events, and a small startup that gives every number."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bench import apply, cache, consent, erase, fanout, revoke, startup
from bench.streams import STREAMS, find
from edge_runtime.catalog import Catalog
from edge_runtime.session.event import LAST_US, event_from_dict
from edge_runtime.session.plan import compile_catalog


def test_a_request_of_any_bytes_is_an_event(tmp_path: Path) -> None:
    """NASA HTTP: Latin-1, raw control characters in a URL, a size that is no number."""
    path = tmp_path / "nasa.tsv.gz"
    rows = b"host\ttime\tmethod\turl\tresponse\tbytes\nh1\t804571201\tGET\t/a\xe9\x85\r\x0b\t200\t-\n"
    path.write_bytes(gzip.compress(rows))
    (event,) = STREAMS["nasa_http"].read(path)
    assert event == {
        "type": "fetch",
        "user": "h1",
        "resource": "/a\xe9\x85\r\x0b",
        "at": 804571201,
        "method": "GET",
        "status": 200,
    }


def test_cancellations_and_visitors_of_a_shop_are_told_apart(tmp_path: Path) -> None:
    """Online Retail: C invoices are cancels; without a CustomerID the invoice names the visitor."""
    path = tmp_path / "retail.csv.gz"
    head = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
    row = '1,85123A,"A, B",6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom'
    other = "C2,22,,-1,2010-12-01 08:26:00,1.0,,France"
    path.write_bytes(gzip.compress("\n".join([head, row, row, other, ""]).encode()))
    first, again, cancel = STREAMS["online_retail"].read(path)
    assert first == again
    assert (first["type"], first["user"], first["at"]) == ("purchase", "17850", 1291191960)
    assert (cancel["type"], cancel["user"], cancel["quantity"]) == ("cancel", "visitor-C2", -1)


def test_milliseconds_of_a_click_are_kept(tmp_path: Path) -> None:
    """OTTO: `ts` is Unix milliseconds, `at` Unix seconds that round to the same microsecond."""
    path = tmp_path / "otto.jsonl"
    path.write_text('{"session":7,"events":[{"aid":5,"ts":1659304800025,"type":"clicks"}]}\n')
    (flat,) = STREAMS["otto_sessions"].read(path)
    catalog = Catalog.from_toml(STREAMS["otto_sessions"].catalog)
    event = event_from_dict(catalog, flat, now_us=LAST_US)
    assert event.at_us == 1_659_304_800_025_000
    assert event.entities == {"user": "7", "item": "5"}


@pytest.mark.parametrize("name", STREAMS)
def test_each_stream_has_a_catalog_of_twelve_features(name: str) -> None:
    """It loads, compiles, and names events that the stream has."""
    catalog = Catalog.from_toml(STREAMS[name].catalog)
    assert len(compile_catalog(catalog).views["activity@1"].names) == 12


def test_a_named_folder_without_the_file_is_an_error(tmp_path: Path) -> None:
    """A bench that was told where the data lies does not fall back to a sample."""
    with pytest.raises(FileNotFoundError, match="nasa_http"):
        find("nasa_http", tmp_path)


def test_the_startup_bench_gives_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    """Fresh processes over a small file: each number is there, and the vector's cells are all present."""
    found = startup.run(items=5_000, users=10, processes=1)
    assert found["rows"] == 5_030
    for key in ("import_s", "numpy_import_s", "open_and_vector_ms", "rss_mb"):
        assert isinstance(found[key], float)
    assert "first vector" in capsys.readouterr().out


def test_the_cache_bench_gives_every_number_and_reads_back_what_was_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every store, ours among them, hands back each row as it was; the ratios are of the same work."""
    found = cache.run(scale=0.005, rounds=1)
    for key in ("write_ratio_to_plain", "read_ratio_to_plain", "page_encryption_ratio"):
        ratio = found[key]
        assert isinstance(ratio, float)
        assert ratio > 0
    peers = found["peers"]
    assert isinstance(peers, dict)
    assert set(peers) == {"sqlcipher", "sqlite_plain"}
    assert peers["sqlite_plain"]["personal_read"] > 0
    assert "plain apsw, the limit" in capsys.readouterr().out


def test_the_erase_bench_erases_and_gives_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    """Each erasure is checked by its receipt: key, server rows, state and journal of one subject."""
    found = erase.run(subjects=(2, 5), erasures=3)
    assert set(found) >= {"ms", "flat_ratio", "p99_ms", "limit_ms", "where_ms"}
    assert isinstance(found["ms"], dict)
    assert set(found["ms"]) == {"2", "5"}
    assert "log cut to nothing" in capsys.readouterr().out


def test_the_apply_bench_gives_every_number_of_rows_that_arrive_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A server's frames into a runtime; the bench itself compares every digest with the server's."""
    found = apply.run(events_each=100, publishes=4, people=3)
    for key in ("rows_per_s", "plain_rows_per_s", "ratio_to_plain", "wire_bytes_per_feature"):
        number = found[key]
        assert isinstance(number, float | int)
        assert number > 0
    assert isinstance(found["personal"], dict)
    assert found["personal"]["rows"] > 0
    assert "goal 50,000" in capsys.readouterr().out


def test_the_fanout_bench_brings_every_change_to_every_device(capsys: pytest.CaptureFixture[str]) -> None:
    """A real server, devices with real sessions; a peer that is not here is null and says why."""
    found = fanout.run(devices=(20,), rounds=2)
    assert isinstance(found["devices"], dict)
    one = found["devices"]["20"]
    assert set(one) == {"last_ms", "redis_last_ms", "nats_last_ms", "ratio_to_redis", "kib_per_connection"}
    assert one["last_ms"] > 0
    told = capsys.readouterr().out
    assert one["redis_last_ms"] is not None or "redis: " in told
    assert one["nats_last_ms"] is not None or "nats: " in told


def test_the_revoke_bench_waits_for_every_target(capsys: pytest.CaptureFixture[str]) -> None:
    """Simulated devices and real runtimes, a snapshot in between; each target enforced and erased."""
    found = revoke.run(devices=12, real=2, revocations=1)
    assert (found["devices"], found["real_runtimes"]) == (12, 2)
    for key in ("p50_ms", "p99_ms", "unreadable_p99_ms", "erased_p99_ms", "snapshot_mb_streaming"):
        number = found[key]
        assert isinstance(number, float)
        assert number > 0
    assert "a stalled reader: at most" in capsys.readouterr().out


def test_the_consent_bench_asks_a_real_server(capsys: pytest.CaptureFixture[str]) -> None:
    """Decisions and revocations over HTTP at two sizes of the ledger, and both limits."""
    found = consent.run(decisions=200, revocations=40, hand=10)
    for key in ("decisions_per_s", "revocations_per_s", "status_ms_p99", "proof_ms_p99"):
        number = found[key]
        assert isinstance(number, float)
        assert number > 0
    stages = found["stages"]
    assert isinstance(stages, dict)
    assert [stage["ledger"] for stage in stages.values()] == [24, 240]
    assert "leaves in the ledger" in capsys.readouterr().out
