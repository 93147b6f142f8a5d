"""Laws that hold twice on the device are held to each half alone: one guard gone must not go unnoticed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgpack
import msgspec
import pytest

import edge_runtime as er
from edge_runtime.cache.database import Database
from edge_runtime.cache.journal_entry import JournalRow
from edge_runtime.cache.stored_state import Snapshot
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.catalog import Catalog
from edge_runtime.errors import StorageFull
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.slot import decode
from edge_runtime.keys.vault import Step, no_step
from edge_runtime.session.admission import Admission
from edge_runtime.session.event import Event
from edge_runtime.session.operators.keyed import CountMap
from edge_runtime.session.plan import compile_catalog
from edge_runtime.sync.shelf import PersonalShelf
from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from tests.support import aggregate_ends
from tests.support.clock import ManualClock
from tests.support.consent_room import Room
from tests.support.shop import BASE_US, SHOP, shop_catalog
from tests.support.streams import CATALOG, LATENESS_US, SECOND, START_US, every_operator
from tests.support.town import Kiosk, Town

P = "personalization"
ITEM, CATEGORY = "canary-item-0815", "canary-category-4711"
NEVER_BY_ITSELF = er.Settings(commit_interval_us=3_600_000_000)
"""The group commit's timer stays out of it: what reaches the disk does so because somebody asked."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BASE_US)


def open_at(folder: Path, clock: ManualClock, settings: er.Settings = NEVER_BY_ITSELF) -> er.Runtime:
    return er.Runtime.open(
        folder / "cache.db",
        catalog=shop_catalog(),
        key=er.KeyFile(folder / "device.key"),
        clock=clock,
        settings=settings,
    )


def shopping(rt: er.Runtime, clock: ManualClock, count: int) -> None:
    for n in range(count):
        clock.advance(seconds=1)
        assert rt.track("view", user="alice", item=ITEM, category=CATEGORY, id=f"e{n}") is er.ACCEPTED


@contextmanager
def after_power_loss(folder: Path, away: Path, clock: ManualClock) -> Iterator[er.Runtime]:
    """What opens if the power goes now: another process copies the files as they stand."""
    shutil.rmtree(away, ignore_errors=True)
    subprocess.run(["cp", "-r", str(folder), str(away)], check=True)
    with open_at(away, clock) as rt:
        yield rt


# ---- law 6: acknowledged ---------------------------------------------------------------------------------


def test_law_6_a_flush_that_returned_is_on_the_disk(tmp_path: Path, clock: ManualClock) -> None:
    folder = tmp_path / "kiosk"
    folder.mkdir()
    with open_at(folder, clock) as rt:
        rt.consent.give("alice", [P], notice="n")
        shopping(rt, clock, 5)
        with after_power_loss(folder, tmp_path / "before", clock) as copy:
            assert copy.read("activity:views", user="alice").value == 0
        rt.flush()
        with after_power_loss(folder, tmp_path / "after", clock) as copy:
            assert copy.read("activity:views", user="alice").value == 5
            assert copy.track("view", user="alice", item=ITEM, id="e4") is er.DUPLICATE


def test_law_6_a_full_disk_keeps_the_events_for_the_next_flush(tmp_path: Path, clock: ManualClock) -> None:
    folder = tmp_path / "kiosk"
    folder.mkdir()
    with open_at(folder, clock) as rt:
        rt.consent.give("alice", [P], notice="n")
        opened = rt._database._opened
        assert opened is not None
        roomy = opened.connection.pragma("max_page_count")
        opened.connection.pragma("max_page_count", opened.connection.pragma("page_count"))
        shopping(rt, clock, 400)
        for _ in range(2):
            with pytest.raises(StorageFull):
                rt.flush()
        opened.connection.pragma("max_page_count", roomy)
        rt.flush()
        with after_power_loss(folder, tmp_path / "after", clock) as copy:
            assert copy.read("activity:views", user="alice").value == 400


def test_law_6_rows_and_cursor_move_in_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed where the cursor is about to move: not a row of the frame is there."""
    town = Town(tmp_path / "town")
    kiosk = Kiosk(town, tmp_path / "kiosk")
    rows = [msgspec.structs.replace(town.item_row(n), seq=n + 1) for n in range(3)]
    delta = m.Delta(channel="all", base=0, upto=3, epoch=0, replacing=True, more=False, rows=rows)

    def killed(*_: object, **_named: object) -> None:
        raise StorageFull("the power goes")

    with monkeypatch.context() as patch:
        patch.setattr(WriteTransaction, "set_channel", killed)
        with pytest.raises(StorageFull):
            kiosk.replica.apply(delta)
    assert kiosk.rows() == {}
    assert kiosk.replica.apply(delta).kept == 3
    assert (kiosk.stand()[0], len(kiosk.rows())) == (3, 3)
    kiosk.close()
    town.close()


# ---- laws 4 and 5: what rests and what is gone -----------------------------------------------------------


def test_law_5_events_and_states_rest_sealed_under_their_subjects_key(
    tmp_path: Path, clock: ManualClock
) -> None:
    """With the page key in hand, and no data key, no table shows whose, what or when."""
    with open_at(tmp_path, clock) as rt:
        rt.consent.give("alice", [P], notice="n")
        shopping(rt, clock, 700)  # more than one snapshot
    page_key = decode((tmp_path / "device.key").read_bytes()).page_key
    database = Database.open(str(tmp_path / "cache.db"), page_key)
    opened = database._opened
    assert opened is not None
    names = [str(row[0]) for row in opened.connection.execute("SELECT name FROM sqlite_schema")]
    found = {
        name: [value for row in opened.connection.execute(f'SELECT * FROM "{name}"') for value in row]
        for name in names
        if name in ("journal", "state", "personal", "meta", "outbox", "trimmed")
    }
    database.close()
    assert sum(len(value) for value in found["journal"] if isinstance(value, bytes)) > 700 * 50
    assert found["state"]
    text = b"\x00".join(v if isinstance(v, bytes) else str(v).encode() for vs in found.values() for v in vs)
    for needle in (ITEM, CATEGORY, "alice", "e699"):
        assert needle.encode() not in text, needle


def test_law_4_an_erasure_empties_memory_and_the_group_commit_too(tmp_path: Path, clock: ManualClock) -> None:
    """The key is gone, so nothing could be read; all the same nothing is left lying, and the receipt says."""
    with open_at(tmp_path, clock) as rt:
        rt.consent.give("alice", [P], notice="n")
        rt.consent.give("bob", [P], notice="n")
        shopping(rt, clock, 3)
        rt.track("view", user="bob", item=ITEM)
        assert rt.status()["states_in_memory"] == 2
        receipt = rt.consent.withdraw("alice", [P])
        assert rt.status()["states_in_memory"] == 1
        assert rt._commit.size == 1
        assert receipt.receipt.rows_deleted["pending"] == 3
        assert receipt.receipt.rows_deleted["memory"] >= 1
        assert rt.read("activity:views", user="bob").value == 1


def test_law_4_a_receipt_does_not_claim_what_the_canary_denies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the key were still there after all its steps, the receipt would say that the sample opens."""
    (tmp_path / "spared").mkdir()
    with Room(tmp_path / "spared") as room:
        room.consents.give("alice", [P], notice="v1")

        def spared(denials: Sequence[Denial], step: Step = no_step) -> list[Denial]:
            return [msgspec.structs.replace(d, held=1, counter_before=0, counter_after=1) for d in denials]

        with monkeypatch.context() as patch:
            patch.setattr(room.keyring, "destroy", spared)
            assert room.consents.withdraw("alice", [P]).receipt.canary_unreadable is False
    with Room(tmp_path) as room:
        room.consents.give("bob", [P], notice="v1")
        assert room.consents.withdraw("bob", [P]).receipt.canary_unreadable is True


@pytest.mark.parametrize("name", ["alice", "a|b", "|", "user:x|item:y", "\x00", "\u202ebidi"])
def test_law_2_a_row_read_before_a_withdrawal_is_not_read_after_a_new_give(
    tmp_path: Path, clock: ManualClock, name: str
) -> None:
    """What was decoded into memory under the older grant goes with it, whatever the subject is called."""
    subject = f"user:{name}"
    with open_at(tmp_path, clock) as rt:
        rt.consent.give(subject, [P], notice="n")
        key = rt._keyring.key(subject, P)
        assert key is not None
        token = seal.subject_token(rt._keyring.pseudonym(subject))
        values = msgpack.packb({"country": "FR"})
        row = m.Row(1, token, "profile", 1, clock.now_us(), clock.now_us(), 1, False, values)
        with rt._database.write("row") as tx:
            shelf = PersonalShelf(tx, key)
            shelf.put([row], [bytes(16)])
            shelf.move(1, 0)
        assert rt.read("profile:country", user=name).value == "FR"
        rt.consent.withdraw(subject, [P])
        assert rt.read("profile:country", user=name).status is er.Status.REVOKED
        rt.consent.give(subject, [P], notice="n")
        assert rt.read("profile:country", user=name).value != "FR"


PAIRS = """
[views.pairs]
version = 1
entity = ["user", "item"]
source = "session"
purpose = "personalization"
ttl = "30d"
owner = "growth"
[views.pairs.features]
views = { op = "count", event = "view" }

[services.ranker]"""


@pytest.mark.parametrize("name", ["a|b", "a|", "|item", "user:x"])
def test_law_1_in_a_pair_too_permission_is_asked_for_the_subject_itself(
    tmp_path: Path, clock: ManualClock, name: str
) -> None:
    """An id may hold the sign that joins a pair: nobody is taken for somebody else, whose yes it is not."""
    with er.Runtime.open(
        tmp_path / "cache.db",
        catalog=Catalog.from_toml(SHOP.replace("[services.ranker]", PAIRS.strip("\n"), 1)),
        key=er.KeyFile(tmp_path / "device.key"),
        clock=clock,
        settings=NEVER_BY_ITSELF,
    ) as rt:
        rt.consent.give("user:a", [P], notice="n")
        rt.consent.give("user:user", [P], notice="n")
        found = rt.read("pairs:views", user=name, item="x|y")
        assert (found.status, found.value) == (er.Status.REVOKED, None)
        rt.consent.give(f"user:{name}", [P], notice="n")
        assert rt.track("view", user=name, item="x|y") is er.ACCEPTED
        assert rt.read("pairs:views", user=name, item="x|y").value == 1
        # a key that can be read as two subjects' is nobody's
        odd = rt.read("pairs:views", user=f"{name}|item:x", item="y")
        assert odd.status is er.Status.REVOKED


def test_law_4_a_batch_on_its_way_to_the_disk_leaves_out_whom_a_withdrawal_overtook(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between taking the batch and writing it a key dies: no row is written under its handle."""
    with open_at(tmp_path, clock) as rt:
        for subject in ("alice", "bob"):
            rt.consent.give(subject, [P], notice="n")
            rt.track("view", user=subject, item=ITEM)
        write = rt._commit._write

        def overtaken(batch: list[JournalRow], snapshots: list[Snapshot]) -> None:
            rt.consent.withdraw("alice", [P])
            write(batch, snapshots)

        with monkeypatch.context() as patch:
            patch.setattr(rt._commit, "_write", overtaken)
            rt.flush()
        bob = rt._keyring.key("user:bob", P)
        assert bob is not None
        with rt._database.read() as tx:
            assert tx.handles() == {bob.handle}
            assert len(tx.events(bob.handle)) == 1


# ---- law 7: never half known -----------------------------------------------------------------------------


def test_law_7_a_changed_feature_warms_until_its_window_is_whole(tmp_path: Path, clock: ManualClock) -> None:
    """The journal reaches back 7 days: a new 9-day window is WARMING, with its default, until 9 days on."""
    day = 86_400
    with open_at(tmp_path, clock) as rt:
        rt.consent.give("alice", [P], notice="n")
        for _ in range(12):
            clock.advance(seconds=day)
            for _ in range(60):
                rt.track("view", user="alice", item=ITEM)
            rt.flush()
    with open_at(tmp_path, clock) as rt:
        assert rt.read("activity:views", user="alice").status is er.Status.PRESENT
        assert rt.read("activity:views", user="alice").value == 720
    text = SHOP.replace("version = 1\n\n[purposes", "version = 2\n\n[purposes", 1)
    features = text.index("[views.activity.features]")
    until = text.index("[views.habits]")
    nine = '[views.activity.features]\nviews_9d = { op = "count", event = "view", window = "9d" }\n\n'
    services = text.index("[services.ranker]"), text.index("[metrics.")
    text = text[:features] + nine + text[until : services[0]] + text[services[1] :]
    changed = Catalog.from_toml(text)
    with er.Runtime.open(
        tmp_path / "cache.db",
        catalog=changed,
        key=er.KeyFile(tmp_path / "device.key"),
        clock=clock,
        settings=NEVER_BY_ITSELF,
    ) as rt:
        first = rt.read("activity:views_9d", user="alice")
        assert first.status is er.Status.WARMING
        assert first.complete_from is not None
        clock.advance(seconds=1 * day)
        assert rt.read("activity:views_9d", user="alice").status is er.Status.WARMING
        clock.advance(seconds=2 * day)
        assert rt.read("activity:views_9d", user="alice").status is er.Status.PRESENT


# ---- law 8: the same number by every door ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("late_us", "verdict"),
    [
        (LATENESS_US - 1, Admission.ACCEPTED),
        (LATENESS_US, Admission.ACCEPTED),
        (LATENESS_US + 1, Admission.LATE),
    ],
)
def test_law_8_exactly_the_lateness_is_in_time_by_both_doors(late_us: int, verdict: Admission) -> None:
    """`track` judges by `admit`, replay by `offer`: to the microsecond the same."""
    plan = compile_catalog(every_operator()).views["activity@1"]
    state, late = plan.new_state(), view(START_US - late_us)
    plan.apply(state, view(START_US), "newest", START_US)
    assert plan.admit(state, "late", late.at_us, START_US) is verdict
    assert plan.offer(state, late, "late", START_US) is verdict


def test_law_8_a_late_event_counts_in_the_tiles_of_the_window_and_in_no_other() -> None:
    """A window of n tiles holds a late event of the n-th tile back and none of the one before it."""
    text = CATALOG.replace('allowed_lateness = "60s"', 'allowed_lateness = "10m"')
    plan = compile_catalog(Catalog.from_toml(text)).views["activity@1"]
    windows = {"count_61s": (2, 31), "count_5m": (5, 60)}  # hop in seconds, tiles
    for start_us in (START_US, START_US + 4 * SECOND):
        for late_s in (*range(56, 66), *range(290, 306)):
            state, at_us = plan.new_state(), start_us - late_s * SECOND
            plan.apply(state, view(start_us), "newest", start_us)
            plan.apply(state, view(at_us), "late", start_us)
            for name, (hop_s, tiles) in windows.items():
                hop_us = hop_s * SECOND
                held = at_us // hop_us > start_us // hop_us - tiles
                assert plan.read_one(state, name, start_us) == 1 + held, (name, late_s)
            held = at_us // (5 * SECOND) > start_us // (5 * SECOND) - 60
            assert plan.read_one(state, "by_item", start_us) == CountMap({"a": 1 + held}), late_s
            assert plan.read_one(state, "sum_5m", start_us) == 0.1 * (1 + held), late_s


def view(at_us: int) -> Event:
    return Event("view", {"user": "alice", "item": "a"}, {"price": 0.1}, at_us)


# ---- law 9: spent before it is sent ----------------------------------------------------------------------


def test_law_9_at_no_commit_is_an_answer_stored_that_was_not_paid_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After every transaction, wherever a crash may fall: what was debited covers what could be sent."""
    kiosk = aggregate_ends.Kiosk(3)
    write, commits = kiosk.database.write, []

    @contextmanager
    def watched(name: str) -> Iterator[WriteTransaction]:
        with write(name) as tx:
            yield tx
        with kiosk.database.read() as reading:
            stored = len(reading.outbox("report"))
        commits.append(name)
        assert kiosk.spent() == stored * 1_000_000, commits

    monkeypatch.setattr(kiosk.database, "write", watched)
    assert len(kiosk.answer(kiosk.offer())) == 3
    assert commits


# ---- law 12: nothing is read over ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lane", "delta", "decisions", "tickets"])
def test_law_12_a_record_with_a_field_too_many_is_refused(kind: str) -> None:
    """Records travel as arrays: one element more than this version knows is malformed, not ignored."""
    id_ = bytes(16)
    message: m.Message
    match kind:
        case "lane":
            message = m.Lane(base=0, entries=[m.LaneEntry(1, id_, P, "given", 1, 0)], upto=1, more=False)
        case "delta":
            row = m.Row(1, "item:a", "item_stats", 1, 1, 1, 0, False, b"\x80")
            message = m.Delta(channel="all", base=0, upto=1, epoch=0, replacing=True, more=False, rows=[row])
        case "decisions":
            message = m.Decisions(decisions=[m.Decision(id_, id_, P, "given", "n", 0, 0)])
        case _:
            message = m.Tickets(round_id=id_, granted=[m.TicketGrant(id_, id_)])
    fields = msgpack.unpackb(codec.encode(message))
    assert codec.decode(msgpack.packb(fields)) == message
    records = next(value for value in fields.values() if isinstance(value, list))
    records[0].append(0)
    with pytest.raises(WireFailure, match="malformed"):
        codec.decode(msgpack.packb(fields))


def test_law_12_naughty_strings_travel_as_they_are_or_are_refused_by_their_length() -> None:
    """As entity, view, channel and value of a row: the same text comes out of the frame, byte for byte."""
    path = Path(__file__).resolve().parents[1] / "data" / "naughty_strings" / "blns.json"
    texts: list[str] = json.loads(path.read_text())
    travelled = 0
    for text in texts:
        values = codec.pack({text: text})
        row = m.Row(1, f"item:{text}", "item_stats", 1, 1, 1, 0, False, values)
        channel = text or "all"
        delta = m.Delta(channel=channel, base=0, upto=1, epoch=0, replacing=True, more=False, rows=[row])
        frame = codec.encode(delta)
        if len(row.entity) > 512 or len(channel) > 512:
            with pytest.raises(WireFailure, match="malformed"):
                codec.decode(frame)
            continue
        read = codec.decode(frame)
        assert read == delta
        assert isinstance(read, m.Delta)
        assert codec.unpack(read.rows[0].values, codec.FRAME_LIMIT_BYTES) == {text: text}
        travelled += 1
    assert travelled > 500
