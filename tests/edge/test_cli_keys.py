"""Commands on a cache take its key from wherever it rests, and say what is wrong with how they were asked."""

from __future__ import annotations

import json
import os
import pty
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cli import main
from edge_runtime.keys.providers import KeyProvider
from tests.support.clock import ManualClock
from tests.support.key_places import PASSPHRASE, place
from tests.support.shop import SHOP, shop_catalog


@pytest.fixture
def call(tmp_path: Path) -> list[str]:
    """`doctor` of a cache in `tmp_path`, but for its key."""
    (tmp_path / "catalog.toml").write_text(SHOP)
    return ["doctor", str(tmp_path / "c.db"), "--catalog", str(tmp_path / "catalog.toml"), "--json"]


def made(tmp_path: Path, key: KeyProvider) -> None:
    er.Runtime.open(tmp_path / "c.db", catalog=shop_catalog(), key=key, clock=ManualClock()).close()


def passphrase_in(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def fault(answer: dict[str, object]) -> str:
    """What the doctor finds wrong with the key."""
    checks = answer["checks"]
    assert isinstance(checks, list)
    assert (checks[0]["name"], checks[0]["state"]) == ("key", "fault")
    return str(checks[0]["found"])


def test_a_passphrase_opens_it_from_a_file(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, er.KeyPassphrase(tmp_path / "slot", PASSPHRASE, memory_kib=7_168, iterations=5))
    call += ["--slot", str(tmp_path / "slot")]
    for text in (PASSPHRASE, f"{PASSPHRASE}\n", f"{PASSPHRASE}\r\n"):
        assert main([*call, "--passphrase-file", passphrase_in(tmp_path / "pass", text)]) == 0
        assert said(capsys)["assurance"] == "passphrase"


def test_a_terminal_is_asked_for_the_passphrase_and_does_not_show_it(call: list[str], tmp_path: Path) -> None:
    made(tmp_path, er.KeyPassphrase(tmp_path / "slot", PASSPHRASE, memory_kib=7_168, iterations=5))
    child, terminal = pty.fork()
    if child == 0:
        command = [sys.executable, "-m", "edge_runtime.cli", *call, "--slot", str(tmp_path / "slot")]
        os.execv(sys.executable, command)
    shown = b""
    while not shown.endswith(b"Passphrase: "):
        shown += os.read(terminal, 1)
    os.write(terminal, f"{PASSPHRASE}\n".encode())
    shown += _rest(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert json.loads(shown.decode().splitlines()[-1])["assurance"] == "passphrase"
    assert PASSPHRASE.encode() not in shown


def _rest(terminal: int) -> bytes:
    """What is shown until the other side hangs up."""
    shown = b""
    with os.fdopen(terminal, "rb", buffering=0) as screen, suppress(OSError):
        while part := screen.read(4096):
            shown += part
    return shown


def test_a_wrong_passphrase_none_at_all_and_one_that_others_can_read(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, er.KeyPassphrase(tmp_path / "slot", PASSPHRASE, memory_kib=7_168, iterations=5))
    call += ["--slot", str(tmp_path / "slot")]
    before = (tmp_path / "slot").read_bytes()
    assert main([*call, "--passphrase-file", passphrase_in(tmp_path / "a", "another passphrase")]) == 1
    assert "passphrase" in fault(said(capsys))
    assert main([*call, "--passphrase-file", passphrase_in(tmp_path / "b", "\n")]) == 2
    assert said(capsys)["error"] == "MalformedRequest"
    assert main([*call, "--passphrase-file", passphrase_in(tmp_path / "c", PASSPHRASE, 0o644)]) == 2
    assert "expected mode 0600" in str(said(capsys)["message"])
    assert main([*call, "--passphrase-file", str(tmp_path / "none")]) == 2
    assert said(capsys)["error"] == "FileNotFoundError"
    assert main(call) == 2
    assert "no terminal to ask on" in str(said(capsys)["message"])
    assert (tmp_path / "slot").read_bytes() == before


@pytest.mark.filterwarnings("ignore:PBKDF2 without:DeprecationWarning")  # keyrings.alt's, not ours
def test_a_keychain_opens_it(call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with place("encrypted_keyring", tmp_path) as keychain:
        made(tmp_path, keychain.open("shop"))
        assert main([*call, "--keyring", "shop"]) == 0
        assert said(capsys)["assurance"] == "file"
        assert main([*call, "--keyring", "shop", "--account", "other"]) == 1
        assert fault(said(capsys)) == "not there"


@pytest.mark.parametrize(
    "key",
    [
        [],
        ["--key-file", "k", "--keyring", "s"],
        ["--key-file", "k", "--slot", "s"],
        ["--passphrase-file", "p"],
    ],
)
def test_exactly_one_place_is_named(
    call: list[str], key: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main([*call, *key])
    assert refused.value.code == 2
    assert "--key-file" in capsys.readouterr().err


@pytest.mark.parametrize("extra", [["--passphrase-file", "p"], ["--account", "a"]])
def test_an_option_of_another_place_is_refused(
    call: list[str], tmp_path: Path, extra: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, er.KeyFile(tmp_path / "key"))
    assert main([*call, "--key-file", str(tmp_path / "key"), *extra]) == 2
    assert f"{extra[0]}: expected" in str(said(capsys)["message"])
