"""`edge-sync consent verify FILE --root FINGERPRINT`: what a stranger proves with a receipt alone."""

from __future__ import annotations

import copy
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import seal
from edge_runtime.wire.fingerprint import digest_of, fingerprint
from sync_server.cli import main
from sync_server.consent.root import RootFailure, led_by, links
from sync_server.consent.verifying import VerifyFailure, verify_with_root
from sync_server.devices.authority import rotate_key
from sync_server.devices.enrolment import decode, encode
from tests.support.clock import ManualClock
from tests.support.entropy import CountingEntropy
from tests.support.shop_server import FakeDevice, ShopServer

P = "personalization"
Path_ = tuple[str | int, ...]
KINDS = ("accepted", "completed", "partial", "decision")


@dataclass
class Given:
    """What was given out, and the key that could sign it again."""

    accepted: Any
    completed: Any
    partial: Any
    decision: Any
    root: str
    key: Ed25519PrivateKey


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """Receipts of a server that has changed its key twice."""
    import asyncio

    return asyncio.run(made(tmp_path_factory.mktemp("verify")))


async def made(folder: Path) -> Given:
    async with ShopServer(folder, ManualClock()) as shop:
        root = (await shop.call("GET", "/v1/consent-ledger/head")).body["root_fingerprint"]
        assert root == fingerprint(shop.authority.public_key)
    for _ in range(2):
        rotate_key(folder / "server.key", CountingEntropy())
    async with ShopServer(folder, ManualClock()) as shop:
        devices = [await FakeDevice(shop, seed).enrol() for seed in (1, 2)]
        assert all(device.lease() for device in devices)
        gave = await shop.give("alice")
        decision = (await shop.call("GET", gave.headers["Location"] + "/receipt")).body
        accepted = await shop.revoke("alice", [P])
        for device, kind in zip(devices, ("erased", "held_none"), strict=True):
            device.answer(accepted.body, shop.pseudonym("alice"), kind=kind)
        completed = (await shop.call("GET", accepted.headers["Location"] + "/receipt")).body
        assert all(device.lease() for device in devices)
        other = await shop.revoke("bob", [P])
        devices[0].answer(other.body, shop.pseudonym("bob"))
        shop.clock.advance(seconds=40 * 86_400)
        partial = (await shop.call("GET", other.headers["Location"] + "/receipt")).body
        return Given(accepted.body, completed, partial, decision, root, shop.authority.signing)


def leaves_of(document: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every place in a JSON document that holds no list or map, or an empty one."""
    inner = list(document.items()) if isinstance(document, dict) else []
    inner = list(enumerate(document)) if isinstance(document, list) else inner
    if not inner:
        yield path, document
    for name, value in inner:
        yield from leaves_of(value, (*path, name))


def put(document: Any, path: Path_, value: object) -> Any:
    changed = copy.deepcopy(document)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed


def flips(value: Any) -> list[object]:
    """Values near to one."""
    match value:
        case bool():
            return [not value, None]
        case int():
            return [value + 1, -value - 1, str(value)]
        case str():
            turned = ("B" if value[:1] == "A" else "A") + value[1:]
            return [other for other in (turned, value[:-1], "") if other != value]
        case _:
            return ["x", 7]


def resigned(given: Given, document: Any) -> Any:
    """As a server would sign it that lies."""
    body = seal.canonical(document["statement"])
    return {**document, "signature": encode(seal.sign(given.key, seal.REVOCATION, body))}


@pytest.mark.parametrize("kind", KINDS)
def test_a_receipt_holds_under_the_first_keys_fingerprint(given: Given, kind: str) -> None:
    """Two rotations later, the fingerprint given out at first still verifies; so does any key's since."""
    document = getattr(given, kind)
    proof = verify_with_root(document, digest_of(given.root))
    assert (proof.led.root_place, proof.led.place) == (1, 3)
    assert P in str(proof.document())
    plain = document.get("receipt", document)
    for place, key in enumerate([link["public_key"] for link in plain["succession"]], 1):
        led = verify_with_root(document, digest_of(fingerprint(decode(key)))).led
        assert (led.root_place, led.place) == (place, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_flip_of_every_field_is_refused_with_a_reason(given: Given, kind: str) -> None:
    """Nothing in a receipt is there for show: each field, changed in each way, breaks it."""
    document = getattr(given, kind)
    document = document.get("receipt", document)
    tried = 0
    for path, value in leaves_of(document):
        for other in flips(value):
            with pytest.raises(VerifyFailure, match=r".{10,}"):
                verify_with_root(put(document, path, other), digest_of(given.root))
            tried += 1
    assert tried > 60


@pytest.mark.parametrize("kind", ["accepted", "completed"])
def test_not_even_the_server_can_sign_a_false_proof(given: Given, kind: str) -> None:
    """Signed anew by the true key, what the ledger or a device proved otherwise is still refused."""
    document = getattr(given, kind)
    document = document.get("receipt", document)
    proofs = ("leaf", "salt", "seq", "inclusion", "subject", "purposes", "accepted_at", "head")
    devices = ("body", "signature", "device_id", "receipts")
    tried = 0
    for path, value in leaves_of(document["statement"]):
        if path[0] in ("denials", "head", *proofs) or (path[0] == "devices" and set(path) & {*devices}):
            for other in flips(value):
                forged = resigned(given, put(document, ("statement", *path), other))
                with pytest.raises(VerifyFailure):
                    verify_with_root(forged, digest_of(given.root))
                tried += 1
    assert tried > 20


def test_a_receipt_of_another_server_is_refused(given: Given) -> None:
    """Signed by a stranger, who brings its own keys along: the pinned root does not lead there."""
    stranger = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    body = seal.canonical(given.completed["statement"])
    own = {"signature": encode(seal.sign(stranger, seal.REVOCATION, body))}
    own["public_key"] = encode(seal.public_bytes(stranger))
    none: list[object] = []
    for succession in (none, given.completed["succession"]):
        forged = {**given.completed, **own, "succession": succession}
        with pytest.raises(VerifyFailure, match=r"root|named by"):
            verify_with_root(forged, digest_of(given.root))
    with pytest.raises(VerifyFailure, match="the root is none"):
        verify_with_root(given.completed, digest_of(fingerprint(bytes(32))))


def test_a_break_in_the_succession_is_named() -> None:
    """Which key was not named by the one before it; what lies before the pinned key does not matter."""
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(4)]
    public = [seal.public_bytes(key) for key in keys]
    words = [
        seal.sign(key, seal.SUCCESSION, seal.succession_bytes(seal.public_bytes(key), public[n + 1]))
        for n, key in enumerate(keys[:-1])
    ]
    chain = [
        {"public_key": one.public_key, "signature": one.signature}
        for one in links(zip(public[:-1], words, strict=True))
    ]
    document = {"succession": chain, "public_key": encode(public[3])}
    assert led_by(digest_of(fingerprint(public[0])), document).public_key == public[3]
    broken = put(document, ("succession", 1, "signature"), encode(bytes(64)))
    with pytest.raises(RootFailure, match="key 3 was not named by key 2"):
        led_by(digest_of(fingerprint(public[0])), broken)
    assert led_by(digest_of(fingerprint(public[2])), broken).root_place == 3


@pytest.mark.parametrize(
    "text", ["", "sha256:", "ab" * 32, "sha256:" + "ab" * 31, "sha256:" + "zz" * 32, "md5:00"]
)
def test_half_a_fingerprint_pins_nothing(text: str) -> None:
    """All 64 digits, in any grouping and case, or none."""
    with pytest.raises(ValueError, match="fingerprint"):
        digest_of(text)
    whole = fingerprint(b"k" * 32)
    assert digest_of(whole.upper().replace("-", " ")) == digest_of(whole)


def test_the_command_needs_the_file_and_the_fingerprint_alone(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No server, no data directory, no network: exit code 0 or 1, text that says what is not proven."""

    def no_network(*_: object) -> None:
        raise AssertionError("a socket was asked for")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setenv("EDGE_SYNC_DATA", str(tmp_path / "nowhere"))
    file = tmp_path / "receipt.json"
    command = ["consent", "verify", str(file), "--root", given.root]
    file.write_text(json.dumps(given.completed))
    assert main(command) == 0
    said = capsys.readouterr().out
    for words in (
        "It holds: revocation completed",
        "key 1, the one you pinned",
        "held nothing",
        "Not proven:",
    ):
        assert words in said
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["holds"], sorted(d["kind"] for d in told["devices"])) == (True, ["erased", "held_none"])
    file.write_text(json.dumps(given.partial))
    assert main(command) == 0
    assert "OVERDUE" in capsys.readouterr().out
    file.write_text(json.dumps(put(given.completed, ("statement", "due_at"), 1)))
    assert main(command) == 1
    assert "does NOT hold" in capsys.readouterr().out
    for junk in ("[]", "{}", "7", '{"receipt": 3}'):
        file.write_text(junk)
        assert main(command) == 1
    for junk in ("no JSON", "[" * 100_000):
        file.write_text(junk)
        assert main(command) == 2
    assert main([*command[:-1], "sha256:12"]) == 2
    assert main(["consent", "verify", str(tmp_path / "none.json"), "--root", given.root]) == 3
    capsys.readouterr()
