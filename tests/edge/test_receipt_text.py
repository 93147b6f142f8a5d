"""A receipt on paper is what was signed, to the letter; anything else does not verify."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cli import main
from edge_runtime.errors import MalformedRequest
from edge_runtime.wire.failure import WireFailure
from tests.support.clock import ManualClock
from tests.support.forensics import plaintext_hits
from tests.support.shop import BASE_US, SHOP, shop_catalog

P = "personalization"
SUITE = Path(__file__).parents[1] / "data" / "json_test_suite" / "json_test_suite.tar.gz"


def opened(folder: Path) -> er.Runtime:
    return er.Runtime.open(
        folder / "cache.db",
        catalog=shop_catalog(),
        key=er.KeyFile(folder / "device.key"),
        clock=ManualClock(BASE_US),
    )


@pytest.fixture
def receipt(tmp_path: Path) -> er.ErasureReceipt:
    with opened(tmp_path) as rt:
        rt.consent.give("alice", [P], notice="n")
        rt.track("view", user="alice", item="x")
        return rt.consent.withdraw("alice", [P])


def test_what_was_written_is_read_back(receipt: er.ErasureReceipt) -> None:
    again = er.ErasureReceipt.from_json(receipt.to_json())
    assert again == receipt
    told = json.loads(receipt.to_json())
    assert told["key_epoch"] == {"before": 0, "after": 1}
    assert told["canary_unreadable"] is True
    assert told["assurance"] == "file"
    assert told["keys_destroyed"] == 1


def test_a_changed_word_does_not_verify_though_the_signature_would(receipt: er.ErasureReceipt) -> None:
    told = json.loads(receipt.to_json())
    for name, value in told.items():
        if name == "proof":
            continue
        other = {**told, name: [value, "changed"]}
        with pytest.raises(WireFailure, match="not what was signed"):
            er.ErasureReceipt.from_json(json.dumps(other))
        less = {key: kept for key, kept in told.items() if key != name}
        with pytest.raises(WireFailure, match="not what was signed"):
            er.ErasureReceipt.from_json(json.dumps(less))
    with pytest.raises(WireFailure, match="not what was signed"):
        er.ErasureReceipt.from_json(json.dumps({**told, "note": "and everybody else's"}))


def test_another_devices_key_or_a_changed_proof_does_not_verify(receipt: er.ErasureReceipt) -> None:
    told = json.loads(receipt.to_json())
    for part in ("body", "signature", "public_key"):
        raw = bytearray(bytes.fromhex(told["proof"][part]))
        raw[len(raw) // 2] ^= 1
        with pytest.raises(WireFailure):
            er.ErasureReceipt.from_json(json.dumps({**told, "proof": {**told["proof"], part: raw.hex()}}))
    with pytest.raises(WireFailure):
        er.ErasureReceipt.from_json(receipt.to_json(), bytes(32))


def test_law_12_no_json_of_others_is_taken_for_a_receipt_or_crashes(tmp_path: Path) -> None:
    seen = 0
    with tarfile.open(SUITE) as suite:
        for member in suite.getmembers():
            file = suite.extractfile(member)
            if file is None:
                continue
            seen += 1
            path = tmp_path / "given.json"
            path.write_bytes(file.read())
            with pytest.raises(MalformedRequest):
                er.ErasureReceipt.from_json(path.read_bytes())
            assert main(["verify-receipt", str(path), "--json"]) == 2
    assert seen > 100


def test_the_command_shows_what_was_signed(
    receipt: er.ErasureReceipt, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "receipt.json"
    path.write_text(receipt.to_json())
    assert main(["verify-receipt", str(path)]) == 0
    shown = capsys.readouterr().out
    for words in ("erased for personalization", "0 -> 1", "no longer opens", "file"):
        assert words in shown
    path.write_text(receipt.to_json().replace('"erased"', '"held_none"'))
    assert main(["verify-receipt", str(path)]) == 1
    assert "does NOT verify" in capsys.readouterr().out
    assert main(["verify-receipt", str(path), "--key", "no hex"]) == 2


def test_everything_is_erased_and_each_must_be_asked_again(tmp_path: Path) -> None:
    with opened(tmp_path) as rt:
        for user in ("alice", "bob", "carol"):
            rt.consent.give(user, [P], notice="n")
            rt.track("view", user=user, item=f"secret-of-{user}")
        rt.flush()
        receipt = rt.consent.erase_everything()
        assert receipt.verify().keys_destroyed == 3
        assert receipt.receipt.subject == bytes(16)
        assert receipt.receipt.canary_unreadable is True
        assert (receipt.receipt.counter_before, receipt.receipt.counter_after) == (0, 1)
        for user in ("alice", "bob", "carol"):
            assert rt.read("activity:views", user=user).status is er.Status.REVOKED
            assert rt.consent.state(user, P) == "expired"
        with rt._database.read() as tx:
            assert tx.handles() == set()
        assert er.ErasureReceipt.from_json(receipt.to_json()) == receipt
        again = rt.consent.erase_everything().receipt
        assert (again.kind, again.keys_destroyed) == ("held_none", 0)
        rt.consent.give("alice", [P], notice="n")
        assert rt.read("activity:views", user="alice").value == 0


def test_keys_are_rotated_under_a_running_runtime(tmp_path: Path) -> None:
    with opened(tmp_path) as rt:
        rt.consent.give("alice", [P], notice="n")
        rt.track("view", user="alice", item="x")
        rt.rotate_keys()
        assert rt.status()["counter"] == 2
        assert rt.read("activity:views", user="alice").value == 1
        rt.track("view", user="alice", item="y")
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(SHOP)
    arguments = [
        str(tmp_path / "cache.db"),
        "--catalog",
        str(catalog),
        "--key-file",
        str(tmp_path / "device.key"),
    ]
    assert main(["rotate", *arguments, "--json"]) == 0
    with opened(tmp_path) as rt:
        assert rt.status()["counter"] == 4
        assert not rt.status()["restored"]
        assert rt.read("activity:views", user="alice").value == 2
    assert plaintext_hits(tmp_path, ["user:alice"]) == {}
