"""Segments: members come and go one by one; their rows stand in the segment's channel instead of `all`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sync_server.api.rooms import BUSY
from sync_server.store.channels import ChannelReads
from tests.support.clock import ManualClock
from tests.support.shop_server import Answer, ShopServer

AT = "2023-11-01T00:00:00Z"
BLNS = Path(__file__).resolve().parents[1] / "data" / "naughty_strings" / "blns.json"


def item(name: str, at: object = AT, **more: object) -> dict[str, object]:
    return {"entity": f"item:{name}", "event_time": at, "values": {"popularity": 0.5}, **more}


def live(shop: ShopServer, channel: str) -> list[str]:
    with shop.store.read() as tx:
        return sorted(r.entity for r in tx.channel_rows(channel, 0, 99_999) if not r.deleted)


def goners(shop: ShopServer, channel: str) -> list[str]:
    with shop.store.read() as tx:
        return sorted(r.entity for r in tx.channel_rows(channel, 0, 99_999) if r.deleted)


async def put(shop: ShopServer, name: str, *members: object) -> Answer:
    return await shop.call("PUT", f"/v1/segments/{name}", {"members": list(members)})


async def regroup(shop: ShopServer, name: str, **lists: object) -> Answer:
    return await shop.call("POST", f"/v1/segments/{name}", lists)


async def test_rows_of_members_stand_in_their_segments_channel_instead_of_all(shop: ShopServer) -> None:
    """Rows that are there move; rows published later go there at once; who leaves comes back to `all`."""
    await shop.publish("item_stats", [item("a"), item("b")])
    reply = await put(shop, "gold", "item:a", "item:c")
    assert reply.body == {"segment": "gold", "count": 2, "added": 2, "removed": 0, "refused": []}
    await shop.publish("item_stats", [item("c")])
    assert (live(shop, "all"), goners(shop, "all")) == (["item:b"], ["item:a"])
    assert live(shop, "segment:gold") == ["item:a", "item:c"]
    reply = await put(shop, "gold", "item:c")
    assert (reply.body["added"], reply.body["removed"]) == (0, 1)
    assert (live(shop, "all"), live(shop, "segment:gold")) == (["item:a", "item:b"], ["item:c"])
    assert goners(shop, "segment:gold") == ["item:a"]


async def test_an_entity_in_several_segments_stands_in_each(shop: ShopServer) -> None:
    """A change reaches both channels, and neither is `all`."""
    await shop.publish("item_stats", [item("a", 10)])
    await regroup(shop, "gold", add=["item:a"])
    await regroup(shop, "silver", add=["item:a"])
    await shop.publish("item_stats", [item("a", 20)])
    for channel in ("segment:gold", "segment:silver"):
        with shop.store.read() as tx:
            assert [r.event_time_us for r in tx.channel_rows(channel, 0, 9)] == [20_000_000]
    assert live(shop, "all") == []
    await regroup(shop, "gold", remove=["item:a"])
    assert (live(shop, "segment:gold"), live(shop, "segment:silver")) == ([], ["item:a"])


async def test_every_view_of_an_entity_moves(shop: ShopServer) -> None:
    """Membership is of the entity, not of one row."""
    vector = {"entity": "item:a", "event_time": AT, "values": {"embedding": [0.0] * 16}}
    await shop.publish("item_stats", [item("a")])
    await shop.publish("item_vec", [vector])
    await put(shop, "gold", "item:a")
    assert live(shop, "segment:gold") == ["item:a", "item:a"]
    assert live(shop, "all") == []


async def test_a_deleted_row_comes_back_where_its_entity_belongs_by_then(shop: ShopServer) -> None:
    """Its delete stays where it stood; the new row enters the segment."""
    await shop.publish("item_stats", [item("a", 10)])
    await shop.publish("item_stats", [{"entity": "item:a", "event_time": 20, "deleted": True}])
    await put(shop, "gold", "item:a")
    assert (live(shop, "segment:gold"), goners(shop, "segment:gold")) == ([], [])
    await shop.publish("item_stats", [item("a", 30)])
    assert (live(shop, "segment:gold"), live(shop, "all"), goners(shop, "all")) == (
        ["item:a"],
        [],
        ["item:a"],
    )


BAD = [
    (7, "wrong_type"),
    (None, "wrong_type"),
    ({"item": "a"}, "wrong_type"),
    ("", "invalid_id"),
    ("item:", "invalid_id"),
    ("item", "invalid_id"),
    ("shop:a", "invalid_id"),
    ("item:" + "x" * 600, "invalid_id"),
    ("user:alice", "personal"),
    ("item:a|user:alice", "personal"),
    ("~AAAAAAAAAAAAAAAAAAAAAA", "invalid_id"),
]


@pytest.mark.parametrize(("bad", "code"), BAD, ids=range(len(BAD)))
async def test_law_12_a_bad_id_is_named_and_the_others_belong(
    shop: ShopServer, bad: object, code: str
) -> None:
    """Each id of each list stands or is refused by itself."""
    for reply, name in (
        (await put(shop, "gold", "item:a", bad, "item:b"), "members"),
        (await regroup(shop, "silver", add=["item:a", bad, "item:b"]), "add"),
    ):
        assert (reply.status, reply.body["count"]) == (200, 2)
        (refused,) = reply.body["refused"]
        assert (refused["list"], refused["index"], refused["code"]) == (name, 1, code)
        assert "alice" not in json.dumps(reply.body)


async def test_law_4_no_file_ever_holds_a_subject_that_was_named_as_a_member(shop: ShopServer) -> None:
    """Refused at the door, in a set and in a removal."""
    await put(shop, "gold", "user:canary-alice", "item:b|user:canary-alice")
    await regroup(shop, "gold", add=["user:canary-alice"], remove=["user:canary-alice"])
    for path in shop.settings.data_dir.iterdir():
        assert b"canary-alice" not in path.read_bytes(), path.name


@pytest.mark.parametrize("name", ["..", "-a", "a b", "x" * 65, "gold/silver", "%00", "é", "all*"])
async def test_a_name_that_is_none_is_refused(shop: ShopServer, name: str) -> None:
    """Names go into channel names and patterns: letters, digits, dot, dash, underline."""
    for method, body in (("PUT", {"members": []}), ("POST", {}), ("GET", None)):
        reply = await shop.call(method, f"/v1/segments/{name.replace('%', '%25')}", body)
        assert reply.status in (404, 422), name
    with shop.store.read() as tx:
        assert tx.count_segments() == 0


@pytest.mark.parametrize(
    ("method", "body"),
    [("PUT", {}), ("PUT", {"members": {}}), ("PUT", {"members": [], "more": 1}), ("POST", {"add": "item:a"})],
)
async def test_a_body_that_is_none_is_refused_whole(shop: ShopServer, method: str, body: object) -> None:
    """With the place, and nothing changed."""
    reply = await shop.call(method, "/v1/segments/gold", body)
    assert (reply.status, reply.body["code"]) == (422, "invalid_request")


async def test_law_11_members_segments_and_bodies_are_bounded(tmp_path: Path) -> None:
    """Each limit has a code; what fits stands."""
    limits = {"segment_members": 3, "entity_segments": 2, "segments": 3}
    async with ShopServer(tmp_path / "data", ManualClock(), **limits) as shop:
        assert (await put(shop, "a", *(f"item:{n}" for n in range(4)))).status == 413
        assert (await put(shop, "a", *(f"item:{n}" for n in range(3)))).body["count"] == 3
        reply = await regroup(shop, "a", add=["item:9"])
        assert [r["code"] for r in reply.body["refused"]] == ["segment_full"]
        assert (await regroup(shop, "a", add=["item:9"], remove=["item:0"])).body["count"] == 3
        for name in "bc":
            await regroup(shop, name, add=["item:1"])
        with shop.store.read() as tx:
            assert tx.segments_of("item:1") == ["a", "b"]
        assert (await regroup(shop, "c", add=["item:5"])).body["count"] == 1
        reply = await regroup(shop, "d", add=["item:6"])
        assert [r["code"] for r in reply.body["refused"]] == ["too_many_segments"]
        assert (await put(shop, "c")).body["count"] == 0
        assert (await regroup(shop, "d", add=["item:6"])).body["count"] == 1


async def test_members_are_shown_a_page_at_a_time(tmp_path: Path) -> None:
    """`next` is the `after` of the next page."""
    async with ShopServer(tmp_path / "data", ManualClock(), page_rows=2) as shop:
        await put(shop, "gold", *(f"item:{n}" for n in range(5)))
        seen: list[str] = []
        page: dict[str, Any] = {"next": ""}
        while page["next"] is not None:
            page = (await shop.call("GET", f"/v1/segments/gold?after={page['next']}")).body
            assert page["count"] == 5
            seen += page["members"]
        assert seen == [f"item:{n}" for n in range(5)]
        assert (await shop.call("GET", "/v1/segments/none")).body["members"] == []
        listed = (await shop.call("GET", "/v1/segments")).body
        assert listed == {"segments": [{"segment": "gold", "count": 5}], "next": None}


async def test_a_large_change_is_written_in_chunks_each_of_them_whole(tmp_path: Path) -> None:
    """Ten rows a transaction: after any of them each row stands in the one channel that its entity says."""
    async with ShopServer(tmp_path / "data", ManualClock(), write_chunk_rows=10) as shop:
        await shop.publish("item_stats", [item(str(n)) for n in range(35)])
        seen: list[int] = []

        def look(_: object) -> None:
            with shop.store.read() as tx:
                members = set(tx.segment_members("gold", "", 99))
                for n in range(35):
                    wanted = ["segment:gold"] if f"item:{n}" in members else ["all"]
                    assert tx.channels_of(f"item:{n}", "item_stats", 1) == wanted
            seen.append(len(members))

        shop.store.listen(look)
        await put(shop, "gold", *(f"item:{n}" for n in range(35)))
        assert len(seen) >= 7
        assert seen[-1] == 35


async def test_a_change_cut_off_in_the_middle_is_finished_by_a_repeat(tmp_path: Path) -> None:
    """A disk that fails after two chunks: what stands is whole, and the same request brings the rest."""
    async with ShopServer(tmp_path / "data", ManualClock(), write_chunk_rows=10) as shop:
        await shop.publish("item_stats", [item(str(n)) for n in range(30)])
        members = [f"item:{n}" for n in range(30)]
        taken = iter(range(2))
        real = ChannelReads.execute

        def failing(tx: Any, sql: str, values: Any = ()) -> Any:
            if sql.startswith("INSERT OR IGNORE INTO segment_members") and values[0] == "item:17":
                next(taken)
                raise MemoryError
            return real(tx, sql, values)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ChannelReads, "execute", failing)
            assert (await put(shop, "gold", *members)).status == 500
        some = live(shop, "segment:gold")
        assert 0 < len(some) < 30
        assert len(live(shop, "all")) == 30 - len(some)
        reply = await put(shop, "gold", *members)
        assert reply.body == {
            "segment": "gold",
            "count": 30,
            "added": 30 - len(some),
            "removed": 0,
            "refused": [],
        }
        assert live(shop, "all") == []


async def test_one_change_of_a_segment_at_a_time(shop: ShopServer) -> None:
    """A second one is told to come back; it would leave a mixture of both."""
    shop.app[BUSY].add(("segments", "gold"))
    reply = await put(shop, "gold", "item:a")
    assert (reply.status, reply.body["code"]) == (409, "segment_in_flight")
    assert (await put(shop, "silver", "item:a")).status == 200
    shop.app[BUSY].discard(("segments", "gold"))
    assert (await put(shop, "gold", "item:a")).status == 200


async def test_a_published_row_may_say_where_its_entity_belongs(shop: ShopServer) -> None:
    """`segments` replaces them for all rows of the entity; left out they stay; a refused row changes none."""
    vector = {"entity": "item:a", "event_time": AT, "values": {"embedding": [0.0] * 16}}
    await shop.publish("item_vec", [vector])
    await shop.publish("item_stats", [item("a", 10, segments=["gold", "silver"])])
    assert live(shop, "segment:gold") == live(shop, "segment:silver") == ["item:a", "item:a"]
    await shop.publish("item_stats", [item("a", 20), item("a", 20, segments=None)])
    assert live(shop, "segment:gold") == ["item:a", "item:a"]
    reply = await shop.publish("item_stats", [item("a", 15, segments=[])])
    assert [r["code"] for r in reply.body["refused"]] == ["older"]
    assert live(shop, "segment:gold") == ["item:a", "item:a"]
    await shop.publish("item_stats", [item("a", 20, segments=[])])  # the same row otherwise
    assert (live(shop, "segment:gold"), live(shop, "all")) == ([], ["item:a", "item:a"])


@pytest.mark.parametrize(
    ("segments", "code"),
    [
        ("gold", "wrong_type"),
        ({"gold": 1}, "wrong_type"),
        (["a b"], "invalid_segment"),
        ([7], "invalid_segment"),
        ([f"s{n}" for n in range(17)], "too_many_segments"),
    ],
)
async def test_law_12_segments_of_a_row_that_are_none_refuse_the_row(
    shop: ShopServer, segments: object, code: str
) -> None:
    """By its code, and the others stand."""
    reply = await shop.publish("item_stats", [item("a", segments=segments), item("b", segments=["gold"])])
    assert [(r["index"], r["code"]) for r in reply.body["refused"]] == [(0, code)]
    assert (live(shop, "all"), live(shop, "segment:gold")) == ([], ["item:b"])


async def test_law_1_a_personal_row_goes_to_no_segment(shop: ShopServer) -> None:
    """A segment's channel is followed by anybody whom a pattern lets."""
    await shop.give("alice")
    row = {"entity": "user:alice", "event_time": AT, "values": {"country": "UK"}, "segments": ["gold"]}
    reply = await shop.publish("profile", [row], as_of=1)
    assert [r["code"] for r in reply.body["refused"]] == ["personal"]
    assert live(shop, "segment:gold") == []


async def test_naughty_strings_are_members_like_any_other(shop: ShopServer) -> None:
    """As ids of items; and none of them is a segment's name that should not be."""
    naughty: list[str] = json.loads(BLNS.read_text())
    good = {text for text in naughty if text and len(f"item:{text}".encode()) <= 512}
    good = {t for t in good if "|user:" not in t}
    reply = await put(shop, "gold", *(f"item:{text}" for text in naughty))
    assert reply.body["count"] == len(good)
    with shop.store.read() as tx:
        assert set(tx.segment_members("gold", "", 9_999)) == {f"item:{text}" for text in good}
