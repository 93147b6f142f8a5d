"""API tokens of a server under test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from edge_runtime.wire.printing import prints_only
from tests.support.shop_server import ShopServer


@prints_only("id")
class Made(NamedTuple):
    """A token just made."""

    id: str
    text: str


async def make_token(shop: ShopServer, scopes: Iterable[str], *, token: str = "", **more: object) -> Made:
    """Make a token for `scopes`, with the bootstrap token unless another is named."""
    body = {"name": "of a test", "scopes": list(scopes), **more}
    answer = await shop.call("POST", "/v1/tokens", body, token=token)
    assert answer.status == 201, answer.body
    return Made(answer.body["id"], answer.body["token"])
