"""A token bound to teams publishes to, reads and weighs the views that one of them owns, and no others."""

from __future__ import annotations

import pytest

from tests.support.api_tokens import make_token
from tests.support.shop_server import Answer, ShopServer

ROW = {"entity": "item:a", "event_time": 1, "values": {"popularity": 0.5}}


async def publish(shop: ShopServer, view: str, token: str, rows: list[object]) -> Answer:
    return await shop.call("POST", "/v1/features", {"view": view, "rows": rows, "as_of": 0}, token=token)


def refused(answer: Answer) -> bool:
    """Whether it was refused for the team; no other refusal is expected."""
    if answer.status == 403:
        assert answer.body["code"] == "other_team"
        return True
    assert answer.status in (200, 404), answer.body
    return False


@pytest.mark.parametrize(
    ("teams", "search", "crm"),
    [(None, True, True), (["search"], True, False), (["crm"], False, True), (["search", "crm"], True, True)],
)
async def test_views_are_for_their_owners_and_for_tokens_without_teams(
    shop: ShopServer, teams: list[str] | None, search: bool, crm: bool
) -> None:
    """`item_stats` belongs to search, `profile` to crm: publishing, reading one row, importance."""
    token = (await make_token(shop, ["publish"], teams=teams)).text
    for view, entity, allowed in (("item_stats", "item:a", search), ("profile", "~x", crm)):
        said = {"view": view, "importance": 0.7}
        for answer in (
            await publish(shop, view, token, []),
            await publish(shop, f"{view}@1", token, []),
            await shop.call("GET", f"/v1/features/{view}/{entity}", token=token),
            await shop.call("PUT", "/v1/hot-set/importance", said, token=token),
        ):
            assert refused(answer) is not allowed


async def test_a_refused_publish_changes_nothing_and_a_kept_reply_is_for_nobody_else(
    shop: ShopServer,
) -> None:
    """Also when somebody guesses the Idempotency-Key and body of a team's publish."""
    search = (await make_token(shop, ["publish"], teams=["search"])).text
    crm = (await make_token(shop, ["publish"], teams=["crm"])).text
    body = {"view": "item_stats", "rows": [ROW]}
    assert (await shop.call("POST", "/v1/features", body, token=crm)).status == 403
    assert (await shop.call("GET", "/v1/features/item_stats/item:a")).status == 404
    key = {"Idempotency-Key": "k"}
    first = await shop.call("POST", "/v1/features", body, headers=key, token=search)
    assert (first.status, first.body["accepted"]) == (200, 1)
    assert (await shop.call("POST", "/v1/features", body, headers=key, token=crm)).status == 403
    again = await shop.call("POST", "/v1/features", body, headers=key, token=search)
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")


async def test_segments_move_the_rows_of_every_team_and_so_belong_to_none(shop: ShopServer) -> None:
    bound = (await make_token(shop, ["publish"], teams=["search"])).text
    free = (await make_token(shop, ["publish"])).text
    grouped = {**ROW, "segments": ["gold"]}
    for token, allowed in ((bound, False), (free, True)):
        assert refused(await publish(shop, "item_stats", token, [ROW, grouped])) is not allowed
        for method, body in (("PUT", {"members": ["item:a"]}), ("POST", {"add": ["item:a"]})):
            assert refused(await shop.call(method, "/v1/segments/gold", body, token=token)) is not allowed
        assert (await shop.call("GET", "/v1/segments/gold", token=token)).status == 200
    assert not refused(await publish(shop, "item_stats", bound, [{**ROW, "event_time": 2}]))


async def test_a_ranking_shows_a_team_the_rows_of_its_views_at_their_ranks(shop: ShopServer) -> None:
    rows: list[object] = [{**ROW, "entity": f"item:{name}"} for name in "abc"]
    await shop.publish("item_stats", rows)
    whole = (await shop.call("GET", "/v1/hot-set?channel=all")).body
    assert [row["rank"] for row in whole["ranking"]] == [1, 2, 3]
    for teams, shown in ((["search"], whole["ranking"]), (["crm"], [])):
        token = (await make_token(shop, ["publish"], teams=teams)).text
        seen = (await shop.call("GET", "/v1/hot-set?channel=all", token=token)).body
        assert (seen["ranking"], seen["rows"]) == (shown, whole["rows"])
