"""An image of the memory of a process, taken after an erasure: the destroyed key is nowhere in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.memory_image import hits, readable
from tests.support.remnants import reach

APP = """
import gc, shutil, sys
import edge_runtime as er
from tests.support.shop import shop_catalog
folder = sys.argv[1]
rt = er.Runtime.open(folder + "/cache.db", catalog=shop_catalog(), key=er.KeyFile(folder + "/device.key"))
for user in ("alice", "bob"):
    rt.consent.give(user, ["personalization"], notice="n")
    for n in range(20):
        rt.track("view", user=user, item=f"i{n}", price=1.0)
    assert rt.read("activity:views", user=user).value == 20
rt.flush()
for name in ("device.key", "cache.db-keys"):
    shutil.copy(f"{folder}/{name}", f"{folder}/copy-{name}")
print("held", flush=True)
sys.stdin.readline()
rt.consent.withdraw("alice")
gc.collect()
print("erased", flush=True)
sys.stdin.readline()
rt.close()
print("closed", flush=True)
sys.stdin.readline()
"""


def test_law_4_a_destroyed_key_is_not_in_the_memory_of_its_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", APP, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as app:
        assert app.stdin is not None
        assert app.stdout is not None

        def go_on() -> str:
            assert app.stdin is not None
            assert app.stdout is not None
            app.stdin.write("\n")
            app.stdin.flush()
            return app.stdout.readline().strip()

        assert app.stdout.readline().strip() == "held"
        if not readable(app.pid):
            app.kill()
            pytest.skip("this machine does not let a process look into its own children's memory")
        secrets = reach(tmp_path / "copy-device.key", tmp_path / "copy-cache.db-keys").secrets
        alice = [secret for name, secret in secrets.items() if name.startswith("user:alice/")]
        bob = [secret for name, secret in secrets.items() if name.startswith("user:bob/")]
        assert [hits(app.pid, secret) > 0 for secret in (*alice, *bob)] == [True] * len((*alice, *bob))
        assert go_on() == "erased"
        assert [hits(app.pid, secret) for secret in alice] == [0] * len(alice)
        assert [hits(app.pid, secret) > 0 for secret in bob] == [True] * len(bob)
        assert go_on() == "closed"
        assert [hits(app.pid, secret) for secret in (*alice, *bob)] == [0] * len((*alice, *bob))
        app.stdin.write("\n")
