"""May this enter? Pure decisions, tried at their edges."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.sync import gate
from edge_runtime.sync.gate import Action, Match, Personal, Plain
from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import TABLE, Side, State
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.refusal import CODES
from tests.support.shop import shop_catalog

SHOP = shop_catalog().model
KEY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x05")
SERVER = seal.public_bytes(KEY)
SUBJECT = bytes(range(16))
TOKEN = seal.subject_token(SUBJECT)
CHANNEL = Personal(f"{TOKEN}/personalization", SUBJECT, "personalization")
ALL = Plain("all")

CHALLENGE = m.Challenge(nonce=bytes(32), incarnation=bytes(16), server_time_us=1, speaks=[1])
HELLO = m.Hello(
    device_id="dev",
    nonce=b"n" * 32,
    pinned=SERVER,
    lane=5,
    counter=3,
    catalog="shop@1",
    cursors={},
    signature=bytes(64),
)


def welcome(**changes: object) -> m.Welcome:
    fields: dict[str, object] = {
        "nonce": HELLO.nonce,
        "lane_head": 5,
        "counter": 3,
        "ping_us": 1,
        "server_time_us": 1,
        "succession": [],
        "restores": [],
        **changes,
    }
    unsigned = m.Welcome(signature=bytes(64), **fields)  # type: ignore[arg-type]
    body = seal.welcome_bytes("dev", CHALLENGE, unsigned)
    return msgspec.structs.replace(unsigned, signature=seal.sign(KEY, seal.WELCOME, body))


def judged(said: m.Welcome, incarnation: bytes | None = None) -> gate.Standing:
    return gate.check_welcome(said, CHALLENGE, HELLO, SERVER, incarnation)


# ---- the server --------------------------------------------------------------------------------------------


def test_law_3_only_the_pinned_key_over_our_own_nonce_is_a_welcome() -> None:
    """Another nonce, another key, another device or a bent field is refused."""
    assert judged(welcome()) == gate.Standing(rolled_back=False, restored=False, kept=None, server_key=SERVER)
    with pytest.raises(WireFailure, match="bad_nonce"):
        judged(welcome(nonce=b"o" * 32))
    with pytest.raises(WireFailure, match="bad_signature"):
        judged(msgspec.structs.replace(welcome(), lane_head=6))
    with pytest.raises(WireFailure, match="bad_signature"):
        gate.check_welcome(welcome(), CHALLENGE, HELLO, bytes(range(32)), None)
    other = msgspec.structs.replace(CHALLENGE, incarnation=b"i" * 16)
    with pytest.raises(WireFailure, match="bad_signature"):
        gate.check_welcome(welcome(), other, HELLO, SERVER, None)


def test_a_shorter_lane_a_higher_counter_and_a_new_incarnation_are_noticed() -> None:
    """A server that lost decisions is refused; our own rollback and its restore are told apart."""
    with pytest.raises(WireFailure, match="rolled_back"):
        judged(welcome(lane_head=4))
    assert judged(welcome(counter=4)).rolled_back
    assert not judged(welcome(counter=2)).rolled_back
    assert judged(welcome(), b"i" * 16).restored
    assert not judged(welcome(), CHALLENGE.incarnation).restored


# ---- lane --------------------------------------------------------------------------------------------------


def entry(seq: int) -> m.LaneEntry:
    return m.LaneEntry(seq, SUBJECT, "personalization", "given", seq, 0)


@pytest.mark.parametrize(
    ("seqs", "upto", "fits"),
    [
        ([], 7, True),
        ([], 8, True),
        ([8, 9], 9, True),
        ([8, 11], 20, True),
        ([7], 9, False),
        ([8, 8], 9, False),
        ([9, 8], 9, False),
        ([8, 9], 8, False),
        ([], 6, False),
    ],
)
def test_the_lane_goes_on_in_order_from_where_we_stand(seqs: list[int], upto: int, fits: bool) -> None:
    """At position 7: nothing old, nothing twice, nothing backwards."""
    lane = m.Lane(base=7, entries=[entry(seq) for seq in seqs], upto=upto, more=False)
    if fits:
        gate.check_lane(lane, 7)
        return
    with pytest.raises(WireFailure, match="malformed"):
        gate.check_lane(lane, 7)


@pytest.mark.parametrize("base", [6, 8])
def test_a_lane_with_a_gap_and_one_that_comes_again_are_stale(base: int) -> None:
    """A frame that was left out on the way may have held a denial."""
    with pytest.raises(WireFailure, match="stale_delta"):
        gate.check_lane(m.Lane(base=base, entries=[entry(9)], upto=9, more=False), 7)


@pytest.mark.parametrize(("seqs", "upto"), [([], 8), ([], 7), ([8], 9)])
def test_a_lane_that_goes_on_ends_at_its_last_entry(seqs: list[int], upto: int) -> None:
    """Else nobody could say where the next frame begins."""
    with pytest.raises(WireFailure, match="malformed"):
        gate.check_lane(m.Lane(base=7, entries=[entry(s) for s in seqs], upto=upto, more=True), 7)


# ---- deltas ------------------------------------------------------------------------------------------------


def row(seq: int = 1, **changes: object) -> m.Row:
    plain = m.Row(seq, "item:1", "item_stats", 1, 0, 0, 0, False, codec.pack({"popularity": 0.5}))
    return msgspec.structs.replace(plain, **changes)


def personal_row(**changes: object) -> m.Row:
    fields: dict[str, object] = {
        "entity": TOKEN,
        "view": "profile",
        "grant": 9,
        "values": codec.pack({"country": "DE"}),
        **changes,
    }
    return msgspec.structs.replace(row(), **fields)


def delta(base: int, upto: int, *seqs: int, epoch: int = 0, replacing: bool = False) -> m.Delta:
    rows = [row(seq) for seq in seqs]
    return m.Delta(
        channel="all", base=base, upto=upto, epoch=epoch, replacing=replacing, more=False, rows=rows
    )


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (delta(10, 12, 11, 12), None),
        (delta(10, 20), None),
        (delta(0, 12, 3, 12, replacing=True), None),
        (delta(9, 12), "stale_delta"),
        (delta(11, 12), "stale_delta"),
        (delta(0, 12), "stale_delta"),
        (delta(10, 12, replacing=True), "stale_delta"),
        (delta(10, 12, epoch=8), "lane_behind"),
        (delta(9, 12, epoch=8), "lane_behind"),
        (delta(10, 12, 10), "malformed"),
        (delta(10, 12, 13), "malformed"),
        (delta(10, 12, 12, 11), "malformed"),
        (delta(10, 12, 11, 11), "malformed"),
        (delta(10, 9), "malformed"),
    ],
)
def test_a_delta_starts_at_our_cursor_and_goes_forward(said: m.Delta, code: str | None) -> None:
    """At cursor 10 and lane 7: the base, the epoch and the order of rows are all judged before any row."""
    if code is None:
        gate.check_delta(said, 10, 7)
        return
    with pytest.raises(WireFailure, match=code):
        gate.check_delta(said, 10, 7)


# ---- rows --------------------------------------------------------------------------------------------------


def test_law_2_a_row_of_another_grant_leaves_only_its_hash() -> None:
    """Older or newer grants, or a key the ledger has not numbered: a stub, also for a delete."""
    assert gate.judge(personal_row(), CHANNEL, SHOP, 9).action is Action.KEEP
    for grant in (8, 10, 0):
        verdict = gate.judge(personal_row(), CHANNEL, SHOP, grant)
        assert (verdict.action, verdict.values, verdict.reason) == (Action.STUB, b"", "another grant")
    assert gate.judge(personal_row(grant=0), CHANNEL, SHOP, 0).action is Action.STUB
    assert gate.judge(personal_row(deleted=True), CHANNEL, SHOP, 8).action is Action.STUB


@pytest.mark.parametrize(
    "wrong",
    [
        row(entity="user:alice"),
        row(entity="user:alice|item:1"),
        row(entity=TOKEN),
        row(grant=3),
        row(view="profile"),
        row(view="nobody_knows", entity="user:alice"),
        row(entity=TOKEN, deleted=True),
    ],
)
def test_law_5_nothing_personal_in_a_shared_channel(wrong: m.Row) -> None:
    """A typed id, a token, a grant or a personal view there is a fault of the server."""
    with pytest.raises(WireFailure, match="no_permission"):
        gate.judge(wrong, ALL, SHOP, 0)


def test_law_1_a_personal_channel_holds_one_subject_and_one_purpose() -> None:
    """Another subject's row, a row about nobody, or a view of another purpose refuses the delta."""
    other = seal.subject_token(bytes(16))
    for wrong in (personal_row(entity=other), personal_row(entity="item:1"), personal_row(view="item_stats")):
        with pytest.raises(WireFailure, match="no_permission"):
            gate.judge(wrong, CHANNEL, SHOP, 9)
    both = gate.judge(personal_row(entity=f"{TOKEN}|item:1"), CHANNEL, SHOP, 9)
    assert both.action is Action.KEEP


def test_what_the_catalog_does_not_know_is_a_stub_and_what_does_not_fit_is_dropped() -> None:
    """The digest can still add up; no value of a wrong type gets in; None is a value."""
    assert gate.judge(row(view="unknown"), ALL, SHOP, 0).action is Action.STUB
    assert gate.judge(row(version=2), ALL, SHOP, 0).action is Action.STUB
    mixed = row(values=codec.pack({"popularity": "high", "co_bought": {"a": 1.0}, "else": 1}))
    verdict = gate.judge(mixed, ALL, SHOP, 0)
    assert (verdict.action, verdict.reason) == (Action.KEEP, "does not fit")
    assert codec.unpack(verdict.values, 100) == {"co_bought": {"a": 1.0}}
    unset = row(values=codec.pack({"popularity": None}))
    assert gate.judge(unset, ALL, SHOP, 0).values == unset.values


@pytest.mark.parametrize("number", [-0.001, 1.001, 2, -1])
def test_a_number_out_of_the_catalogs_range_is_dropped(number: float) -> None:
    """The server's catalog may allow what this one does not; the bounds themselves are in."""
    mixed = row(values=codec.pack({"popularity": number, "co_bought": {"a": 1.0}}))
    verdict = gate.judge(mixed, ALL, SHOP, 0)
    assert (verdict.action, verdict.reason) == (Action.KEEP, "does not fit")
    assert codec.unpack(verdict.values, 100) == {"co_bought": {"a": 1.0}}
    for edge in (0, 0.0, 1, 1.0):
        assert not gate.judge(row(values=codec.pack({"popularity": edge})), ALL, SHOP, 0).reason


def test_a_value_that_the_catalog_does_not_list_is_dropped() -> None:
    """A country that no model was trained on never reaches one."""
    wrong, right = (personal_row(values=codec.pack({"country": named})) for named in ("XX", "FR"))
    assert gate.judge(wrong, CHANNEL, SHOP, 9).values == b"\x80"
    assert gate.judge(right, CHANNEL, SHOP, 9).values == right.values


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xc1", b"\x90", b"\xc0", b"\x81\x01\x02", b"\xdf\xff\xff\xff\xff", b"\x81\xa1x", b"\x80\x80"],
)
def test_values_that_are_no_map_leave_an_empty_row(raw: bytes) -> None:
    """Damaged values are none; nothing crashes and nothing is guessed."""
    verdict = gate.judge(row(values=raw), ALL, SHOP, 0)
    assert (verdict.values, verdict.reason) == (b"\x80", "does not fit")


def test_nan_and_infinity_are_not_values() -> None:
    """They would poison every sum that touches them."""
    for number in (float("nan"), float("inf"), -float("inf")):
        assert gate.judge(row(values=codec.pack({"popularity": number})), ALL, SHOP, 0).values == b"\x80"


@given(
    st.dictionaries(st.sampled_from(["popularity", "co_bought", "x"]), st.floats() | st.text() | st.none())
)
def test_what_is_kept_is_a_part_of_what_was_sent(values: dict[str, object]) -> None:
    """Nothing is invented, and judging what was kept drops nothing more."""
    verdict = gate.judge(row(values=codec.pack(values)), ALL, SHOP, 0)
    kept = codec.unpack(verdict.values, 65_536)
    assert isinstance(kept, dict)
    assert kept.items() <= values.items()
    assert gate.judge(row(values=verdict.values), ALL, SHOP, 0).reason == ""


# ---- channels and checkpoints ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["~", "~x/p", f"{TOKEN}", f"{TOKEN}/", f"{TOKEN.upper()}/p"])
def test_a_personal_name_is_a_token_and_a_purpose(name: str) -> None:
    """Anything else that begins like one is malformed."""
    with pytest.raises(WireFailure, match="malformed"):
        gate.channel_of(name)


def test_channel_names_read_back() -> None:
    """Shared and personal names."""
    assert gate.channel_of("segment:gold") == Plain("segment:gold")
    assert gate.channel_of(f"{TOKEN}/personalization") == CHANNEL
    assert CHANNEL.token == TOKEN


def test_a_checkpoint_speaks_only_of_its_seq_and_under_its_key() -> None:
    """Equal, different, or about another cursor; a forged one is refused whatever it says."""
    unsigned = m.Checkpoint(
        channel="all", seq=7, digest=(99).to_bytes(16, "big"), whole=True, signature=bytes(64)
    )
    signature = seal.sign(KEY, seal.CHECKPOINT, seal.checkpoint_bytes(unsigned))
    signed = msgspec.structs.replace(unsigned, signature=signature)
    assert gate.check_checkpoint(signed, SERVER, 7, 99) is Match.EQUAL
    assert gate.check_checkpoint(signed, SERVER, 7, 98) is Match.DIFFERENT
    assert gate.check_checkpoint(signed, SERVER, 6, 99) is Match.ELSEWHERE
    for forged in (unsigned, msgspec.structs.replace(signed, channel="other")):
        with pytest.raises(WireFailure, match="bad_signature"):
            gate.check_checkpoint(forged, SERVER, 7, 99)


def test_law_11_repairs_are_counted_by_the_hour() -> None:
    """The fourth within an hour is too many; an hour after the first there is room again."""
    hour = 3_600_000_000
    repairs = {"all": [0, 10, 20]}
    assert not gate.may_repair(repairs, "all", hour - 1, 3)
    assert gate.may_repair(repairs, "all", hour, 3)
    assert gate.may_repair(repairs, "other", 30, 3)
    assert gate.may_repair({"all": [9 * hour] * 3}, "all", hour, 3), "of before the boot clock went back"


# ---- the table ---------------------------------------------------------------------------------------------


def test_every_message_of_the_server_has_an_entry_in_every_state() -> None:
    """Where the conversation's table is blank it is out of turn; elsewhere only known codes are asked."""
    kinds = {kind for side, _, kind in TABLE if side is Side.SERVER}
    for state in State:
        for kind in kinds:
            found = gate.entry(state, kind)
            after = TABLE.get((Side.SERVER, state, kind))
            assert found.after is after
            assert (found.code == "out_of_turn") == (after is None)
            assert bool(found.reason) == (after is None)
            assert found.checks == (() if after is None else gate.CHECKS.get(kind, ()))
    assert set(gate.CHECKS) <= kinds
    for checks in gate.CHECKS.values():
        assert {check.code for check in checks} <= set(CODES)
        assert len({(check.code, check.why) for check in checks}) == len(checks)


def test_a_message_of_the_device_is_never_the_server_s() -> None:
    """It is out of turn in every state, and the state stays."""
    mine = {kind for side, _, kind in TABLE if side is Side.DEVICE} - {m.Refusal}
    assert all(gate.entry(state, kind).after is None for state in State for kind in mine)


def test_reasons_of_rows_are_in_their_table() -> None:
    """What `judge` says of a row is one of them, or nothing."""
    rows: list[tuple[m.Row, gate.Channel]] = [
        (m.Row(1, TOKEN, "profile", 1, 1, 1, 9, False, b"\x80"), CHANNEL),
        (m.Row(1, "item:x", "nobody_knows", 1, 1, 1, 0, False, b"\x80"), ALL),
        (m.Row(1, "item:x", "item_stats", 1, 1, 1, 0, False, b"\x81\xa1x\x01"), ALL),
        (m.Row(1, "item:x", "item_stats", 1, 1, 1, 0, True, b""), ALL),
    ]
    assert [gate.judge(row, channel, SHOP, 1).reason for row, channel in rows] == list(gate.ROWS)


# ---- a restored server -------------------------------------------------------------------------------------


def restored(*at_us: int, kept: int = 5) -> list[m.Restore]:
    """The restores that led to an incarnation; the last one to that of the Challenge."""
    named = [*(bytes([at % 256]) * 16 for at in at_us[:-1]), CHALLENGE.incarnation]
    return [m.Restore(name, kept, at) for name, at in zip(named, at_us, strict=True)]


def test_what_two_incarnations_have_in_common_is_the_least_that_any_restore_between_them_kept() -> None:
    """A first restore, one after it, and one from a backup of before."""
    before = b"i" * 16
    first = gate.check_welcome(welcome(restores=restored(7)), CHALLENGE, HELLO, SERVER, before, [])
    assert (first.restored, first.kept) == (True, 5)
    again = gate.check_welcome(
        welcome(restores=restored(7, 9, kept=3)), CHALLENGE, HELLO, SERVER, before, restored(7, 9)[:1]
    )
    assert again.kept == 3
    same = gate.check_welcome(
        welcome(restores=restored(7)), CHALLENGE, HELLO, SERVER, CHALLENGE.incarnation, restored(7)
    )
    assert (same.restored, same.kept) == (False, None)


def test_law_2_of_two_servers_that_live_the_one_restored_last_is_the_server() -> None:
    """Who met the later one hears neither the one of before nor another restored earlier."""
    later = [m.Restore(b"l" * 16, 5, 9)]
    for older in ([], restored(7), restored(9)):
        with pytest.raises(WireFailure, match="older_incarnation"):
            gate.check_welcome(welcome(restores=older), CHALLENGE, HELLO, SERVER, b"l" * 16, later)
    gate.check_welcome(welcome(restores=restored(10)), CHALLENGE, HELLO, SERVER, b"l" * 16, later)
