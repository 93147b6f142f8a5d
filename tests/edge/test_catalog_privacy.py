"""The privacy part of a catalog: what it declares, what names it, and who signed it."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.catalog import Catalog, CatalogError
from edge_runtime.catalog.privacy import canonical_part, privacy_fingerprint, privacy_part
from edge_runtime.catalog.signed import check, sign
from edge_runtime.catalog.weakening import weakenings
from edge_runtime.wire import seal
from tests.support.broken_catalog import SHOP, Change, changed, drop, faults, put

KEY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x07")
PUBLIC = seal.public_bytes(KEY)
HASH = "sha256:" + "ab" * 32
PURPOSE = "purposes/personalization"
COUNT = {"entity": "user", "event": "view", "op": "count", "window": "7d"}
"""A feature declared in place."""


def whole() -> dict[str, Any]:
    """The shop with everything declared that may be."""
    table = changed(lambda t: None)
    table["controller"] = {"name": "Shop Ltd", "contact": "privacy@shop.example", "dpo": "dpo@shop.example"}
    table["purposes"]["personalization"] |= {
        "description": "We choose what you see first",
        "data_categories": ["views", "purchases"],
        "recipients": ["warehouse"],
        "transfers": ["US: standard contractual clauses"],
        "uses": ["targeting", "sale"],
        "dpv": "https://w3id.org/dpv#Personalisation",
    }
    table["metrics"]["visits"] = {
        "purpose": "measurement",
        "kind": "mean",
        "of": "activity:views_5m",
        "bounds": [0, 100],
        "epsilon": 1.0,
        "min_subjects": 50,
    }
    table["notices"] = {
        "2026-11": {
            "purposes": ["personalization"],
            "language": "en",
            "content_hash": HASH,
            "title": "What we do",
            "url": "https://shop.example/privacy",
            "effective": date(2026, 11, 30),
        }
    }
    return table


def fingerprint(*changes: Change) -> bytes:
    table = whole()
    for change in changes:
        change(table)
    return privacy_fingerprint(canonical_part(Catalog.from_dict(table)))


def test_everything_declared_reads_back_equal() -> None:
    """Through the canonical table and JSON; uses stand in one order, days as text."""
    catalog = Catalog.from_dict(whole())
    again = Catalog.from_json(json.dumps(catalog.to_dict()))
    assert again == catalog
    assert again.fingerprint == catalog.fingerprint
    purpose, notice = again.purposes["personalization"], again.notices["2026-11"]
    assert (purpose.uses, purpose.recipients) == (("sale", "targeting"), ("warehouse",))
    assert (notice.effective, notice.content_hash) == ("2026-11-30", HASH)
    assert again.controller is not None
    assert again.controller.dpo == "dpo@shop.example"


def test_a_catalog_that_declares_none_of_it_keeps_the_fingerprint_it_had() -> None:
    """Registered versions would conflict with themselves otherwise."""
    table = Catalog.load(SHOP).to_dict()
    assert "controller" not in table
    assert set(table["purposes"]["personalization"]) == {
        *("title", "legal_basis", "terminal_access", "lease", "retention", "keep_events"),
    }


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (f"{PURPOSE}/uses", ["sale", "profit"], "purposes.personalization.uses[1]"),
        (f"{PURPOSE}/uses", "sale", "purposes.personalization.uses"),
        (f"{PURPOSE}/dpv", "https://example.com#Ads", "purposes.personalization.dpv"),
        (f"{PURPOSE}/recipients", ["a", "a"], "purposes.personalization.recipients[1]"),
        (f"{PURPOSE}/description", 7, "purposes.personalization.description"),
        ("notices/2026-11/content_hash", "sha256:short", "notices.2026-11.content_hash"),
        ("notices/2026-11/effective", "soon", "notices.2026-11.effective"),
        ("notices/2026-11/effective", 7, "notices.2026-11.effective"),
        ("controller", {"contact": "x"}, "controller.name"),
        ("controller/fax", "x", "controller.fax"),
        ("signature", {"key": "00", "signed_at": 1, "signature": "00"}, "signature.key"),
        ("signature", {"signed_at": -1}, "signature.signed_at"),
    ],
)
def test_every_fault_is_named_with_its_place(path: str, value: object, place: str) -> None:
    """Nothing is guessed."""
    table = whole()
    put(path, value)(table)
    assert place in faults(table)


def test_features_do_not_move_the_privacy_part() -> None:
    """Another version, window or view under consent: the same fingerprint, and so the same signature."""
    assert fingerprint() == fingerprint(
        put("catalog/version", 9),
        put("views/activity/features/views_5m/window", "7m"),
        put("views/profile/ttl", "1d"),
    )


@pytest.mark.parametrize(
    "change",
    [
        put(f"{PURPOSE}/lease", "25h"),
        put(f"{PURPOSE}/retention", "31d"),
        put(f"{PURPOSE}/legal_basis", "contract"),
        put(f"{PURPOSE}/terminal_access", "strictly_necessary"),
        put(f"{PURPOSE}/recipients", ["warehouse", "crm"]),
        drop(f"{PURPOSE}/uses"),
        put("metrics/customers_by_country/epsilon", 2.0),
        put("metrics/customers_by_country/min_subjects", 10),
        put("metrics/visits/mode", "curator"),
        put("metrics/visits/read", "age"),
        put("metrics/visits/of", COUNT),
        put("notices/2026-11/content_hash", "sha256:" + "cd" * 32),
        put("controller/name", "Other Ltd"),
        put("entities/staff", {"personal": True}),
    ],
)
def test_whatever_protects_moves_it(change: Change) -> None:
    """Basis, lease, retention, recipients, bounds, notices, people."""
    assert fingerprint(change) != fingerprint()


def test_a_view_moved_to_a_purpose_that_asks_nobody_moves_it() -> None:
    """Otherwise features could be taken from under consent without the key."""
    silent = {"legal_basis": "contract", "terminal_access": "strictly_necessary", "retention": "1d"}
    declared = put("purposes/delivery", silent)
    moved = put("views/profile/purpose", "delivery")
    metric = drop("metrics")
    assert fingerprint(declared, metric) != fingerprint(declared, metric, moved)


def test_a_signature_travels_holds_and_is_no_part_of_what_the_catalog_means() -> None:
    """Through JSON; equal catalogs with one fingerprint, signed or not."""
    catalog = Catalog.from_dict(whole())
    signed = Catalog.from_json(json.dumps(sign(catalog, KEY, 5).to_dict()))
    assert signed == catalog
    assert signed.fingerprint == catalog.fingerprint
    assert check(signed, PUBLIC).signed_us == 5


def test_the_same_signature_serves_any_features_and_no_other_privacy_part() -> None:
    """That is what lets features roll back without the key, and a lease not grow without it."""
    signature = sign(Catalog.from_dict(whole()), KEY, 5).to_dict()["signature"]
    table = {**whole(), "signature": signature}
    put("views/profile/ttl", "1d")(table)
    check(Catalog.from_dict(table), PUBLIC)
    put(f"{PURPOSE}/lease", "25h")(table)
    with pytest.raises(CatalogError, match="another than was signed"):
        check(Catalog.from_dict(table), PUBLIC)


def test_load_with_a_registry_key_refuses_what_it_did_not_sign(tmp_path: Path) -> None:
    """Unsigned, signed by another, dated otherwise: each is refused and says so."""
    signed = sign(Catalog.load(SHOP), KEY, 5)
    path = tmp_path / "signed.json"
    path.write_text(json.dumps(signed.to_dict()))
    assert Catalog.load(path, registry_key=PUBLIC) == signed
    with pytest.raises(CatalogError, match="missing"):
        Catalog.load(SHOP, registry_key=PUBLIC)
    with pytest.raises(CatalogError, match="another key's"):
        Catalog.load(path, registry_key=bytes(31) + b"\x09")
    later = signed.to_dict()
    later["signature"]["signed_at"] = 6
    path.write_text(json.dumps(later))
    with pytest.raises(CatalogError, match="another than was signed"):
        Catalog.load(path, registry_key=PUBLIC)


@pytest.mark.parametrize(
    ("change", "places"),
    [
        (put(f"{PURPOSE}/lease", "25h"), ["purposes.personalization.lease"]),
        (put(f"{PURPOSE}/lease", "1h"), []),
        (put(f"{PURPOSE}/retention", "31d"), ["purposes.personalization.retention"]),
        (put(f"{PURPOSE}/legal_basis", "contract"), ["purposes.personalization.legal_basis"]),
        (put(f"{PURPOSE}/recipients", []), []),
        (put(f"{PURPOSE}/recipients", ["crm"]), ["purposes.personalization.recipients"]),
        (drop(f"{PURPOSE}/uses"), ["purposes.personalization.uses"]),
        (put(f"{PURPOSE}/title", "Another title"), []),
        (put("metrics/customers_by_country/epsilon", 2.0), ["metrics.customers_by_country.epsilon"]),
        (put("metrics/customers_by_country/epsilon", 0.5), []),
        (put("metrics/customers_by_country/min_subjects", 9), ["metrics.customers_by_country.min_subjects"]),
        (put("metrics/visits/mode", "curator"), ["metrics.visits.mode"]),
        (put("metrics/visits/read", "age"), ["metrics.visits.read"]),
        (put("metrics/visits/of", COUNT), ["metrics.visits.of"]),
        (
            put("metrics/customers_by_country/values", ["UK", "other"]),
            ["metrics.customers_by_country.values"],
        ),
        (put("metrics/customers_by_country/absent", "other"), []),
        (put("metrics/visits/of", "activity:spend_7d"), ["metrics.visits.of"]),
        (put("metrics/visits/mechanism", "piecewise"), []),
        (put("metrics/customers_by_country/reference", [0.25] * 4), []),
        (drop("metrics/customers_by_country"), []),
        (put("notices", {}), ["notices"]),
        (put("controller/name", "Other Ltd"), ["controller"]),
        (put("purposes/more", {"legal_basis": "consent", "retention": "1d"}), ["purposes.more"]),
    ],
)
def test_weaker_is_wider_longer_or_asking_less(change: Change, places: list[str]) -> None:
    """Each place by its name; what protects more, or says it in other words, is none."""
    table = whole()
    change(table)
    before, after = Catalog.from_dict(whole()), Catalog.from_dict(table)
    assert weakenings(privacy_part(before), privacy_part(after)) == places


def test_a_part_signed_before_metrics_had_modes_is_held_to_what_it_meant() -> None:
    """It said value and local without the words; a device compares with the part that it keeps."""
    old: dict[str, Any] = privacy_part(Catalog.from_dict(whole()))
    for metric in old["metrics"].values():
        del metric["mode"], metric["read"], metric["takes_part"]
        metric.pop("values", None)
        metric.pop("of", None)
    table = whole()
    assert weakenings(old, privacy_part(Catalog.from_dict(table))) == []
    put("metrics/visits/mode", "curator")(table)
    assert weakenings(old, privacy_part(Catalog.from_dict(table))) == ["metrics.visits.mode"]


CHOICES: dict[str, list[object]] = {
    f"{PURPOSE}/legal_basis": ["consent", "contract", "public_task"],
    f"{PURPOSE}/terminal_access": ["consent", "strictly_necessary"],
    f"{PURPOSE}/lease": ["1h", "24h"],
    f"{PURPOSE}/retention": ["30d", "60d"],
    f"{PURPOSE}/keep_events": ["1d", "7d"],
    f"{PURPOSE}/recipients": [[], ["crm"], ["crm", "warehouse"], ["warehouse"]],
    f"{PURPOSE}/transfers": [[], ["US"]],
    f"{PURPOSE}/data_categories": [["views"], ["views", "age"]],
    f"{PURPOSE}/uses": [[], ["sale"], ["sale", "share"]],
    "metrics/customers_by_country/epsilon": [0.5, 1.0],
    "metrics/customers_by_country/min_subjects": [50, 60],
    "metrics/customers_by_country/window": ["1d", "7d"],
    "metrics/customers_by_country/purpose": ["measurement", "personalization"],
    "metrics/visits/mode": ["local", "curator"],
    "metrics/visits/read": ["value", "age"],
    "metrics/visits/of": ["activity:views_5m", COUNT, {**COUNT, "window": "1d"}],
    "entities/staff": [{"personal": True}, {"personal": False}],
    "controller/name": ["Shop Ltd", "Other Ltd"],
}
"""Path -> values between which a privacy team may choose."""
chosen = st.fixed_dictionaries({path: st.sampled_from(values) for path, values in CHOICES.items()})


def part_of(choice: dict[str, object]) -> dict[str, Any]:
    table = whole()
    for path, value in choice.items():
        put(path, value)(table)
    return privacy_part(Catalog.from_dict(table))


@settings(max_examples=60)
@given(chosen, st.data())
def test_what_differs_and_protects_is_weaker_on_one_side_or_the_other(
    one: dict[str, object], data: st.DataObject
) -> None:
    """Whatever one thing is changed, in whatever company; and no part is weaker than itself."""
    path = data.draw(st.sampled_from(sorted(CHOICES)))
    other = {**one, path: data.draw(st.sampled_from(CHOICES[path]))}
    first, second = part_of(one), part_of(other)
    assert weakenings(first, first) == []
    told = weakenings(first, second) + weakenings(second, first)
    assert (first == second) is (told == [])
