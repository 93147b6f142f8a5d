"""Decisions over HTTP: one record, pages of history, ETags, and the delete that only withdraws."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
from typing import Any

import msgspec
import pytest

from sync_server.consent import documents, record_id
from sync_server.consent.signed_document import SignedDocument
from tests.support.shop_server import ShopServer

P, M = "personalization", "measurement"
HISTORY = "/v1/consents?subject=alice"


def stored(shop: ShopServer) -> list[str]:
    """The store as SQL text: equal before and after means that nothing was changed."""
    with sqlite3.connect(f"file:{shop.settings.database}?mode=ro", uri=True) as db:
        found = list(db.iterdump())
    db.close()
    return found


async def tag(shop: ShopServer, path: str = HISTORY) -> str:
    return (await shop.call("GET", path)).headers["Etag"]


async def test_a_record_has_a_name_of_its_own(shop: ShopServer) -> None:
    """201 with `Location`; the record read back is the same; made-up names find nothing."""
    made = await shop.give("alice")
    assert made.headers["Location"] == f"/v1/consents/{made.body['id']}"
    found = await shop.call("GET", made.headers["Location"])
    now = ("state_now", "gpc_conflict")
    wanted = {name: value for name, value in made.body.items() if name not in now}
    assert (found.status, found.body) == (200, wanted)
    name = made.body["id"]
    other = name[:-1] + ("a" if name[-1] != "a" else "b")
    for wrong in (
        "con-" + "a" * 24,
        name[:12] + ("a" if name[12] != "a" else "b") + name[13:],
        other,
        name.upper(),
        name + "a",
        "%ff",
        "x" * 7_000,
    ):
        assert (await shop.call("GET", f"/v1/consents/{wrong}")).status == 404, wrong


async def test_a_records_name_depends_on_tenant_and_leaf() -> None:
    """The same place in another ledger, or under another key, has another name."""
    name = record_id.record_id(bytes(32), 7, b"leaf")
    assert record_id.names(bytes(32), name, 7, b"leaf")
    assert not record_id.names(bytes(32), name, 7, b"Leaf")
    assert not record_id.names(b"k" * 32, name, 7, b"leaf")
    assert record_id.claimed_seq(name) == 7
    assert record_id.claimed_seq("con-" + "a" * 23) is None


async def test_every_reply_is_its_documented_type(shop: ShopServer) -> None:
    """No field is missing, none is more than the type says."""
    strict = {
        "/v1/consents?subject=alice": documents.ConsentHistory,
        "/v1/consent-revocations": documents.Revocations,
        "/v1/consent-ledger/head": documents.LedgerHead,
        "/v1/consent-ledger/proof?seq=1": documents.LedgerProof,
        "/v1/consent-ledger/proof?first=1": documents.LedgerProof,
    }
    given = await shop.give("alice")
    revoked = await shop.revoke("alice")
    strict[given.headers["Location"]] = documents.ConsentRecord
    strict[revoked.headers["Location"]] = documents.RevocationStatus
    strict[revoked.headers["Location"] + "/targets"] = documents.RevocationTargets
    strict[revoked.headers["Location"] + "/receipt"] = SignedDocument
    replies = {kind: (await shop.call("GET", path)).body for path, kind in strict.items()}
    replies |= {documents.ConsentRecorded: given.body, documents.RevocationAccepted: revoked.body}
    for kind, body in replies.items():
        assert msgspec.to_builtins(msgspec.convert(body, kind)) == body, kind


async def test_history_comes_in_pages_and_states_do_not(shop: ShopServer) -> None:
    """Each record once, in order; what holds now stands on every page."""
    for n in range(7):
        await shop.give("alice", (P, M)[n % 2])
        await shop.give("bob")
    seen = list[int]()
    after: int | None = 0
    while after is not None:
        page = (await shop.call("GET", f"{HISTORY}&limit=3&after={after}")).body
        assert {p: s["state"] for p, s in page["states"].items()} == {P: "given", M: "given"}
        assert page["lane"] == 13
        seen += [step["seq"] for step in page["history"]]
        after = page["next"]
    assert seen == [1, 3, 5, 7, 9, 11, 13]
    only = (await shop.call("GET", f"{HISTORY}&purpose={M}")).body
    assert ([s["seq"] for s in only["history"]], list(only["states"])) == ([3, 7, 11], [M])
    assert (await shop.call("GET", "/v1/consents?subject=carol&purpose=x")).body == {
        "states": {"x": {"state": "unknown", "grant": 0, "denial": 0}},
        "history": [],
        "lane": 0,
        "next": None,
    }
    for wrong in ("limit=0", "limit=x", "limit=2&limit=3", "more=1", "after=-1", "after=", "limit=%D9%A1"):
        reply = await shop.call("GET", f"{HISTORY}&{wrong}")
        assert (reply.status, reply.body["code"]) == (400, "malformed_query"), wrong
    assert (await shop.call("GET", "/v1/consents")).body["code"] == "malformed_query"


async def test_an_etag_changes_with_the_subjects_decisions_and_with_nothing_else(shop: ShopServer) -> None:
    """Strong; 304 while it holds; another subject's decisions do not touch it; equal replies do not show."""
    before = await tag(shop)
    assert before != await tag(shop, "/v1/consents?subject=bob"), "two who said nothing are not told apart"
    seen = {before}
    for state in ("given", "given", "restricted", "objected", "refused"):
        await shop.give("alice", state=state)
        held = await tag(shop)
        assert held not in seen, "every decision changes it"
        seen.add(held)
        paged = await tag(shop, HISTORY + "&limit=1")
        assert paged not in seen, "a page that shows nothing of it too"
        seen.add(paged)
    await shop.revoke("alice", [M])
    assert await tag(shop, f"{HISTORY}&purpose={P}") not in seen
    held = await tag(shop)
    await shop.give("bob")
    for shown in (held, f'"x", W/{held}', "*"):
        reply = await shop.call("GET", HISTORY, headers={"If-None-Match": shown})
        assert (reply.status, reply.body, reply.headers["Etag"]) == (304, b"", held), shown
    for other in ('"x"', "nonsense", '"', "", before):
        assert (await shop.call("GET", HISTORY, headers={"If-None-Match": other})).status == 200, other
    assert "alice" not in held
    assert "no-cache" in (await shop.call("GET", HISTORY)).headers["Cache-Control"]


async def test_deleting_a_record_withdraws_once_and_keeps_the_evidence(shop: ShopServer) -> None:
    """204 each time, one revocation, the record still there; a consent given since is not touched."""
    made = await shop.give("alice")
    await shop.give("alice", M)
    where = made.headers["Location"]
    first, again = await shop.call("DELETE", where), await shop.call("DELETE", where)
    assert (first.status, again.status, first.body) == (204, 204, b"")
    assert first.headers["Location"] == again.headers["Location"]
    status = (await shop.call("GET", first.headers["Location"])).body
    assert [d["purpose"] for d in status["denials"]] == [P]
    assert (await shop.call("GET", where)).body["state"] == "given", "evidence is never deleted"
    found = (await shop.call("GET", HISTORY)).body
    assert {p: s["state"] for p, s in found["states"].items()} == {P: "withdrawn", M: "given"}
    assert len(found["history"]) == 3
    newer = await shop.give("alice")
    assert (await shop.call("DELETE", where)).status == 204, "a repeat that was under way for long"
    assert (await shop.call("GET", HISTORY)).body["states"][P]["state"] == "given"
    await shop.call("DELETE", newer.headers["Location"])
    assert (await shop.call("GET", HISTORY)).body["states"][P]["state"] == "withdrawn"


async def test_deleting_what_was_never_there_is_answered_alike_and_changes_nothing(shop: ShopServer) -> None:
    """RFC 7009: nothing stands under that name, and that is what was asked for."""
    await shop.give("alice")
    before = stored(shop)
    for name in ("con-aaaaaaaab" + "a" * 15, "con-" + "7" * 24, "anything"):
        reply = await shop.call("DELETE", f"/v1/consents/{name}")
        assert (reply.status, reply.body) == (204, b"")
    assert stored(shop) == before


async def test_a_denial_that_asked_nobody_is_deleted_without_another(shop: ShopServer) -> None:
    """A first refusal has no revocation, and none is made of it."""
    made = await shop.give("alice", state="refused")
    reply = await shop.call("DELETE", made.headers["Location"])
    assert (reply.status, "Location" in reply.headers) == (204, False)
    assert (await shop.call("GET", "/v1/consent-revocations")).body["revocations"] == []


async def test_a_subject_has_one_name_in_every_form(shop: ShopServer) -> None:
    """Bare, typed, and as RFC 9493 says it."""
    for form in ("alice", "user:alice", {"format": "opaque", "id": "user:alice"}, {"id": "alice"}):
        body = {"subject": form, "purpose": P, "notice": "2026-11"}
        assert (await shop.call("POST", "/v1/consents", body)).status == 201, form
    assert len((await shop.call("GET", HISTORY)).body["history"]) == 4
    revoked = await shop.call(
        "POST",
        "/v1/consent-revocations",
        {"subject": {"format": "opaque", "id": "alice"}},
        headers={"Idempotency-Key": "k"},
    )
    assert revoked.status == 202
    assert (await shop.call("GET", HISTORY)).body["states"][P]["state"] == "withdrawn"


SUBJECTS: list[tuple[Any, str]] = [
    ("", "invalid_id"),
    ("s" * 65_536, "invalid_id"),
    ("ali\0ce", "invalid_id"),
    ("item:1" + "1" * 600, "invalid_id"),
    ({"format": "email", "id": "alice"}, "invalid_id"),
    ({"format": "opaque", "id": "\0"}, "invalid_id"),
    ({"format": "iss_sub", "iss": "https://idp.example", "sub": "1"}, "invalid_request"),
    ({"id": 7}, "invalid_request"),
    (None, "invalid_request"),
    (["alice"], "invalid_request"),
]


@pytest.mark.parametrize("path", ["/v1/consents", "/v1/consent-revocations"])
async def test_law_12_a_subject_that_is_none_is_refused_and_nothing_is_changed(
    shop: ShopServer, path: str
) -> None:
    """64 KB, NUL, lone surrogates, other types and formats: problems that say what was expected."""
    await shop.give("alice")
    more = {"/v1/consents": {"purpose": P, "notice": "2026-11"}, "/v1/consent-revocations": {}}[path]
    before, key = stored(shop), {"Idempotency-Key": "k"}
    for subject, code in SUBJECTS:
        reply = await shop.call("POST", path, {"subject": subject, **more}, headers=key)
        assert (reply.status, reply.body["code"]) == (422, code), subject
        assert "expected" in reply.body["detail"].lower() or "unknown field" in reply.body["detail"]
        assert "alice" not in reply.body["detail"]
    odd = json.dumps({"subject": "\ud800", **more}).encode()
    jsons = {**key, "Content-Type": "application/json"}
    wrong = [
        (odd, jsons, 400, "malformed_json"),
        (b'{"subject": "a\xff"}', jsons, 400, "malformed_json"),
        (b"x" * (shop.settings.consent_body_bytes + 1), jsons, 413, "too_large"),
        (
            b"subject=alice",
            {**key, "Content-Type": "application/x-www-form-urlencoded"},
            415,
            "unsupported_media",
        ),
    ]
    for raw, headers, status, code in wrong:
        reply = await shop.call("POST", path, data=io.BytesIO(raw), headers=headers)
        assert (reply.status, reply.body["code"]) == (status, code)
        assert reply.headers["Content-Type"] == "application/problem+json"
    assert stored(shop) == before


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"erase": False}, "expected only subject, purposes, initiator, notice"),
        ({"initiator": "nobody"}, "expected controller, subject - at `$.initiator`"),
        ({"purposes": []}, "$.purposes"),
        ({"subject": {"format": "opaque", "name": "x"}}, "$.subject"),
    ],
)
async def test_law_12_a_problem_says_what_to_mend(
    shop: ShopServer, change: dict[str, Any], detail: str
) -> None:
    """Which fields there are, which values, and where; never what came."""
    body = {"subject": "alice", **change}
    reply = await shop.call("POST", "/v1/consent-revocations", body, headers={"Idempotency-Key": "k"})
    assert (reply.status, reply.body["code"]) == (422, "invalid_request")
    assert detail in reply.body["detail"]
    assert "nobody" not in reply.body["detail"]


async def test_law_12_a_query_for_nobody_is_refused(shop: ShopServer) -> None:
    """The same rules for the subject of a question."""
    for subject in ("", "a%00b", "s" * 3_000):
        reply = await shop.call("GET", f"/v1/consents?subject={subject}")
        assert (reply.status, reply.body["code"]) == (422, "invalid_id")


async def test_law_6_one_decision_under_one_key(shop: ShopServer) -> None:
    """Twenty at once under one key stand once."""
    body = {"subject": "alice", "purpose": P, "notice": "2026-11"}
    keyed = {"Idempotency-Key": "d"}
    found = await asyncio.gather(*(shop.call("POST", "/v1/consents", body, headers=keyed) for _ in range(20)))
    assert {r.status for r in found} == {201}
    assert len({r.body["id"] for r in found}) == 1
    with shop.store.read() as tx:
        assert tx.lane_head() == 1
