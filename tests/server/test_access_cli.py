"""`edge-sync tokens` and `edge-sync audit`, and every other command with a narrow token."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sync_server.cli import main
from sync_server.cli.told import NOT_THERE, REFUSED, USAGE
from tests.support.shell import Shell
from tests.support.shop_server import ShopServer


@pytest.fixture
def shell(shop: ShopServer, capsys: pytest.CaptureFixture[str]) -> Shell:
    """From another machine: without the data directory, with the token of the first start."""
    made = Shell(shop, capsys)
    made.options = {"--data": "/nowhere", "--token-file": str(shop.settings.token_file)}
    return made


async def test_a_token_from_the_command_line(shell: Shell, tmp_path: Path) -> None:
    """Made into a file that only its owner reads, used, rotated, listed, revoked."""
    first, second = tmp_path / "first", tmp_path / "second"
    words = ("--scope", "publish", "--scope", "operator", "--team", "search", "--ttl", "90d", "--per-s", "9")
    made = await shell.json("tokens", "create", "nightly job", *words, "--out", str(first))
    assert (made["token"], made["file"]) == (None, str(first))
    assert first.stat().st_mode & 0o777 == 0o600
    told = (await shell.json("tokens", "list"))["tokens"]
    assert [(t["name"], t["scopes"], t["teams"], t["per_s"], t["burst"]) for t in told] == [
        ("nightly job", ["publish", "operator"], ["search"], 9, None)
    ]
    assert told[0]["expires_at"] - told[0]["created_at"] == 90 * 86_400_000_000
    assert (await shell.json("tokens", "list", "--after", made["id"]))["tokens"] == []
    rotated = await shell.json("tokens", "rotate", made["id"], "--grace", "0s", "--out", str(second))
    assert rotated["earlier_until"] == told[0]["created_at"]
    assert (await shell.json("tokens", "list", "--token-file", str(first), code=REFUSED))[
        "code"
    ] == "unauthorized"
    assert len((await shell.json("tokens", "list", "--token-file", str(second)))["tokens"]) == 1
    assert (await shell.json("tokens", "revoke", made["id"]))["revoked_at"] is not None
    assert (await shell.json("tokens", "list", "--token-file", str(second), code=REFUSED))[
        "code"
    ] == "unauthorized"
    assert (await shell.json("tokens", "revoke", "tok-none", code=REFUSED))["code"] == "not_found"
    existing = await shell.json(
        "tokens", "create", "x", "--scope", "publish", "--out", str(first), code=USAGE
    )
    assert "expected a new file" in existing["error"]
    wrong = await shell.json("tokens", "create", "x", "--scope", "publish", "--ttl", "soon", code=USAGE)
    assert "duration" in wrong["error"]


async def test_a_token_is_not_made_anew_for_a_file_that_is_there(shell: Shell, tmp_path: Path) -> None:
    """The file is made before the server is asked: no secret is lost, and a refusal leaves no file."""
    file = tmp_path / "job"
    made = await shell.json("tokens", "create", "job", "--scope", "publish", "--out", str(file))
    before = file.read_text()
    await shell.json("tokens", "rotate", made["id"], "--out", str(file), code=USAGE)
    assert file.read_text() == before
    assert (await shell.json("tokens", "list"))["tokens"][0]["secrets"] == 1
    await shell.json("tokens", "rotate", "tok-none", "--out", str(tmp_path / "other"), code=REFUSED)
    await shell.json(
        "tokens", "create", "x", "--scope", "publish", "--out", str(tmp_path / "no" / "x"), code=NOT_THERE
    )
    assert [found.name for found in tmp_path.glob("[jo]*")] == ["job"]


async def test_people_read_tokens_and_the_audit_log_line_by_line(shell: Shell) -> None:
    """Who may what and until when; who did what; and no name can move the terminal's cursor."""
    made = await shell.json("tokens", "create", "night\x1b[2Jly", "--scope", "publish", "--team", "search")
    text = await shell.text("tokens", "list")
    assert f"{made['id']}  night\\x1b[2Jly\n  may     publish (team search)\n" in text
    assert "until revoked; never used" in text
    await shell.json("tokens", "revoke", made["id"])
    text = await shell.text("audit")
    assert "DELETE /v1/tokens/{id}\n" in text
    assert f"changed 200, by bootstrap, about {made['id']}\n" in text
    assert max(map(len, text.splitlines())) <= 80


async def test_a_receivers_token_from_the_command_line(shell: Shell, tmp_path: Path) -> None:
    """It polls its stream and does not revoke; people see to whom it is bound."""
    stream = (await shell.json("events", "streams", "--add"))["stream_id"]
    out = tmp_path / "crm"
    made = ("tokens", "create", "crm", "--scope", "consent", "--destination", stream, "--out", str(out))
    await shell.json(*made)
    assert f"consent (for the receiver of {stream} alone)" in await shell.text("tokens", "list")
    shell.options["--token-file"] = str(out)
    assert (await shell.json("events", "poll", stream))["sets"] == {}
    refused = await shell.json("consent", "revoke", "alice", code=REFUSED)
    assert refused["code"] == "other_destination"


async def test_every_command_works_with_a_narrow_token_and_nothing_else_of_the_server(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file, or from the environment; the scope that is missing is named."""
    narrow = tmp_path / "narrow"
    await shell.json("tokens", "create", "desk", "--scope", "consent", "--out", str(narrow))
    shell.options["--token-file"] = str(narrow)
    given = await shell.json("consent", "give", "alice", "personalization", "--notice", "2026-11")
    assert given["purpose"] == "personalization"
    refused = await shell.json("devices", "list", code=REFUSED)
    assert (refused["code"], refused["scope"]) == ("missing_scope", "device-admin")
    del shell.options["--token-file"]
    monkeypatch.setenv("EDGE_SYNC_TOKEN", narrow.read_text().strip())
    assert (await shell.json("devices", "list", code=REFUSED))["code"] == "missing_scope"
    monkeypatch.delenv("EDGE_SYNC_TOKEN")
    assert "api.token" in (await shell.json("devices", "list", code=3))["error"]
    (tmp_path / "empty").write_text("\n")
    wrong = await shell.json("devices", "list", "--token-file", str(tmp_path / "empty"), code=USAGE)
    assert "expected an API token" in wrong["error"]


async def test_the_audit_log_is_read_and_verified_from_the_command_line(
    shell: Shell, shop: ShopServer
) -> None:
    """`--verify` tells the chain's end; given to it later, an edit before or after, or a cut, is noticed."""
    for subject in "abc":
        await shop.give(subject)
    page = await shell.json("audit", "--after", "0")
    assert [line["route"] for line in page["entries"]] == ["/v1/consents"] * 3
    newest = await shell.json("audit", "--before", "3")
    assert [line["seq"] for line in newest["entries"]] == [2, 1]
    end = (await shell.json("audit", "--verify"))["end"]
    await shop.give("d")
    later = (await shell.json("audit", "--verify", "--since", end))["end"]
    assert int(later.partition(":")[0]) > int(end.partition(":")[0])
    assert (await shell.json("audit", "--verify", "--since", "7", code=USAGE))["error"].startswith(
        "expected SEQ"
    )

    db = sqlite3.connect(shop.settings.database)
    db.execute("DROP TRIGGER audit_stands")
    db.execute("UPDATE audit SET actor = 'token:other' WHERE seq = 2")
    db.commit()
    assert "row 2 " in (await shell.json("audit", "--verify", code=REFUSED))["error"]
    db.execute("UPDATE audit SET actor = 'bootstrap' WHERE seq = 2")
    seq = end.partition(":")[0]
    db.execute("DROP TRIGGER audit_ends_at_its_front")
    db.execute("DELETE FROM audit WHERE seq >= 3")
    db.commit()
    db.close()
    broken = await shell.json("audit", "--verify", "--since", end, code=REFUSED)
    assert f"row {seq} is gone, or not as it was" in broken["error"]


def test_a_server_with_a_wrong_issuer_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would refuse people, or let the wrong ones in; the place is said."""
    file = tmp_path / "oidc.toml"
    file.write_text('issuer = "x"\naudience = "y"\njwks = "http://elsewhere/keys"\n[grants]\n')
    words = ["serve", "--data", str(tmp_path / "data"), "--port", "0", "--oidc", str(file), "--json"]
    assert main(words) == USAGE
    assert "oidc.toml: expected an https URL in jwks" in capsys.readouterr().err
    file.unlink()
    assert main(words) == NOT_THERE
