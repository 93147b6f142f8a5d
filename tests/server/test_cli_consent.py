"""`edge-sync consent give|state|revoke|status` at a real server: for scripts and for a privacy officer."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from sync_server.cli import main
from sync_server.cli.told import NOT_THERE, NOT_YET, REFUSED, USAGE
from sync_server.client import Patience
from sync_server.consent import documents, statement
from sync_server.settings import DAY_US
from tests.support.served import free_port
from tests.support.shell import Shell
from tests.support.shop_server import FakeDevice, ShopServer

P = "personalization"


@pytest.fixture
def shell(shop: ShopServer, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(shop, capsys, prefix=("consent",))


async def test_scripts_get_the_documents_of_the_api(shell: Shell, shop: ShopServer) -> None:
    """One JSON document each, all pages in it, and exit codes for refused, usage and not yet."""
    given = await shell.json("give", "alice", P, "--notice", "2026-11")
    msgspec.convert(given, documents.ConsentRecorded)
    await shell.json("give", "alice", "measurement", "--notice", "2026-11", "--state", "refused")
    found = await shell.json("state", "alice")
    assert [s["state"] for s in found["history"]] == ["given", "refused"]
    assert (await shell.json("state", "alice", P))["states"][P]["grant"] == 1
    made = await shell.json("revoke", "alice", "--key", "ticket-1", "--initiator", "controller")
    again = await shell.json("revoke", "alice", "--key", "ticket-1", "--initiator", "controller")
    assert made == again
    assert statement.verify(made["receipt"], shop.authority.public_key).id == made["id"]
    assert (await shell.json("status", made["id"]))["state"] == "completed"
    assert (await shell.json("status", made["id"], "targets"))["targets"] == []
    proof = json.loads(await shell.text("status", made["id"], "receipt"))
    assert statement.verify(proof, shop.authority.public_key).kind == "revocation_completed"
    assert (await shell.json("revoke", "alice", "spying", code=REFUSED))["code"] == "unknown_purpose"
    assert (await shell.json("give", "alice", "spying", "--notice", "n", code=REFUSED))["status"] == 422
    assert "duration" in await shell.text("revoke", "a", "--wait", "enforced", "--timeout", "x", code=USAGE)


async def test_waiting_ends_with_an_exit_code(shell: Shell, shop: ShopServer) -> None:
    """4 while it has not come so far, and when somebody is overdue; 0 when it has."""
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease()
    late = await shell.json("revoke", "alice", P, "--wait", "enforced", "--timeout", "0s", code=NOT_YET)
    assert (late["state"], late["status"]["state"]) == ("accepted", "propagating")
    shop.clock.advance(us=2 * DAY_US)
    done = await shell.json("revoke", "alice", P, "--wait", "enforced")
    assert done["status"]["state"] == "completed", "its lease had ended before"
    device.lease()
    await shell.json("revoke", "bob", P, "--wait", "completed", "--timeout", "0s", code=NOT_YET)
    shop.clock.advance(us=60 * DAY_US)
    text = await shell.text("status", late["id"])
    assert "PARTIALLY COMPLETED" in text
    assert device.device_id in text
    assert "devices revoke" in text


async def test_people_read_what_it_means_and_what_to_do(shell: Shell, shop: ShopServer) -> None:
    """Times in UTC, counts, names, the next step; and the subject is not repeated."""
    shop.clock.set_wall(1_780_000_000_000_000)
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease()
    text = await shell.text("give", "alice", P, "--notice", "2026-11")
    assert "given for personalization, notice 2026-11" in text
    assert "2026-05-28 20:26:40 UTC" in text
    made = await shop.revoke("alice", [P])
    revocation = made.body["id"]
    late = await shop.give("alice", base=1)
    assert late.body["outcome"] == "superseded"
    text = await shell.text("state", "alice")
    assert "withdrawn: not to be used" in text
    assert "superseded: it does not hold" in text
    assert "nothing was ever said" in await shell.text("state", "bob")
    text = await shell.text("status", revocation)
    assert "PROPAGATING: 1 of 1 devices may still use the data" in text
    assert f"consent status {revocation} targets" in text
    device.acknowledge()
    text = await shell.text("status", revocation)
    assert "ENFORCED: no device can use the data any more; 1 still owe" in text
    device.answer(made.body, shop.pseudonym("alice"), kind="held_none", canary=None)
    text = await shell.text("status", revocation)
    assert "COMPLETED" in text
    assert "1 answered (1 held none)" in text
    assert f"{revocation} receipt > receipt.json" in text
    text = await shell.text("status", revocation, "targets")
    assert f"{device.device_id} " in text
    assert "held_none 2026-05-28" in text
    text = await shell.text("revoke", "alice")
    assert "in force since 2026-05-28 20:26:40 UTC" in text
    assert "alice" not in text


@pytest.mark.parametrize("words", [("consent", "revoke", "a", "--key=--"), ("audit", "--since=--")])
def test_two_dashes_are_no_value(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """argparse would hand on an empty list."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == USAGE
    assert "expected a value" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("serve", "--port", "99999"), "expected a port"),
        (("serve", "--port", "0", "--public-url", "nonsense"), "expected --public-url"),
        (("serve", "--port", "0", "--callback-origin", "crm.example"), "expected --callback-origin"),
        (("restore", "backup", "--journal", "typo"), "expected a journal's folder at typo"),
    ],
)
def test_a_wrong_option_changes_nothing(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named before anything is made."""
    assert main([*words, "--data", str(tmp_path / "data")]) == USAGE
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_data_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "data"
    file.write_text("kept")
    assert main(["serve", "--port", "0", "--data", str(file)]) == USAGE
    assert "expected a directory" in capsys.readouterr().err
    assert file.read_text() == "kept"


def test_no_server_is_another_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the patience that somebody at a terminal has is over."""
    monkeypatch.setattr("sync_server.cli.command.PATIENCE", Patience(total_s=0))
    (tmp_path / "api.token").write_text("t")
    url = f"http://127.0.0.1:{free_port()}"
    assert main(["consent", "status", "rev-1", "--data", str(tmp_path), "--url", url]) == NOT_THERE
