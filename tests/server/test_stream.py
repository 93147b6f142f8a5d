"""One device session on the server: who gets in, what it may follow, and what is sent when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire import ticket as tickets
from edge_runtime.wire.conversation import State
from edge_runtime.wire.failure import WireFailure
from sync_server.store.records import ChannelHead
from sync_server.sync.stream import DeviceSession
from tests.support.town import ALICE, BOB, Kiosk, P, Session, Town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(
        tmp_path / "town",
        settings=lambda s: replace(s, frame_rows=10, follows=4, personal_channels=2, device_gives_per_hour=3),
    )
    yield made
    made.close()


@pytest.fixture
def kiosk(town: Town, tmp_path: Path) -> Iterator[Kiosk]:
    made = Kiosk(town, tmp_path / "kiosk", patterns=("all", "segment:*"))
    yield made
    made.close()


def live(kiosk: Kiosk) -> Session:
    session = Session(kiosk)
    session.settle()
    return session


def say(session: Session, message: m.Message) -> list[m.Message]:
    """Let the device say `message` out of the ordinary; returns what the server answers."""
    session.server.hear(codec.encode(message))
    answers = []
    while (frame := session.next()) is not None:
        answers.append(codec.decode(frame))
    return answers


def refusals(answers: list[m.Message]) -> list[tuple[str, str]]:
    return [(a.code, a.about) for a in answers if isinstance(a, m.Refusal)]


# ---- who gets in -------------------------------------------------------------------------------------------


def test_a_stranger_a_forger_and_a_revoked_device_stay_out(town: Town, kiosk: Kiosk) -> None:
    """Unknown id, another's signature, a bent field: a code each, nothing written. A revoked one hears it."""
    session = Session(kiosk)
    challenge = session.next()
    assert challenge is not None
    hello = codec.decode(session.device.hear(challenge, 0)[0])
    assert isinstance(hello, m.Hello)
    writes = town.store.transactions()
    cases = [
        (msgspec.structs.replace(hello, device_id="dev-nobody"), "unknown_device"),
        (msgspec.structs.replace(hello, signature=bytes(64)), "bad_signature"),
        (msgspec.structs.replace(hello, lane=0, counter=99), "bad_signature"),
    ]
    for bent, code in cases:
        fresh = DeviceSession(town.node, town.node.hints.subscribe())
        fresh.next()
        with pytest.raises(WireFailure, match=code):
            fresh.hear(codec.encode(bent))
    assert town.store.transactions() == writes
    with town.store.write("revoke") as tx:
        tx.revoke_device(kiosk.device_id, 1)
    session.server.hear(codec.encode(hello))
    told = [codec.decode(frame) for frame in iter(session.next, None)]
    assert [type(word) for word in told] == [m.Revoked]
    assert session.server.state is State.LEAVING


def test_a_hello_to_another_nonce_is_refused(kiosk: Kiosk, town: Town) -> None:
    """A recorded Hello opens no second session."""
    session = Session(kiosk)
    challenge = session.next()
    assert challenge is not None
    hello = session.device.hear(challenge, 0)[0]
    second = DeviceSession(town.node, town.node.hints.subscribe())
    second.next()
    with pytest.raises(WireFailure, match="bad_signature"):
        second.hear(hello)


def test_nothing_is_sent_before_the_hello_but_the_challenge(kiosk: Kiosk, town: Town) -> None:
    """Also with rows and decisions waiting."""
    town.put(5)
    town.decide(ALICE, "given")
    session = Session(kiosk)
    assert isinstance(codec.decode(session.next() or b""), m.Challenge)
    assert session.next() is None
    assert session.server.state is State.CHALLENGED


def test_nobody_acknowledges_what_was_not_sent(kiosk: Kiosk) -> None:
    """A device that claims a lane position beyond ours is out of turn."""
    session = live(kiosk)
    with pytest.raises(WireFailure, match="out_of_turn"):
        session.server.hear(codec.encode(m.LaneAck(upto=77)))


# ---- what it may follow ------------------------------------------------------------------------------------


def test_a_channel_lost_since_last_time_does_not_end_the_session(town: Town, kiosk: Kiosk) -> None:
    """A channel that it holds and may not follow any more: dropped by name, once the lane is drained."""
    session = Session(kiosk)
    challenge = codec.decode(session.next() or b"")
    assert isinstance(challenge, m.Challenge)
    hello = codec.decode(session.device.hear(codec.encode(challenge), 0)[0])
    assert isinstance(hello, m.Hello)
    bent = msgspec.structs.replace(hello, cursors={"all": 0, **{f"gone:{n}": 7 for n in range(99)}})
    signature = seal.sign(kiosk.keyring.signing_key(), seal.HELLO, seal.hello_bytes(challenge.nonce, bent))
    session.server.hear(codec.encode(msgspec.structs.replace(bent, signature=signature)))
    early = [codec.decode(frame) for frame in iter(session.next, None)]
    assert [type(word) for word in early] == [m.Welcome, m.Lane]
    assert (session.server.state, session.server.backlog) == (State.DRAINING, 0)
    answers = say(session, m.LaneAck(upto=0))
    assert sum(isinstance(answer, m.Drop) for answer in answers) == 99
    assert refusals(answers) == []
    assert session.server.state is State.LIVE
    assert m.Checkpoint in {type(a) for a in answers}


def test_patterns_of_the_enrolment_say_which_shared_channels(kiosk: Kiosk) -> None:
    """`segment:*` was granted; anything else is forbidden by name, and the session goes on."""
    session = live(kiosk)
    assert refusals(say(session, m.Follow(channel="segment:gold", cursor=0))) == []
    assert refusals(say(session, m.Follow(channel="secret", cursor=0))) == [("channel_forbidden", "secret")]
    assert set(session.server.follows) == {"all", "segment:gold"}


def test_law_11_a_device_follows_so_many_channels_and_no_more(kiosk: Kiosk) -> None:
    """The fifth channel is refused; following one again is no new one."""
    session = live(kiosk)
    for n in range(3):
        assert refusals(say(session, m.Follow(channel=f"segment:{n}", cursor=0))) == []
    assert refusals(say(session, m.Follow(channel="segment:9", cursor=0))) == [
        ("channel_forbidden", "segment:9")
    ]
    assert refusals(say(session, m.Follow(channel="segment:1", cursor=0))) == []
    say(session, m.Unfollow(channel="segment:0"))
    assert refusals(say(session, m.Follow(channel="segment:9", cursor=0))) == []


def test_a_personal_channel_needs_a_ticket_or_a_decision_taken_there(town: Town, kiosk: Kiosk) -> None:
    """Without either it is forbidden; a ticket of another device, subject, purpose or time opens nothing."""
    town.decide(ALICE, "given")
    town.put_profile(ALICE)
    session = live(kiosk)
    channel = seal.personal_channel(town.pseudonym(ALICE), P)
    now_us, key = town.clock.now_us(), town.authority.signing

    def asked(ticket: bytes | None) -> list[m.Message]:
        return say(session, m.Follow(channel=channel, cursor=0, ticket=ticket))

    alice, bob = town.pseudonym(ALICE), town.pseudonym(BOB)
    me = kiosk.device_id
    wrong = [
        (None, "channel_forbidden"),
        (b"", "ticket_invalid"),
        (b"\xc1" * 50, "ticket_invalid"),
        (tickets.issue(key, "dev-other", alice, [P], now_us + 1), "ticket_invalid"),
        (tickets.issue(key, me, bob, [P], now_us + 1), "ticket_invalid"),
        (tickets.issue(key, me, alice, ["measurement"], now_us + 1), "ticket_invalid"),
        (tickets.issue(kiosk.keyring.signing_key(), me, alice, [P], now_us + 1), "ticket_invalid"),
        (tickets.issue(key, me, alice, [P], now_us), "ticket_expired"),
    ]
    for ticket, code in wrong:
        assert refusals(asked(ticket)) == [(code, channel)]
        assert channel not in session.server.follows
    answers = asked(tickets.issue(key, me, alice, [P], now_us + 1))
    assert [type(a) for a in answers] == [m.Delta, m.Checkpoint]


def test_law_1_no_channel_without_a_live_grant_and_none_after_it(town: Town, kiosk: Kiosk) -> None:
    """Before a give and after a withdrawal the channel is closed, ticket or not."""
    session = live(kiosk)
    alice, me = town.pseudonym(ALICE), kiosk.device_id
    channel = seal.personal_channel(alice, P)
    ticket = tickets.issue(town.authority.signing, me, alice, [P], town.clock.now_us() + 1)
    follow = m.Follow(channel=channel, cursor=0, ticket=ticket)
    assert refusals(say(session, follow)) == [("no_permission", channel)]
    town.decide(ALICE, "given")
    assert refusals(say(session, follow)) == []
    assert channel in session.server.follows
    town.decide(ALICE, "withdrawn")
    while session.next() is not None:
        pass
    assert channel not in session.server.follows


def test_a_malformed_channel_name_is_refused_and_nothing_else(kiosk: Kiosk) -> None:
    """Names from a stranger do not end the session of an honest device."""
    session = live(kiosk)
    for name in ("~", "~abc/personalization", "~" + "a" * 26, "~/x"):
        assert refusals(say(session, m.Follow(channel=name, cursor=0))) == [("malformed", name)]


# ---- leases ------------------------------------------------------------------------------------------------


def test_law_3_a_lease_is_stored_before_it_is_sent_and_only_for_an_enforced_lane(
    town: Town, kiosk: Kiosk
) -> None:
    """With a denial that was not acknowledged there is no lease, however often it is asked for."""
    session = live(kiosk)
    request = m.LeaseRequest(id=bytes(16), upto=town.lane_head(), cold_start="server")
    with town.store.read() as tx:
        before = tx.device(kiosk.device_id)
    assert before is not None
    assert before.lease_until_us > town.clock.now_us() + town.settings.lease_us
    town.clock.advance(seconds=60)
    town.decide(ALICE, "withdrawn")
    answers = say(session, request)
    assert refusals(answers) == [("lane_behind", bytes(16).hex())]
    assert (
        refusals(say(session, m.LeaseRequest(id=bytes(16), upto=town.lane_head(), cold_start="server"))) != []
    )
    with town.store.read() as tx:
        after = tx.device(kiosk.device_id)
    assert after == before
    say(session, m.LaneAck(upto=town.lane_head()))
    granted = say(session, m.LeaseRequest(id=bytes(16), upto=town.lane_head(), cold_start="server"))
    assert [type(a) for a in granted] == [m.Lease]


def test_a_device_revoked_in_mid_session_gets_no_lease_and_is_sent_away(town: Town, kiosk: Kiosk) -> None:
    """Where no hint of it came, its next request, for a lease or a channel, is answered so, and no other."""
    sessions = [live(kiosk), live(kiosk)]
    town.store._listeners.clear()
    with town.store.write("revoke") as tx:
        tx.revoke_device(kiosk.device_id, 1)
    requests: tuple[m.Message, ...] = (
        m.LeaseRequest(id=bytes(16), upto=0, cold_start="server"),
        m.Follow(channel="all", cursor=0),
    )
    for session, message in zip(sessions, requests, strict=True):
        assert [type(answer) for answer in say(session, message)] == [m.Revoked]
        assert say(session, message) == []
        assert session.server.follows == ()


# ---- snapshots ---------------------------------------------------------------------------------------------


def test_a_cursor_below_the_floor_or_beyond_the_head_gets_a_replacing_snapshot(
    town: Town, kiosk: Kiosk
) -> None:
    """Nothing whose delete is forgotten may stay on the device; a cursor from the future is none."""
    town.put(25)
    town.forget(3)
    session = live(kiosk)
    head: ChannelHead = town.node.fanout.head("all")
    assert head.floor == head.seq
    for cursor, replacing in [(0, True), (head.floor - 1, True), (head.seq + 5, True)]:
        first = say(session, m.Follow(channel="all", cursor=cursor))[0]
        assert isinstance(first, m.Delta)
        assert (first.replacing, first.base) == (replacing, 0)
    assert [type(a) for a in say(session, m.Follow(channel="all", cursor=head.seq))] == [m.Checkpoint]


def test_a_snapshot_goes_on_when_the_floor_was_there_before_and_starts_over_when_it_rises(
    town: Town, kiosk: Kiosk
) -> None:
    """One replacing frame per snapshot, and a second one only when a delete was forgotten in mid-snapshot."""
    town.put(40)
    town.forget(3)
    session = Session(kiosk)
    session.open()
    while len(session.heard_of(m.Delta)) < 2:
        session.step()
    town.forget(0)  # it was sent already
    session.settle()
    deltas = [d for d in session.heard_of(m.Delta) if isinstance(d, m.Delta)]
    assert [d.replacing for d in deltas if d.channel == "all"] == [True, False, True, False, False, False]
    assert kiosk.stand() == town.head()
    assert "item:0" not in kiosk.rows()
    assert len(kiosk.rows()) == 38


def test_an_empty_channel_is_caught_up_too(kiosk: Kiosk) -> None:
    """A replacing frame without rows, and a checkpoint of nothing."""
    session = live(kiosk)
    assert [type(h) for h in session.heard][-2:] == [m.Delta, m.Checkpoint]
    assert session.device.caught_up


# ---- handing up --------------------------------------------------------------------------------------------


def test_law_11_consents_of_one_device_have_a_rate_and_denials_have_none(town: Town, kiosk: Kiosk) -> None:
    """After three gives in an hour the next is refused; a withdrawal is always taken."""
    for n in range(5):
        kiosk.give(f"user:u{n}")
    session = live(kiosk)
    codes = [r.code for r in session.heard_of(m.Refusal) if isinstance(r, m.Refusal)]
    assert codes.count("overloaded") == 2
    kiosk.consents.withdraw("user:u4")
    session.settle()
    with town.store.read() as tx:
        assert tx.decision_state(town.pseudonym("user:u4"), P).state == "withdrawn"
        assert tx.decision_state(town.pseudonym("user:u0"), P).state == "given"


def test_law_6_at_its_limit_a_device_that_repeats_a_give_gets_the_old_answer(
    town: Town, kiosk: Kiosk
) -> None:
    """What stands in the ledger is said again; denials use up nothing of the limit."""
    session = live(kiosk)
    said = [given_decision(town, n) for n in range(3)]
    refused = [given_decision(town, n, state="refused") for n in range(3, 9)]
    say(session, m.Decisions(decisions=refused))
    first = [a for a in say(session, m.Decisions(decisions=said)) if isinstance(a, m.DecisionAck)]
    assert [a.outcome for a in first] == ["recorded"] * 3
    again = say(session, m.Decisions(decisions=[*said, given_decision(town, 9)]))
    assert [a for a in again if isinstance(a, m.DecisionAck)] == first
    assert refusals(again) == [("overloaded", bytes([9] * 16).hex())]


def test_law_2_a_base_from_the_future_opens_nothing_and_hinders_no_denial(town: Town, kiosk: Kiosk) -> None:
    """A give that claims to have seen denials to come is refused; a withdrawal is always accepted."""
    session, future = live(kiosk), 2**62
    answers = say(session, m.Decisions(decisions=[given_decision(town, 1, base=future)]))
    assert refusals(answers) == [("malformed", bytes([1] * 16).hex())]
    answers = say(session, m.Decisions(decisions=[given_decision(town, 2, state="withdrawn", base=future)]))
    assert [a.outcome for a in answers if isinstance(a, m.DecisionAck)] == ["recorded"]


def given_decision(town: Town, n: int, *, state: str = "given", base: int = 0) -> m.Decision:
    return m.Decision(bytes([n] * 16), town.pseudonym(f"user:{n}"), P, state, "2026-11", base, 1)


def test_law_3_no_lease_names_a_position_that_was_not_sent(kiosk: Kiosk) -> None:
    """The server does not sign what a device makes up."""
    session = live(kiosk)
    with pytest.raises(WireFailure, match="out_of_turn"):
        session.server.hear(codec.encode(m.LeaseRequest(id=bytes(16), upto=2**62, cold_start="server")))


def test_law_3_an_acknowledgement_that_goes_back_takes_nothing_back(town: Town, kiosk: Kiosk) -> None:
    """The newest position stays enforced, and saying it again writes nothing."""
    town.decide(ALICE, "withdrawn")
    session = live(kiosk)
    writes = town.store.transactions()["lane_ack"]
    for upto in (town.lane_head(), 0, town.lane_head()):
        say(session, m.LaneAck(upto=upto))
    assert town.store.transactions()["lane_ack"] == writes
    with town.store.read() as tx:
        device = tx.device(kiosk.device_id)
    assert device is not None
    assert device.lane_acked == town.lane_head()


def test_a_decision_with_a_state_nobody_knows_is_refused_by_its_id(kiosk: Kiosk, town: Town) -> None:
    """The others of the batch stand."""
    session = live(kiosk)
    alice = town.pseudonym(ALICE)
    batch = [
        m.Decision(bytes(15) + b"1", alice, P, "maybe", "n", 0, 0),
        m.Decision(bytes(15) + b"2", alice, P, "given", "n", 0, 0),
    ]
    answers = say(session, m.Decisions(decisions=batch))
    assert refusals(answers) == [("malformed", batch[0].id.hex())]
    assert [a.outcome for a in answers if isinstance(a, m.DecisionAck)] == ["recorded"]


def test_a_receipt_that_may_not_stand_is_refused_by_its_id(kiosk: Kiosk) -> None:
    """Nonsense ends the session; a receipt with a wrong signature is named and the session goes on."""
    session = live(kiosk)
    with pytest.raises(WireFailure, match="malformed"):
        session.server.hear(codec.encode(m.ReceiptNote(receipt=b"\x80", signature=bytes(64))))
    receipt = kiosk.consents.withdraw(ALICE)
    forged = m.ReceiptNote(receipt=receipt.body, signature=bytes(64))
    assert refusals(say(session, forged)) == [("bad_signature", receipt.receipt.id.hex())]
