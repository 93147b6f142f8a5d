"""Publishing: each row stands or is refused by itself, and personal rows only under the live grant."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_runtime.wire import codec, seal
from tests.support.shop_server import ShopServer

AT = "2023-11-01T00:00:00Z"
BLNS = Path(__file__).resolve().parents[1] / "data" / "naughty_strings" / "blns.json"
NAUGHTY: list[str] = json.loads(BLNS.read_text())


def item(name: str = "85123A", at: object = AT, **values: object) -> dict[str, object]:
    return {"entity": f"item:{name}", "event_time": at, "values": values or {"popularity": 0.5}}


def user(name: str, at: object = AT, country: str = "UK") -> dict[str, object]:
    return {"entity": f"user:{name}", "event_time": at, "values": {"country": country}}


def rows_of(shop: ShopServer, channel: str) -> list[Any]:
    with shop.store.read() as tx:
        return tx.channel_rows(channel, 0, 10_000)


async def test_a_row_reaches_its_channel_as_it_was_sent(shop: ShopServer) -> None:
    """A row about nobody stands in `all` with its values, time and a seq."""
    reply = await shop.publish("item_stats", [item(popularity=0.25, co_bought={"b": 2.0})])
    assert (reply.status, reply.body) == (200, {"view": "item_stats@1", "accepted": 1, "refused": []})
    (row,) = rows_of(shop, "all")
    assert (row.entity, row.view, row.version, row.grant) == ("item:85123A", "item_stats", 1, 0)
    assert row.event_time_us == 1_698_796_800_000_000
    assert codec.unpack(row.values, 9_999) == {"popularity": 0.25, "co_bought": {"b": 2.0}}


BAD = [
    (7, "wrong_type"),
    ({"entity": "item:a", "event_time": AT}, "missing_field"),
    ({"event_time": AT, "values": {}}, "missing_field"),
    ({"entity": "item:a", "values": {}}, "missing_field"),
    ({**item(), "extra": 1}, "unknown_field"),
    ({**item(), "deleted": "yes"}, "wrong_type"),
    ({**item(), "deleted": True}, "unknown_field"),
    ({**item(), "entity": "user:a"}, "invalid_id"),
    ({**item(), "entity": "85123A"}, "invalid_id"),
    ({**item(), "entity": "item:"}, "invalid_id"),
    ({**item(), "entity": {"item": "a", "user": "b"}}, "invalid_id"),
    ({**item(), "entity": "item:" + "x" * 508}, "invalid_id"),
    ({**item(), "entity": "item:" + "x" * 1_000_000}, "invalid_id"),
    (item(at="2023-11-01T00:00:00"), "invalid_time"),
    (item(at="yesterday"), "invalid_time"),
    (item(at=True), "invalid_time"),
    (item(at=1e300), "invalid_time"),
    (item(at=1_700_000_061), "invalid_time"),
    (item(nothing=1), "unknown_feature"),
    (item(popularity="0.5"), "wrong_type"),
    (item(popularity=True), "wrong_type"),
    (item(popularity=1.01), "out_of_range"),
    (item(popularity=-1), "out_of_range"),
    (item(co_bought=[1]), "wrong_type"),
    (item(co_bought={f"{i:0500}": 1.0 for i in range(120)}), "too_large"),
]


@pytest.mark.parametrize(("bad", "code"), BAD, ids=range(len(BAD)))
async def test_law_12_a_bad_row_is_named_and_the_others_stand(
    shop: ShopServer, bad: object, code: str
) -> None:
    """The batch goes on around a bad row; its index, code and a reason without values come back."""
    reply = await shop.publish("item_stats", [item("a"), bad, item("c")])
    assert reply.status == 200
    assert reply.body["accepted"] == 2
    (refused,) = reply.body["refused"]
    assert (refused["index"], refused["code"]) == (1, code)
    assert refused["reason"]
    assert [r.entity for r in rows_of(shop, "all")] == ["item:a", "item:c"]


async def test_values_outside_the_declared_ones_are_refused(shop: ShopServer) -> None:
    """`values` in the catalog is a closed list."""
    await shop.give("alice")
    reply = await shop.publish("profile", [user("alice", country="XX")], as_of=1)
    assert [r["code"] for r in reply.body["refused"]] == ["not_allowed"]


async def test_msgpack_bodies_mean_the_same(shop: ShopServer) -> None:
    """MessagePack goes through the same checks; there NaN can be said, and is refused row by row."""
    batch = {"view": "item_stats", "rows": [item("a"), item("b", popularity=float("nan"))]}
    reply = await shop.call(
        "POST",
        "/v1/features",
        data=msgspec.msgpack.encode(batch),
        headers={"Content-Type": "application/msgpack"},
    )
    assert reply.body["accepted"] == 1
    assert [r["code"] for r in reply.body["refused"]] == ["not_finite"]


async def test_the_newest_event_time_wins_whatever_the_order(shop: ShopServer) -> None:
    """Older is refused as older, equal with other values corrects, identical takes no seq."""
    for at, popularity in ((20, 0.2), (10, 0.1), (20, 0.3), (20, 0.3)):
        reply = await shop.publish("item_stats", [item(at=at, popularity=popularity)])
        assert [r["code"] for r in reply.body["refused"]] == (["older"] if at == 10 else [])
    (row,) = rows_of(shop, "all")
    assert (row.event_time_us, codec.unpack(row.values, 99)) == (20_000_000, {"popularity": 0.3})
    assert row.seq == 2


async def test_a_delete_is_a_row_and_an_older_row_does_not_undo_it(shop: ShopServer) -> None:
    """Deletes have a seq of their own and an event time like any row."""
    await shop.publish("item_stats", [item(at=10)])
    await shop.publish("item_stats", [{"entity": "item:85123A", "event_time": 20, "deleted": True}])
    assert (await shop.publish("item_stats", [item(at=15)])).body["refused"][0]["code"] == "older"
    (row,) = rows_of(shop, "all")
    assert (row.deleted, row.values, row.seq) == (True, b"", 2)
    with shop.store.read() as tx:
        assert tx.channel_head("all").digest == 0


async def test_law_1_a_personal_row_needs_a_live_grant(shop: ShopServer) -> None:
    """Without consent nothing is kept; with it the row carries the grant in the subject's own channel."""
    assert (await shop.publish("profile", [user("alice")])).body["code"] == "invalid_request"
    reply = await shop.publish("profile", [user("alice")], as_of=0)
    assert [r["code"] for r in reply.body["refused"]] == ["no_permission"]
    await shop.give("alice")
    assert (await shop.publish("profile", [user("alice")], as_of=1)).body["accepted"] == 1
    channel = seal.personal_channel(shop.pseudonym("alice"), "personalization")
    (row,) = rows_of(shop, channel)
    assert (row.entity, row.grant) == (seal.subject_token(shop.pseudonym("alice")), 1)
    assert rows_of(shop, "all") == []


async def test_law_2_a_row_read_before_the_live_grant_is_stale(shop: ShopServer) -> None:
    """Given, withdrawn, given again: a job that read at the first grant cannot publish under the second."""
    await shop.give("alice")
    await shop.revoke("alice", ["personalization"])
    await shop.give("alice")
    reply = await shop.publish("profile", [user("alice")], as_of=2)
    assert [r["code"] for r in reply.body["refused"]] == ["stale_grant"]
    assert (await shop.publish("profile", [user("alice")], as_of=3)).body["accepted"] == 1
    assert (await shop.publish("profile", [user("alice")], as_of=99)).status == 422


async def test_law_4_a_withdrawal_leaves_no_trace_of_the_values_or_the_name(shop: ShopServer) -> None:
    """No file of the server ever held the subject's id; after a withdrawal no row of it is left."""
    await shop.give("canary-alice")
    await shop.publish("profile", [user("canary-alice", country="FR")], as_of=1)
    channel = seal.personal_channel(shop.pseudonym("canary-alice"), "personalization")
    with shop.store.read() as tx:
        before = tx.channel_head(channel)
    await shop.revoke("canary-alice")
    with shop.store.read() as tx:
        head = tx.channel_head(channel)
        assert tx.channel_rows(channel, 0, 9) == []
    assert (head.digest, head.floor) == (0, head.seq)
    assert head.seq > before.seq
    for path in shop.settings.data_dir.iterdir():
        assert b"canary-alice" not in path.read_bytes(), path.name


async def test_law_6_a_repeat_under_the_same_key_does_nothing_twice(shop: ShopServer) -> None:
    """Same key and body: the same reply; same key, other body: 422; after a day: forgotten."""
    headers = {"Idempotency-Key": "job-7"}
    body = {"view": "item_stats", "rows": [item(), item("b", popularity=9)]}
    first = await shop.call("POST", "/v1/features", body, headers=headers)
    again = await shop.call("POST", "/v1/features", body, headers=headers)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await shop.call("POST", "/v1/features", {**body, "rows": []}, headers=headers)
    assert (other.status, other.body["code"]) == (422, "idempotency_reuse")
    with shop.store.write("sweep") as tx:
        assert tx.drop_replies(shop.clock.now_us() + 1) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"view": "nothing", "rows": []}, 422, "unknown_view"),
        ({"view": "activity", "rows": []}, 422, "unknown_view"),
        ({"view": "item_stats@9", "rows": []}, 422, "unknown_view"),
        ({"view": "item_stats"}, 422, "invalid_request"),
        ({"view": "item_stats", "rows": {}}, 422, "invalid_request"),
        ({"view": "item_stats", "rows": [], "as_of": -1}, 422, "invalid_request"),
        ({"view": "item_stats", "rows": [None] * 20_001}, 413, "too_large"),
        ([], 422, "invalid_request"),
    ],
)
async def test_a_batch_that_is_not_one_is_refused_whole(
    shop: ShopServer, body: object, status: int, code: str
) -> None:
    """Each with a problem code of its own."""
    reply = await shop.call("POST", "/v1/features", body)
    assert (reply.status, reply.body["code"]) == (status, code)
    assert reply.headers["Content-Type"] == "application/problem+json"


async def test_law_11_a_body_over_the_limit_is_not_read(shop: ShopServer) -> None:
    """9 MB against a limit of 8: 413, and the server goes on."""
    reply = await shop.call("POST", "/v1/features", data=BytesIO(b"[" + b" " * 9_000_000 + b"]"))
    assert (reply.status, reply.body["code"]) == (413, "too_large")
    assert (await shop.publish("item_stats", [item()])).body["accepted"] == 1


async def test_naughty_strings_are_ids_like_any_other(shop: ShopServer) -> None:
    """Each of the 515 comes back byte for byte as an item's id; empty and overlong ones are refused."""
    reply = await shop.publish("item_stats", [item(text) for text in NAUGHTY])
    good = [text for text in NAUGHTY if text and len(f"item:{text}".encode()) <= 512]
    assert len(good) > 500
    assert [r["code"] for r in reply.body["refused"]] == ["invalid_id"] * (len(NAUGHTY) - len(good))
    assert {r.entity for r in rows_of(shop, "all")} == {f"item:{text}" for text in good}


async def test_naughty_strings_are_subjects_like_any_other(shop: ShopServer) -> None:
    """Consent, a row, and a withdrawal for some of the worst names."""
    odd = [t for t in NAUGHTY if 0 < len(t.encode()) < 500 and not t.isascii()]
    worst = [*odd[:40], "\x01", "a:b", "user", "~tilde-ann", "%s", "'; --"]
    for name in worst:
        assert (await shop.give(f"user:{name}")).status == 201, name
        row = {"entity": {"user": name}, "event_time": AT, "values": {"country": "UK"}}
        with shop.store.read() as tx:
            head = tx.lane_head()
        assert (await shop.publish("profile", [row], as_of=head)).body["accepted"] == 1
        assert (await shop.revoke(f"user:{name}")).status == 202
        with shop.store.read() as tx:
            assert tx.decision_state(shop.pseudonym(name), "personalization").state == "withdrawn"


async def test_long_batches_are_written_in_chunks(shop: ShopServer) -> None:
    """1,200 rows take three transactions, and every one stands."""
    reply = await shop.publish("item_stats", [item(str(i)) for i in range(1_200)])
    assert reply.body["accepted"] == 1_200
    assert shop.store.transactions()["publish"] == 3
    assert len(rows_of(shop, "all")) == 1_200
