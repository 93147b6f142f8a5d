"""A slot in the system's keychain: which keychains are taken, and what is said when there is none."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring.core
import pytest
from keyring.backends.SecretService import Keyring as SecretServiceKeyring
from keyrings.alt.file import EncryptedKeyring

import edge_runtime as er
from tests.support import secret_service
from tests.support.key_places import Place, despite_aborts, let_go_of_connections, place
from tests.support.shop import shop_catalog

pytestmark = [
    pytest.mark.filterwarnings("ignore:PBKDF2 without:DeprecationWarning"),  # keyrings.alt's, not ours
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),  # keyring's, when it is refused
]
ENCRYPTED = "keyrings.alt.file.EncryptedKeyring"
ASK = """
import edge_runtime as er
try:
    print(er.KeyKeyring("svc").create(b"slot"))
except er.StorageError as error:
    print(error)
"""


def asked(home: Path, **env: str) -> str:
    """What a program says that keeps a slot in its keychain, in a home where nothing runs."""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PYTHON_KEY"))}
    nowhere = {"HOME": str(home), "DBUS_SESSION_BUS_ADDRESS": f"unix:path={home}/none"}
    found = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**quiet, **nowhere, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout + found.stderr


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Place]:
    with place("secret_service", tmp_path) as found:
        yield found


# ---- which are taken ---------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS always has its keychain")
def test_without_a_keychain_it_says_what_to_do_and_falls_back_to_nothing(tmp_path: Path) -> None:
    said = asked(tmp_path)
    assert "start and unlock the system's keychain" in said
    assert "KeyPassphrase or KeyFile; nothing was changed" in said
    assert list(tmp_path.iterdir()) == [], "keyring by itself would have written a file"


@pytest.mark.parametrize(
    "name",
    [
        "keyring.backends.fail.Keyring",
        "keyring.backends.null.Keyring",
        "keyrings.alt.file.PlaintextKeyring",
        "tests.edge.test_keys_keychain.Homemade",
    ],
)
def test_law_5_a_backend_that_keeps_nothing_safe_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    assert f"got {name}, which is refused" in asked(tmp_path, PYTHON_KEYRING_BACKEND=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["no.such.Module", "keyring.NoSuchClass", "nonsense", "keyring.backends.SecretService.Keyring"]
)
def test_a_backend_that_cannot_be_had_is_said_so(tmp_path: Path, name: str) -> None:
    assert "keyring's backend cannot be had" in asked(tmp_path, PYTHON_KEYRING_BACKEND=name)


class Homemade(EncryptedKeyring):  # type: ignore[misc]
    """A subclass is another backend: nobody has looked at it."""


@despite_aborts
def test_of_a_chain_only_the_keychain_at_its_head_is_used(
    service: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`keyring` makes a chain of all that is installed and goes on to a file when its head knows no entry."""
    assert asked(tmp_path, DBUS_SESSION_BUS_ADDRESS=os.environ["DBUS_SESSION_BUS_ADDRESS"]) == "True\n"
    assert not (tmp_path / ".local/share/python_keyring").exists()
    kept = SecretServiceKeyring().get_password("svc", "edge-runtime")
    assert kept == base64.b64encode(b"slot").decode()


def test_a_file_that_was_chosen_by_name_says_file_and_asks_its_user_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[str] = []

    def answer(prompt: str) -> str:
        asked_for.append(prompt)
        return "the right one"

    monkeypatch.setattr("getpass.getpass", answer)
    monkeypatch.setattr(keyring.core, "_keyring_backend", EncryptedKeyring())
    monkeypatch.setenv("HOME", str(tmp_path))
    provider = er.KeyKeyring("svc")
    assert provider.create(b"slot")
    assert len(asked_for) == 2, "for a new one, and to confirm it"
    provider.store(b"other")
    assert provider.load() == b"other"
    assert len(asked_for) == 2
    assert provider.assurance == "file"
    (kept,) = (tmp_path / ".local/share/python_keyring").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_wrong_password_of_the_file_is_an_error_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place("encrypted_keyring", tmp_path) as right:
        right.open("svc").create(b"slot")
        assert right.file is not None
        before = right.file("svc").read_bytes()
        monkeypatch.setattr("getpass.getpass", lambda _: "a wrong one")
        wrong = right.open("svc")
        for act in (wrong.load, wrong.exists, lambda: wrong.store(b"new"), lambda: wrong.create(b"new")):
            with pytest.raises(er.StorageError, match=r"failed \(ValueError\)"):
                act()
        assert right.file("svc").read_bytes() == before


def test_where_nobody_can_be_asked_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with place("encrypted_keyring", tmp_path) as found:

        def nobody(_: str) -> str:
            raise EOFError

        monkeypatch.setattr("getpass.getpass", nobody)
        with pytest.raises(er.StorageError, match="EOFError"):
            found.open("svc").create(b"slot")
        assert [one.name for one in tmp_path.rglob("*") if one.is_file()] == []


# ---- what a keychain may do --------------------------------------------------------------------------------


@despite_aborts
def test_a_locked_keychain_is_an_error_and_not_an_absent_key(service: Place, tmp_path: Path) -> None:
    provider = service.open("svc")
    provider.create(b"slot")
    secret_service.lock()
    for act in (
        provider.exists,
        provider.load,
        lambda: provider.store(b"new"),
        lambda: provider.create(b"new"),
    ):
        with pytest.raises(er.StorageError, match="keychain is locked: unlock it"):
            act()
    database = tmp_path / "c.db"
    with pytest.raises(er.StorageError, match="locked"):
        er.Runtime.open(database, catalog=shop_catalog(), key=service.open("svc"))
    assert not database.exists()
    let_go_of_connections()


def test_a_keychain_that_ended_is_an_error_and_not_an_absent_key(tmp_path: Path) -> None:
    with place("secret_service", tmp_path) as service:
        provider = service.open("svc")
        assert not provider.exists()
    for act in (
        provider.exists,
        provider.load,
        lambda: provider.store(b"new"),
        lambda: provider.create(b"new"),
    ):
        with pytest.raises(er.StorageError, match="the keychain"):
            act()


@despite_aborts
def test_an_entry_that_is_not_ours_is_unreadable_and_left(service: Place) -> None:
    provider = service.open("svc")
    for foreign in ("a password, perhaps", "\u00fcber", "c2xvdA"):
        SecretServiceKeyring().set_password("svc", "edge-runtime", foreign)
        with pytest.raises(er.KeyUnreadable, match="not one of ours"):
            provider.load()
        assert not provider.create(b"slot")
        assert SecretServiceKeyring().get_password("svc", "edge-runtime") == foreign


@pytest.mark.parametrize("kept", ["", "b3RoZXI=", None])
def test_what_is_not_read_back_was_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str | None
) -> None:
    with place("encrypted_keyring", tmp_path) as found:
        provider = found.open("svc")
        monkeypatch.setattr(EncryptedKeyring, "get_password", lambda *_: kept)
        with pytest.raises(er.StorageError, match="gave back another"):
            provider.store(b"slot")


@pytest.mark.parametrize(("service", "account"), [("", "a"), ("s", "")])
def test_an_entry_without_a_name_is_refused(service: str, account: str) -> None:
    with pytest.raises(er.MalformedRequest, match="a service and an account"):
        er.KeyKeyring(service, account)


@despite_aborts
def test_two_accounts_of_one_service_are_two_slots(service: Place) -> None:
    first, second = service.open("svc"), er.KeyKeyring("svc", "other")
    assert first.create(b"one")
    assert second.create(b"two")
    assert (first.load(), second.load()) == (b"one", b"two")


# ---- the package -------------------------------------------------------------------------------------------


def test_keyring_is_loaded_by_the_first_use_and_not_before() -> None:
    code = (
        "import sys, edge_runtime as er; er.Runtime; provider = er.KeyKeyring('svc'); repr(provider);"
        "sys.exit('keyring' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_package_it_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    provider = er.KeyKeyring("svc")
    for act in (provider.exists, provider.load, lambda: provider.create(b""), lambda: provider.assurance):
        with pytest.raises(er.MissingExtra, match=r"pip install 'edge-runtime\[keyring\]'"):
            act()


@despite_aborts
def test_a_runtime_keeps_its_cache_under_a_key_in_the_keychain(service: Place, tmp_path: Path) -> None:
    database = tmp_path / "c.db"
    with er.Runtime.open(database, catalog=shop_catalog(), key=service.open("svc")) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        assert rt.consent.withdraw("alice").verify().assurance == "os_keychain"
    with er.Runtime.open(database, catalog=shop_catalog(), key=service.open("svc")) as rt:
        assert rt.consent.state("alice", "personalization") == "withdrawn"
    keyring.delete_password("svc", "edge-runtime")
    with pytest.raises(er.KeyMissing, match="without its key"):
        er.Runtime.open(database, catalog=shop_catalog(), key=service.open("svc"))
