"""Evidence that is over is made anonymous: nobody is found again, every proof holds, nothing comes back."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_runtime.errors import SyncRefused
from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from edge_runtime.wire.fingerprint import digest_of
from sync_server.consent import statement
from sync_server.consent.audit_heads import heads_in
from sync_server.consent.auditing import Audit, Keys, audit_store
from sync_server.consent.decisions import API, Proposal, record
from sync_server.consent.forgetting import Forgetting, forget_subject
from sync_server.consent.statement import head_document
from sync_server.consent.verifying import verify_with_root
from sync_server.errors import Problem
from sync_server.store.looking import look
from tests.support.shop_server import FakeDevice, ShopServer
from tests.support.town import ALICE, BOB, Kiosk, P, Session, Town

YEAR_S = 365 * 86_400


def meet(kiosk: Kiosk) -> Session:
    """A session, until neither has anything to say."""
    session = Session(kiosk)
    session.settle()
    session.close()
    return session


def revoke(town: Town, subject: str) -> str:
    with town.store.write("revoke") as tx:
        row, _ = town.office.revoke(tx, town.pseudonym(subject), [P], "subject", "2026-11")
    town.office.settle()
    return row.id


def forget(town: Town, subject: str) -> int:
    with town.store.write("forget") as tx:
        return forget_subject(tx, town.office, town.pseudonym(subject)).steps


def upkeep(town: Town | ShopServer) -> None:
    """What the chore does, until there is no more."""
    chore = Forgetting(town.store, town.settings)
    while chore.step(town.clock.now_us()):
        pass


def audited(town: Town, *heads: object) -> Audit:
    made = town.authority
    keys = Keys(made.chain, made.public_key, made.incarnation, made.restores)
    named = [one for n, head in enumerate(heads) for one in heads_in(str(n), head)]
    with look(town.settings.database) as rows:
        return audit_store(rows, keys, named)


@contextmanager
def withdrawn(town: Town, kiosk: Kiosk) -> Iterator[str]:
    """Alice gave, a device held, she withdrew, the device answered; bob's consent lives on."""
    kiosk.give(ALICE)
    town.decide(BOB, "given")
    meet(kiosk)
    town.put_profile(ALICE)
    meet(kiosk)
    name = revoke(town, ALICE)
    meet(kiosk)
    yield name


def stands(town: Town, subject: str) -> str:
    with town.store.read() as tx:
        return tx.decision_state(town.pseudonym(subject), P).state


def test_erased_evidence_is_anonymous_and_every_proof_holds(town: Town, kiosk: Kiosk) -> None:
    """The audit walks it, older heads are its beginning, and the receipt verifies and says anonymous."""
    with withdrawn(town, kiosk) as name:
        with town.store.read() as tx:
            row = tx.revocation(name)
            assert row is not None
            before, head = town.office.outcome(tx, row), head_document(town.office.head(tx))
        root = digest_of(town.authority.root)
        assert [d["kind"] for d in verify_with_root(before, root).document()["devices"]] == ["erased"]
        assert forget(town, ALICE) == 2
        found = audited(town, head)
        assert (found.fault, found.erased, found.heads) == (None, 2, 1)
        with town.store.read() as tx:
            row = tx.revocation(name)
            assert row is not None
            after = town.office.outcome(tx, row)
        proof = verify_with_root(after, root)
        told = proof.document()
        assert told["anonymity"].startswith("anonymous")
        assert (told["subject"], told["devices"]) == (None, [])
        assert verify_with_root(before, root).document()["denials"] == told["denials"]
        assert "receipts went with the salts" in proof.text()
        assert stands(town, BOB) == "given"


def test_law_2_the_fence_stays_until_every_device_has_heard(town: Town, kiosk: Kiosk, tmp_path: Path) -> None:
    """While a device may still hold something, the denial stays in the lane and reaches it; then it goes."""
    silent = Kiosk(town, tmp_path / "silent")
    with withdrawn(town, kiosk):
        forget(town, ALICE)
        upkeep(town)
        assert stands(town, ALICE) == "withdrawn"
        meet(silent)
        town.node.acks.write()
        town.clock.advance(seconds=90_000)
        upkeep(town)
        assert stands(town, ALICE) == "unknown"
        assert audited(town).fault is None
    silent.close()


@pytest.mark.parametrize("state", ["objected", "restricted"])
def test_law_1_an_objection_outlives_its_evidence(town: Town, kiosk: Kiosk, state: str) -> None:
    """Whoever has heard it: a device that enrols later must hear it too, as it asks for no consent."""
    town.decide(ALICE, state)
    town.office.settle()
    meet(kiosk)
    assert forget(town, ALICE) == 1
    town.node.acks.write()
    town.clock.advance(seconds=4 * YEAR_S)
    upkeep(town)
    assert stands(town, ALICE) == state
    found = audited(town)
    assert (found.fault, found.erased) == (None, 1)


def test_law_2_what_saw_less_than_the_fence_brings_nothing_back(town: Town, kiosk: Kiosk) -> None:
    """Without a pair to compare with, a consent from before is superseded; a new one is taken, and what is
    known of the pair since then tells nothing of what was before: one from before is superseded still."""
    with withdrawn(town, kiosk):
        forget(town, ALICE)
        town.node.acks.write()
        upkeep(town)
        assert stands(town, ALICE) == "unknown"
        now = town.lane_head()
        for base, outcome in ((1, "superseded"), (now, "recorded"), (1, "superseded"), (now, "recorded")):
            with town.store.write("late") as tx:
                late = Proposal(town.pseudonym(ALICE), P, "given", "2026-11", base, 1, API)
                assert record(tx, late, now_us=1, salt=b"s" * 32).outcome == outcome
        assert audited(town).fault is None


def test_a_subject_that_comes_again_before_its_fence_is_dropped_is_no_fault(
    town: Town, kiosk: Kiosk, tmp_path: Path
) -> None:
    """The lane still knows the denial that no named step tells of; the audit holds, and so does law 2."""
    silent = Kiosk(town, tmp_path / "silent")
    with withdrawn(town, kiosk):
        forget(town, ALICE)
        town.decide(ALICE, "restricted")
        assert audited(town).fault is None
        town.decide(ALICE, "given")
        with town.store.write("late") as tx:
            late = Proposal(town.pseudonym(ALICE), P, "given", "2026-11", 1, 1, API)
            assert record(tx, late, now_us=1, salt=b"s" * 32).outcome == "superseded"
        assert audited(town).fault is None
    silent.close()


def test_law_2_an_own_withdrawal_that_saw_less_than_the_fence_lends_nothing(town: Town, kiosk: Kiosk) -> None:
    """Who withdraws and gives again has seen the withdrawal, and still not what was forgotten before it."""
    with withdrawn(town, kiosk):
        forget(town, ALICE)
        town.node.acks.write()
        upkeep(town)
        for heard, first, outcome in ((False, b"a" * 16, "superseded"), (True, b"b" * 16, "recorded")):
            base = town.lane_head() if heard else 1
            own = (town.pseudonym(ALICE), P)
            denial = Proposal(*own, "withdrawn", "2026-11", base, 1, "device:dev-a", first)
            given = Proposal(*own, "given", "2026-11", base, 1, "device:dev-a", None, first)
            with town.store.write("late") as tx:
                record(tx, denial, now_us=1, salt=b"s" * 32)
                assert record(tx, given, now_us=1, salt=b"t" * 32).outcome == outcome


def test_law_2_an_image_from_before_the_fence_must_begin_anew(
    town: Town, kiosk: Kiosk, tmp_path: Path
) -> None:
    """A device put back to when alice's consent lived hears of no withdrawal: it is told to wipe itself."""
    kiosk.give(ALICE)
    meet(kiosk)
    kiosk.close()
    shutil.copytree(kiosk.folder, tmp_path / "image")
    again = Kiosk(town, kiosk.folder)
    revoke(town, ALICE)
    meet(again)
    town.node.acks.write()
    forget(town, ALICE)
    upkeep(town)
    assert stands(town, ALICE) == "unknown"
    meet(again)
    assert again.consents.state(ALICE, P) == "withdrawn"  # it is as far as the fence, and goes on
    again.close()
    image = Kiosk(town, tmp_path / "image")
    assert image.consents.state(ALICE, P) == "given"
    session = Session(image)
    with pytest.raises(SyncRefused, match="device_revoked"):
        session.settle()
    assert session.heard_of(m.Revoked) != []
    assert image.keyring.key(ALICE, P) is None
    session.close()
    image.close()


def test_law_2_a_consent_older_than_the_fence_is_renewed_from_before_it(town: Town, kiosk: Kiosk) -> None:
    """Bob's pair was never forgotten, and what is known of it reaches back behind the fence."""
    with withdrawn(town, kiosk):
        forget(town, ALICE)
        town.node.acks.write()
        upkeep(town)
        with town.store.write("late") as tx:
            seen = tx.decision_state(town.pseudonym(BOB), P).since
            assert seen < tx.ledger.fence()
            late = Proposal(town.pseudonym(BOB), P, "given", "2026-11", seen, 1, API)
            assert record(tx, late, now_us=1, salt=b"s" * 32).outcome == "recorded"
        assert audited(town).fault is None


@pytest.mark.parametrize("days", [-400, 0, 400])
def test_law_2_who_is_from_before_the_fence_is_told_by_the_lane_and_by_no_clock(
    town: Town, kiosk: Kiosk, tmp_path: Path, days: int
) -> None:
    """However the server's clock is set meanwhile: a newcomer is let in, and one from before that was silent
    is waited for, or shut out once the evidence's time is over."""
    silent = Kiosk(town, tmp_path / "silent")
    with withdrawn(town, kiosk):
        forget(town, ALICE)
        town.clock.set_wall(town.clock.now_us() + days * 86_400_000_000)
        newcomer = Kiosk(town, tmp_path / "newcomer")
        town.node.acks.write()
        with town.store.write("fences") as tx:
            assert tx.forgetting.drop_fences(0, 100) == 0, "the silent one has not heard it"
            assert tx.forgetting.drop_fences(2**62, 100) == 1, "its evidence's time is over"
        meet(newcomer)
        assert newcomer.replica.lane_position() == town.lane_head()
        session = Session(silent)
        with pytest.raises(SyncRefused, match="device_revoked"):
            session.settle()
        session.close()
        newcomer.close()
    silent.close()


def test_law_2_a_newcomer_does_not_keep_a_fence(town: Town, kiosk: Kiosk, tmp_path: Path) -> None:
    """Whoever enrolled after a denial never held what it ended, also while the clock says otherwise."""
    with withdrawn(town, kiosk):
        forget(town, ALICE)
        town.clock.set_wall(town.clock.now_us() - 86_400_000_000)
        newcomer = Kiosk(town, tmp_path / "newcomer")
        town.node.acks.write()
        with town.store.write("fences") as tx:
            assert tx.forgetting.drop_fences(0, 100) == 1
        newcomer.close()


def test_evidence_is_kept_for_its_time_and_no_longer(town: Town, kiosk: Kiosk) -> None:
    """Three years after the end of a consent; never while it lives."""
    with withdrawn(town, kiosk):
        town.clock.advance(seconds=3 * YEAR_S - 60)
        upkeep(town)
        assert audited(town).erased == 0
        town.clock.advance(seconds=90_000)
        upkeep(town)
        found = audited(town)
        assert (found.fault, found.erased) == (None, 2)
        assert stands(town, BOB) == "given"
        town.clock.advance(seconds=9 * YEAR_S)
        upkeep(town)
        assert audited(town).erased == 2


def test_the_evidence_of_one_purpose_goes_and_a_statement_about_two_still_verifies(
    town: Town, kiosk: Kiosk
) -> None:
    """The subject gave one of them again: that one is still proven, and nothing is told of the other."""
    kiosk.give(ALICE)
    meet(kiosk)
    with town.store.write("revoke") as tx:
        name = town.office.revoke(tx, town.pseudonym(ALICE), None, "subject", "2026-11")[0].id
    town.office.settle()
    meet(kiosk)
    town.decide(ALICE, "given")
    town.clock.advance(seconds=3 * YEAR_S + 60)
    upkeep(town)
    assert audited(town).erased == 1
    with town.store.read() as tx:
        row = tx.revocation(name)
        assert row is not None
        told = verify_with_root(town.office.outcome(tx, row), digest_of(town.authority.root)).document()
    assert [device["kind"] for device in told["devices"]] == ["erased"]
    assert told["purposes"] == ["measurement", P]


async def test_a_receipt_that_comes_after_the_erasure_is_taken_off_the_device(shop: ShopServer) -> None:
    """It is acknowledged, so that the device need not bring it for ever, and not kept: it names her."""
    device = await FakeDevice(shop, 1).enrol()
    device.lease()
    await shop.give("alice")
    made = await shop.revoke("alice")
    shop.clock.advance(seconds=4 * YEAR_S)
    upkeep(shop)
    device.answer(made.body, shop.pseudonym("alice"))
    with shop.store.read() as tx:
        assert tx.answers(made.body["id"]) == []
        assert tx.execute("SELECT count(*) FROM receipts").fetchone() == (0,)


# ---- threat T30: nobody can be found again -----------------------------------------------------------------


def forms(authority_key: bytes, subject: str) -> list[bytes]:
    """Every way in which the id, or its pseudonym, could be written down."""
    typed = f"user:{subject}"
    raw = seal.pseudonym(authority_key, typed)
    token = seal.subject_token(raw)
    texts = [typed, subject, token, token[1:], token[1:].upper(), raw.hex(), raw.hex().upper()]
    texts += [base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("=")]
    return [raw, *(text.encode() for text in texts)]


def found_in(folder: Path, needles: list[bytes]) -> dict[str, int]:
    """File -> how many of the needles are in its bytes; the key file aside, which holds no subject."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {"server.db", "keys.db"} <= {file.name for file in files}
    held = {file.name: sum(needle in file.read_bytes() for needle in needles) for file in files}
    return {name: count for name, count in held.items() if count}


async def test_t30_after_the_erasure_no_file_leads_to_the_subject(shop: ShopServer) -> None:
    """The operator has every key, and searches every byte: database, log, payload keys, kept receipts."""
    name = "zephyrine-t30"
    device = await FakeDevice(shop, 1).enrol()
    device.lease()
    await shop.give(name)
    row = {"entity": f"user:{name}", "event_time": 10, "values": {"country": "DE"}}
    head = (await shop.call("GET", "/v1/consent-ledger/head")).body["size"]
    assert (await shop.publish("profile", [row], as_of=head)).body["accepted"] == 1
    made = await shop.revoke(name)
    needles = forms(shop.authority.pseudonym_key, name)
    assert found_in(shop.settings.data_dir, needles) != {}
    path = f"/v1/consent-evidence?subject={name}"
    assert (await shop.call("DELETE", path)).body["code"] == "not_completed"
    device.answer(made.body, shop.pseudonym(name))
    gone = await shop.call("DELETE", path)
    assert (gone.status, gone.body["steps"]) == (200, len(made.body["denials"]) + 1)
    upkeep(shop)
    shop.store.scrub()
    assert found_in(shop.settings.data_dir, needles) == {}
    shown = await shop.call("GET", made.headers["Location"])
    assert shown.body["state"] == "completed"
    proof = (await shop.call("GET", made.headers["Location"] + "/receipt")).body
    assert statement.verify(proof, shop.authority.public_key).subject is None
    assert (await shop.call("DELETE", path)).body["steps"] == 0


@pytest.mark.parametrize("years", [0, 4])
async def test_an_event_that_nobody_acknowledged_waits_for_its_time(shop: ShopServer, years: int) -> None:
    """The operator cannot take it away while somebody is to be told; the evidence's time ends that too."""
    await shop.give("alice")
    await shop.revoke("alice")
    subject = shop.pseudonym("alice")
    event = ("jti", "consent_withdrawn", None, subject, shop.clock.now_us(), shop.clock.now_us(), b"{}")
    with shop.store.write("event") as tx:
        tx.execute("INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", event)
        tx.execute("INSERT INTO deliveries SELECT 'dst', seq, 'dead', 0, 1, NULL, '' FROM events")
    refused = await shop.call("DELETE", "/v1/consent-evidence?subject=alice")
    assert refused.body["code"] == "not_completed"
    shop.clock.advance(seconds=years * YEAR_S)
    upkeep(shop)
    with shop.store.read() as tx:
        counts = [tx.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("events", "deliveries")]
    assert counts == ([1, 1] if years == 0 else [0, 0])


async def test_erasing_evidence_is_refused_while_it_is_needed(shop: ShopServer) -> None:
    """A consent in force has to be shown; who asks needs both scopes; nothing was changed."""
    made = await shop.give("alice")
    path = "/v1/consent-evidence?subject=alice"
    refused = await shop.call("DELETE", path)
    assert (refused.status, refused.body["code"]) == (409, "consent_live")
    for scopes in (["operator"], ["consent"]):
        token = await shop.call("POST", "/v1/tokens", {"name": "t", "scopes": scopes})
        assert token.status == 201, token.body
        reply = await shop.call("DELETE", path, token=token.body["token"])
        assert (reply.status, reply.body["code"]) == (403, "missing_scope")
    await shop.revoke("alice")
    assert (await shop.call("DELETE", path)).status == 200
    receipt = await shop.call("GET", made.headers["Location"] + "/receipt")
    assert (receipt.status, receipt.body["code"]) == (410, "evidence_erased")
    assert (await shop.call("DELETE", made.headers["Location"])).status == 204
    assert (await shop.give("alice")).body["outcome"] == "recorded"


@pytest.mark.parametrize("state", ["given", "restricted"])
def test_a_subject_whose_consent_lives_is_not_forgotten(town: Town, state: str) -> None:
    """Restricted, what is held stays, and so does what allows to hold it."""
    town.decide(ALICE, "given")
    town.decide(ALICE, state)
    with pytest.raises(Problem, match="consent_live"):
        forget(town, ALICE)
    assert audited(town).erased == 0
