"""`edge-sync` as typed into a shell, beside the loop in which a `ShopServer` runs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sync_server.cli import main
from tests.support.shop_server import ShopServer


class Shell:
    """Runs commands against `shop`, with `options` (name -> value) that the words do not name themselves."""

    def __init__(
        self, shop: ShopServer, capsys: pytest.CaptureFixture[str], *, prefix: tuple[str, ...] = ()
    ) -> None:
        self._shop, self._capsys, self._prefix = shop, capsys, prefix
        self.options = {"--data": str(shop.settings.data_dir)}

    async def text(self, *words: str, code: int = 0) -> str:
        """What is printed: on standard error where the command was refused."""
        url = str(self._shop.client.make_url("")).rstrip("/")
        missing = [w for name, value in self.options.items() if name not in words for w in (name, value)]
        command = [*self._prefix, *words, "--url", url, *missing]
        found = await asyncio.to_thread(main, command)
        out, err = self._capsys.readouterr()
        assert found == code, err
        return out or err

    async def json(self, *words: str, code: int = 0) -> Any:
        """The one document that is printed with `--json`."""
        return json.loads(await self.text(*words, "--json", code=code))
