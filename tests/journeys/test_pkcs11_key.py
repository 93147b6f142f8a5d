"""The example of a key on a token runs as its docstring says, against a real PKCS#11 library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pkcs11
import pytest

import edge_runtime as er
from examples.pkcs11_key import TokenKey
from tests.support import softhsm

ROOT = Path(__file__).resolve().parents[2]
needs_token = pytest.mark.skipif(not softhsm.MODULES, reason="a PKCS#11 token in software needs softhsm2")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library, with one token in `tmp_path`."""
    monkeypatch.setenv("SOFTHSM2_CONF", str(softhsm.make_token(tmp_path)))
    found = softhsm.MODULES[0]
    pkcs11.lib(str(found)).reinitialize()  # it reads its settings once
    return found


@needs_token
def test_the_example_erases_with_its_key_on_the_token_and_opens_it_again(
    module: Path, tmp_path: Path
) -> None:
    (tmp_path / "pin").write_text(f"{softhsm.PIN}\n")
    command = [sys.executable, "-W", "error", "-m", "examples.pkcs11_key", str(module), softhsm.TOKEN]
    command += [str(tmp_path / "cache.db"), "--pin-file", str(tmp_path / "pin")]
    for _ in range(2):
        run = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
        assert (run.returncode, run.stdout) == (0, "erased: 1 key, assurance file\n"), run.stderr
    files = sorted(path.name for path in tmp_path.iterdir())
    assert "cache.db" in files
    assert not [name for name in files if name.endswith(".key")], "no slot but the one on the token"


@needs_token
def test_a_software_token_may_not_say_tpm(module: Path) -> None:
    key = TokenKey(module, softhsm.TOKEN, softhsm.PIN, hardware=True)
    for act in (key.exists, key.load, lambda: key.create(b"slot"), lambda: key.store(b"slot")):
        with pytest.raises(er.StorageError, match="expected a hardware token, got one in software"):
            act()
    assert not TokenKey(module, softhsm.TOKEN, softhsm.PIN).exists()


@needs_token
def test_a_wrong_pin_an_absent_token_and_an_absent_library_are_each_their_own_error(module: Path) -> None:
    pin = "86420864"
    with pytest.raises(er.KeyMismatch, match="refused the PIN") as refused:
        TokenKey(module, softhsm.TOKEN, pin).load()
    assert pin not in str(refused.value)
    with pytest.raises(er.StorageError, match="NoSuchToken"):
        TokenKey(module, "none", softhsm.PIN).load()
    with pytest.raises(er.StorageError, match="FileNotFoundError"):
        TokenKey(module.with_name("none.so"), softhsm.TOKEN, softhsm.PIN).load()


@needs_token
def test_what_is_not_ours_is_unreadable_and_left(module: Path) -> None:
    key = TokenKey(module, softhsm.TOKEN, softhsm.PIN)
    foreign = {**key._named(), pkcs11.Attribute.TOKEN: True, pkcs11.Attribute.VALUE: b"somebody's"}
    with key._session() as session:
        session.create_object(foreign)
    for act in (key.exists, key.load, lambda: key.create(b"slot"), lambda: key.store(b"slot")):
        with pytest.raises(er.KeyUnreadable, match="not ours; nothing was touched"):
            act()
    with key._session() as session:
        assert [entry[pkcs11.Attribute.VALUE] for entry in session.get_objects(key._named())] == [
            b"somebody's"
        ]
