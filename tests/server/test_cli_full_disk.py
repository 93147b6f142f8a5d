"""Commands that write files, where no file may grow any more: they say so, and leave what was there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sync_server.cli import main
from sync_server.cli.told import NOT_THERE, REFUSED
from tests.support.shop_server import ShopServer

ROOT = Path(__file__).resolve().parents[2]
_FULL = """
import contextlib, io, json, resource, sys
from sync_server.cli import main
data, folder = sys.argv[1:]
said, before = io.StringIO(), resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
with contextlib.redirect_stderr(said):
    codes = [
        main(["backup", folder + "/backup", "--data", data]),
        main(["registry", "keygen", "--key", folder + "/other.key"]),
        main(["registry", "sign", folder + "/catalog.toml", "--key", folder + "/privacy.key"]),
    ]
resource.setrlimit(resource.RLIMIT_FSIZE, before)
print(json.dumps([codes, said.getvalue()]))
"""


async def test_law_12_on_a_full_disk_nothing_is_half_written(shop: ShopServer, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_bytes((ROOT / "examples" / "catalogs" / "shop.toml").read_bytes())
    before = catalog.read_bytes()
    assert main(["registry", "keygen", "--key", str(tmp_path / "privacy.key"), "--json"]) == 0
    run = subprocess.run(
        [sys.executable, "-c", _FULL, str(shop.settings.data_dir), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    codes, said = json.loads(run.stdout)
    assert codes == [REFUSED, NOT_THERE, NOT_THERE]
    assert "nothing was kept" in said
    assert catalog.read_bytes() == before
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name in left if not name.startswith("data/")} == {"catalog.toml", "privacy.key"}
