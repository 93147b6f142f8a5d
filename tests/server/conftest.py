from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import ManualClock
from tests.support.issuer import Issuer, make_keys
from tests.support.shop_server import ShopServer


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[ShopServer]:
    async with ShopServer(tmp_path / "data", ManualClock()) as server:
        yield server


@pytest.fixture(scope="session")
def issuer_keys() -> dict[str, Any]:
    """Made once: an RSA key takes a while."""
    return make_keys()


@pytest.fixture
async def issuer(issuer_keys: dict[str, Any]) -> AsyncIterator[Issuer]:
    async with Issuer(issuer_keys) as made:
        yield made
