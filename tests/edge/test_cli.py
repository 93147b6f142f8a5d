"""`edge-runtime` answers people and scripts: text or one JSON object, and an exit code with a meaning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cli import main
from tests.support.clock import ManualClock
from tests.support.shop import SHOP, shop_catalog


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def test_init_writes_a_catalog_that_loads_and_never_over_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "catalog.toml"
    assert main(["init", str(path), "--json"]) == 0
    assert er.Catalog.load(path).name == "starter"
    assert main(["init", str(path), "--json"]) == 2
    assert "FileExistsError" in capsys.readouterr().out


def test_replay_prints_a_row_for_each_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", str(tmp_path / "catalog.toml"), "--json"])
    capsys.readouterr()
    events = [{"type": "view", "user": "a", "item": "x", "price": 2.5, "at": 1000 + n} for n in range(3)]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    (tmp_path / "points.jsonl").write_text(json.dumps({"user": "a", "at": 1001}))
    code = main(
        [
            "replay",
            str(tmp_path / "catalog.toml"),
            str(tmp_path / "events.jsonl"),
            *("--points", str(tmp_path / "points.jsonl"), "--json"),
            *("--refs", "activity:spend_7d", "activity:by_item"),
        ]
    )
    assert code == 0
    assert said(capsys)["rows"] == [
        {"user": "a", "at": 1001, "activity:spend_7d": 5.0, "activity:by_item": {"x": 2}}
    ]


def test_doctor_and_read_open_a_cache_and_verify_receipt_checks_its_signature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "catalog.toml").write_text(SHOP)
    place = [str(tmp_path / "c.db"), "--catalog", str(tmp_path / "catalog.toml")]
    place += ["--key-file", str(tmp_path / "key"), "--json"]
    assert main(["doctor", *place]) == 2
    assert not (tmp_path / "c.db").exists()
    capsys.readouterr()
    with er.Runtime.open(
        tmp_path / "c.db", catalog=shop_catalog(), key=er.KeyFile(tmp_path / "key"), clock=ManualClock()
    ) as rt:
        rt.consent.give("a", ["personalization"], notice="n")
        receipt = rt.consent.withdraw("a").to_json()
    assert main(["doctor", *place]) == 0
    assert said(capsys)["authority"] == "standalone"
    assert main(["read", *place, "activity:views", "user=a"]) == 0
    assert said(capsys)["status"] == "REVOKED"
    (tmp_path / "receipt.json").write_text(receipt)
    assert main(["verify-receipt", str(tmp_path / "receipt.json"), "--json"]) == 0
    forged = json.loads(receipt)
    forged["proof"]["signature"] = "00" * 64
    (tmp_path / "receipt.json").write_text(json.dumps(forged))
    assert main(["verify-receipt", str(tmp_path / "receipt.json"), "--json"]) == 1
