"""Publishing: batches that are cut off, keys that come again, and the job behind every row."""

from __future__ import annotations

import asyncio
import json
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgpack
import pytest
from aiohttp import ClientError
from yarl import URL

from edge_runtime.wire import seal
from sync_server.api.replies import fingerprint_of
from sync_server.api.rooms import NODE
from sync_server.store.protocol import WriteTx
from sync_server.store.records import BEGUN, KeptReply
from sync_server.store.rows import RowWrites
from tests.support.clock import ManualClock
from tests.support.shop_server import Answer, ShopServer

AT = "2023-11-01T00:00:00Z"
DATA = Path(__file__).resolve().parents[1] / "data"
JOB: dict[str, Any] = {
    "who": "team-search",
    "name": "popularity",
    "run": "2026-11-30T10",
    "code_version": "a1b2c3",
}


def item(name: str, at: object = AT, **more: object) -> dict[str, object]:
    return {"entity": f"item:{name}", "event_time": at, "values": {"popularity": 0.5}, **more}


def batch(count: int, at: object = AT, **more: object) -> dict[str, object]:
    return {"view": "item_stats", "rows": [item(str(n), at) for n in range(count)], **more}


async def post(shop: ShopServer, body: object, key: str = "") -> Answer:
    return await shop.call("POST", "/v1/features", body, headers={"Idempotency-Key": key} if key else {})


async def packed(shop: ShopServer, raw: bytes) -> Answer:
    return await shop.call("POST", "/v1/features", data=raw, headers={"Content-Type": "application/msgpack"})


def live(shop: ShopServer) -> int:
    with shop.store.read() as tx:
        return sum(not r.deleted for r in tx.channel_rows("all", 0, 99_999))


# ---- keys ----------------------------------------------------------------------------------------------


async def test_law_6_a_batch_cut_off_in_the_middle_is_finished_by_a_repeat_that_says_so(
    tmp_path: Path,
) -> None:
    """A fault in the third of five chunks; under the same key the rest comes, and nothing comes twice."""
    async with ShopServer(tmp_path / "data", ManualClock(), write_chunk_rows=10) as shop:
        real = RowWrites.write_row

        def failing(tx: Any, standing: Any, row: Any, *args: Any, **more: Any) -> None:
            if row.entity == "item:25":
                raise MemoryError
            real(tx, standing, row, *args, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RowWrites, "write_row", failing)
            assert (await post(shop, batch(50), "k")).status == 500
        assert live(shop) == 20
        other = await post(shop, batch(49), "k")
        assert (other.status, other.body["code"]) == (422, "idempotency_reuse")
        assert live(shop) == 20
        with shop.store.read() as tx:
            before = tx.channel_head("all").seq
        reply = await post(shop, batch(50), "k")
        said = {"view": "item_stats@1", "accepted": 50, "refused": [], "unchanged": 20, "resumed": True}
        assert reply.body == said
        with shop.store.read() as tx:
            assert tx.channel_head("all").seq == before + 30
        again = await post(shop, batch(50), "k")
        assert (again.body, again.headers["Idempotency-Replayed"]) == (said, "true")


async def test_law_6_a_process_killed_between_two_chunks_leaves_the_same(tmp_path: Path) -> None:
    """As `kill -9` would: the task ends where it waits, a new server opens the directory."""
    clock = ManualClock()
    async with ShopServer(tmp_path / "data", clock, write_chunk_rows=10) as shop:
        chunks = 0

        def count(_: object) -> None:
            nonlocal chunks
            chunks += 1
            if chunks == 3:
                raise asyncio.CancelledError

        shop.store.listen(count)
        with pytest.raises(ClientError):
            await post(shop, batch(50), "k")
    async with ShopServer(tmp_path / "data", clock, write_chunk_rows=10) as shop:
        assert live(shop) == 30
        reply = await post(shop, batch(50), "k")
        assert reply.body.items() >= {"accepted": 50, "unchanged": 30, "resumed": True}.items()
        assert live(shop) == 50


async def test_law_11_a_full_disk_in_the_middle_is_told_and_the_repeat_finishes_it(tmp_path: Path) -> None:
    """503 with a time to come back; whole chunks stand; once there is room the repeat brings the rest."""
    async with ShopServer(tmp_path / "data", ManualClock(), write_chunk_rows=50) as shop:
        writer = shop.store._writer  # type: ignore[attr-defined]
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count = {pages + 20}")
        reply = await post(shop, batch(3_000), "k")
        assert (reply.status, reply.body["code"], reply.headers["Retry-After"]) == (503, "storage", "5")
        stood = live(shop)
        assert 0 < stood < 3_000
        assert stood % 50 == 0
        moved = await shop.call("PUT", "/v1/segments/gold", {"members": [f"item:{n}" for n in range(3_000)]})
        assert moved.status == 503
        with shop.store.read() as tx:
            assert tx.segment_size("gold") == sum(
                not r.deleted for r in tx.channel_rows("segment:gold", 0, 99_999)
            )
        writer.execute("PRAGMA max_page_count = 1000000")
        reply = await post(shop, batch(3_000), "k")
        assert reply.body.items() >= {"accepted": 3_000, "unchanged": stood, "resumed": True}.items()


async def test_a_repeat_after_a_cut_says_what_became_of_rows_that_others_changed_meanwhile(
    tmp_path: Path,
) -> None:
    """Newer rows of another job stay, and the repeat names them as older."""
    async with ShopServer(tmp_path / "data", ManualClock(), write_chunk_rows=10) as shop:
        with shop.store.write("begun") as tx:  # as a kill right after the first chunk leaves it
            mark_begun(shop, tx, batch(20, at=100))
        await post(shop, {"view": "item_stats", "rows": [item("3", 200)]})
        reply = await post(shop, batch(20, at=100), "k")
        assert reply.body["accepted"] == 19
        assert [(r["index"], r["code"]) for r in reply.body["refused"]] == [(3, "older")]
        assert reply.body["resumed"]


def mark_begun(shop: ShopServer, tx: WriteTx, body: dict[str, object]) -> None:
    raw = json.dumps(body).encode()
    name = fingerprint_of(shop.authority, b"bootstrap\0k").hex()
    tx.keep_reply("features", name, KeptReply(fingerprint_of(shop.authority, raw), BEGUN, (), b""), 1)


async def test_reply_and_rows_of_the_last_chunk_are_one_transaction(shop: ShopServer) -> None:
    """No moment at which the rows stand and a repeat would not know it."""
    seen: list[bool] = []

    def look(_: object) -> None:
        with shop.store.read() as tx:
            kept = tx.execute("SELECT status FROM idempotency").fetchall()
        seen.append(kept == [(200,)])

    shop.store.listen(look)
    await post(shop, batch(5), "k")
    assert seen == [True]


async def test_a_batch_refused_whole_leaves_its_key_free(shop: ShopServer) -> None:
    """Nothing was changed, so the same key may carry the corrected body."""
    assert (await post(shop, {**batch(2), "view": "nothing"}, "k")).status == 422
    assert (await post(shop, batch(2), "k")).body["accepted"] == 2


async def test_a_key_is_forgotten_after_a_day_also_one_that_was_cut_off(shop: ShopServer) -> None:
    """Then its body counts as new, and what stands as unchanged."""
    with shop.store.write("begun") as tx:
        mark_begun(shop, tx, batch(3))
        assert tx.drop_replies(shop.clock.now_us()) == 1
    assert "resumed" not in (await post(shop, batch(3), "k")).body


async def test_identical_rows_are_accepted_and_counted_as_unchanged(shop: ShopServer) -> None:
    """They take no seq, and keep the job that wrote them first."""
    await post(shop, batch(3, job=JOB))
    reply = await post(shop, {**batch(4), "job": {**JOB, "run": "later"}})
    assert (reply.body["accepted"], reply.body["unchanged"]) == (4, 3)
    assert (await shop.call("GET", "/v1/features/item_stats/item:0")).body["job"]["run"] == JOB["run"]
    assert (await shop.call("GET", "/v1/features/item_stats/item:3")).body["job"]["run"] == "later"


async def test_the_example_of_the_page_is_accepted(shop: ShopServer) -> None:
    """docs/publishing.md, word for word, as JSON and as MessagePack."""
    page = (DATA.parents[1] / "docs" / "publishing.md").read_text()
    body = page.split("```json\n")[1].split("```")[0]
    reply = await shop.call(
        "POST", "/v1/features", data=body.encode(), headers={"Content-Type": "application/json"}
    )
    assert reply.body == {"view": "item_stats@1", "accepted": 3, "refused": []}
    assert (await packed(shop, bytes(msgpack.packb(json.loads(body))))).body["unchanged"] == 3
    with shop.store.read() as tx:
        assert tx.segments_of("item:22423") == ["gold"]


# ---- lineage -------------------------------------------------------------------------------------------


async def test_every_row_says_what_wrote_it(shop: ShopServer) -> None:
    """Once a job and run; the newest writer counts, a delete's too; without one it says null."""
    await post(shop, batch(3, at=10, job=JOB))
    reply = await shop.call("GET", "/v1/features/item_stats/item:1")
    assert reply.status == 200
    assert reply.body["job"] == {**JOB, "first_us": shop.clock.now_us()}
    assert reply.body.items() >= {"entity": "item:1", "view": "item_stats@1", "deleted": False}.items()
    assert (reply.body["values"], reply.body["channels"]) == ({"popularity": 0.5}, ["all"])
    await post(shop, batch(1, at=20, job={**JOB, "run": "second"}))
    gone = {"entity": "item:1", "event_time": 20, "deleted": True}
    legal: dict[str, object] = {**JOB, "who": "team-legal"}
    await post(shop, {"view": "item_stats", "rows": [gone], "job": legal})
    assert (await shop.call("GET", "/v1/features/item_stats/item:0")).body["job"]["run"] == "second"
    shown = (await shop.call("GET", "/v1/features/item_stats@1/item:1")).body
    assert (shown["deleted"], shown["values"], shown["job"]["who"]) == (True, None, "team-legal")
    await post(shop, batch(1, at=30))
    assert (await shop.call("GET", "/v1/features/item_stats/item:0")).body["job"] is None
    with shop.store.read() as tx:
        assert tx.count_lineages() == 3


async def test_jobs_without_rows_are_forgotten(shop: ShopServer) -> None:
    """The count of rows of each job follows writes, deletes that are forgotten, and erasures."""
    await shop.give("alice")
    alice = {"entity": "user:alice", "event_time": AT, "values": {"country": "UK"}}
    await post(shop, {"view": "profile", "rows": [alice], "as_of": 1, "job": {**JOB, "run": "personal"}})
    await post(shop, batch(2, at=10, job={**JOB, "run": "first"}))
    await post(shop, batch(1, at=20, job={**JOB, "run": "second"}))
    gone = {"entity": "item:1", "event_time": 20, "deleted": True}
    third: dict[str, object] = {**JOB, "run": "third"}
    await post(shop, {"view": "item_stats", "rows": [gone], "job": third})

    def runs() -> list[tuple[str, int]]:
        with shop.store.write("sweep") as tx:
            tx.drop_lineages(100)
            return tx.execute("SELECT run, rows FROM lineages ORDER BY run").fetchall()

    assert runs() == [("personal", 1), ("second", 1), ("third", 1)]
    await shop.revoke("alice")
    with shop.store.write("sweep") as tx:
        tx.drop_deletes(2**62)
    assert runs() == [("second", 1)]


@pytest.mark.parametrize(
    "job",
    [
        "popularity",
        {},
        {"who": "a"},
        {"who": "", "name": "b"},
        {"who": "a", "name": "x" * 201},
        {"who": "a", "name": "b", "run": 7},
        {"who": "a", "name": "b", "more": 1},
        [JOB],
    ],
)
async def test_law_12_a_job_that_is_none_refuses_the_batch(shop: ShopServer, job: object) -> None:
    """Whole, before any row."""
    reply = await post(shop, batch(2, job=job))
    assert (reply.status, reply.body["code"]) == (422, "invalid_request")
    assert live(shop) == 0


async def test_no_device_is_ever_told_what_wrote_a_row(shop: ShopServer) -> None:
    """Not in a frame, not in a row on demand."""
    await post(shop, batch(3, job={**JOB, "who": "canary-who", "name": "canary-name"}))
    frame = shop.app[NODE].fanout.delta("all", 0, replacing=True).frame
    assert b"item:1" in frame
    assert b"canary" not in frame


async def test_law_1_of_a_subject_the_job_is_shown_by_pseudonym_and_nothing_more(shop: ShopServer) -> None:
    """No values, no plain name in a URL, and nothing at all while permission does not stand."""
    await shop.give("alice")
    row = {"entity": "user:alice", "event_time": AT, "values": {"country": "FR"}}
    await post(shop, {"view": "profile", "rows": [row], "as_of": 1, "job": JOB})
    plain = await shop.call("GET", "/v1/features/profile/user:alice")
    assert (plain.status, plain.body["code"]) == (422, "invalid_id")
    assert "alice" not in json.dumps(plain.body)
    path = f"/v1/features/profile/{seal.subject_token(shop.pseudonym('alice'))}"
    shown = await shop.call("GET", path)
    assert shown.status == 200
    assert shown.body["job"]["who"] == JOB["who"]
    assert (shown.body["purpose"], shown.body["grant"]) == ("personalization", 1)
    assert "values" not in shown.body
    assert "FR" not in json.dumps(shown.body)
    await shop.give("alice", state="restricted")
    assert (await shop.call("GET", path)).status == 404
    await shop.revoke("alice")
    assert (await shop.call("GET", path)).status == 404


async def test_every_naughty_id_is_found_by_its_row(shop: ShopServer) -> None:
    """Slashes, dots, control characters, anything: quoted in the path, the same row comes back."""
    naughty: list[str] = json.loads((DATA / "naughty_strings" / "blns.json").read_text())
    good = [text for text in naughty if text and len(f"item:{text}".encode()) <= 512]
    good = [*(text for text in good if "|user:" not in text), "a/b", "a\nb", "..", ".", "a?b#c", "%2F", "+"]
    await post(shop, {"view": "item_stats", "rows": [item(text) for text in good]})
    for text in good:
        url = URL(f"/v1/features/item_stats/{quote(f'item:{text}', safe='')}", encoded=True)
        reply = await shop.call("GET", url)
        assert (reply.status, reply.body.get("entity")) == (200, f"item:{text}"), text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/features/nothing/item:0", 422),
        ("/v1/features/activity/item:0", 422),
        ("/v1/features/item_stats@9/item:0", 422),
        ("/v1/features/item_stats/item:none", 404),
        ("/v1/features/item_stats/%00", 404),
        ("/v1/features/item_stats/~~", 404),
        ("/v1/features/item_stats/item:a%2Fb", 404),
    ],
)
async def test_law_12_a_question_about_no_row_is_answered(shop: ShopServer, path: str, status: int) -> None:
    """With a code, and never with a fault of the server."""
    assert (await shop.call("GET", path)).status == status


# ---- hostile bodies ------------------------------------------------------------------------------------


def suite() -> list[bytes]:
    groups = json.loads((DATA / "msgpack_test_suite" / "msgpack-test-suite.json").read_text())
    cases = [case for members in groups.values() for case in members]
    return [bytes.fromhex(text.replace("-", "")) for case in cases for text in case["msgpack"]]


def body_with(place: str, raw: bytes) -> bytes:
    """A publish of three rows in MessagePack, with `raw` put in, unparsed, in place of one thing."""
    mark = b"\xa9PLACEMARK"
    row: dict[str, object] = item("b")
    whole: dict[str, object] = {"view": "item_stats", "rows": [item("a"), row, item("c")]}
    match place:
        case "view" | "rows" | "as_of" | "job":
            whole[place] = "PLACEMARK"
        case "row":
            whole["rows"] = [item("a"), "PLACEMARK", item("c")]
        case "value":
            row["values"] = {"popularity": "PLACEMARK"}
        case "map value":
            row["values"] = {"co_bought": {"x": "PLACEMARK"}}
        case _:
            row[place] = "PLACEMARK"
    encoded = bytes(msgpack.packb(whole))
    assert encoded.count(mark) == 1
    return encoded.replace(mark, raw)


PLACES = (
    "view",
    "rows",
    "as_of",
    "job",
    "row",
    "entity",
    "event_time",
    "values",
    "deleted",
    "segments",
    "value",
)


@pytest.mark.parametrize("place", [*PLACES, "map value"])
async def test_law_12_every_value_of_the_msgpack_suite_in_every_place_is_answered(
    shop: ShopServer, place: str
) -> None:
    """A row stands or is refused, or the body is: never a fault; the rows beside it stand, or none does."""
    for raw in suite():
        reply = await packed(shop, body_with(place, raw))
        assert reply.status in (200, 400, 422), (place, raw)
        if reply.status == 200:
            rows = reply.body["accepted"] + len(reply.body["refused"])
            assert rows == 3 or (place == "rows" and reply.body["accepted"] == 0), (place, raw)
            if place not in ("rows", "job", "as_of", "view"):
                assert {r["index"] for r in reply.body["refused"]} <= {1}
        else:
            assert reply.body["code"] in ("malformed_msgpack", "invalid_request", "unknown_view")


async def test_law_12_every_text_of_the_json_suite_as_a_row_is_answered(shop: ShopServer) -> None:
    """Whole as the body, and inside `rows`, in bytes as they are."""
    with tarfile.open(DATA / "json_test_suite" / "json_test_suite.tar.gz") as archive:
        files = [
            archive.extractfile(m) for m in archive.getmembers() if m.isfile() and m.name.endswith(".json")
        ]
        texts = [file.read() for file in files if file is not None]
    assert len(texts) > 300
    for text in texts:
        for body in (text, b'{"view": "item_stats", "rows": [' + text + b"]}"):
            reply = await shop.call(
                "POST", "/v1/features", data=body, headers={"Content-Type": "application/json"}
            )
            assert reply.status in (200, 400, 422), text
            if reply.status == 200:
                assert reply.body["accepted"] == 0
    assert live(shop) == 0


async def test_msgpack_cut_anywhere_or_followed_by_anything_is_malformed(shop: ShopServer) -> None:
    """Nothing of it is written."""
    whole = bytes(msgpack.packb(batch(2)))
    for size in range(0, len(whole), 5):
        reply = await packed(shop, whole[:size])
        assert (reply.status, reply.body["code"]) == (400, "malformed_msgpack")
    assert (await packed(shop, whole + b"\xc0")).status == 400
    assert live(shop) == 0
    assert (await packed(shop, whole)).body["accepted"] == 2


async def test_law_11_deep_and_wide_msgpack_is_bounded(shop: ShopServer) -> None:
    """Claims of four billion items, arrays in arrays: refused without memory or a fault."""
    for raw in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\x91" * 100_000):
        for body in (raw, body_with("row", raw), body_with("values", raw)):
            reply = await packed(shop, body)
            assert (reply.status, reply.body["code"]) == (400, "malformed_msgpack")
    for depth in (60, 500):
        reply = await packed(shop, body_with("value", b"\x91" * depth + b"\xc0"))
        assert reply.status in (200, 400)
