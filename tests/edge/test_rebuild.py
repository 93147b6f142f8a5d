"""A rebuilt database: every value is a replay's, or says that it is not whole; nobody comes back."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cache.cipher import PAGE_BYTES
from edge_runtime.cache.database import Database
from edge_runtime.cache.remains import EventRow
from edge_runtime.cache.salvage import remains_of
from edge_runtime.cache.write_ahead_log import read_log
from edge_runtime.keys.keyring import Keyring
from edge_runtime.recovery.rebuild import POINTS, rebuild
from tests.support.consent_room import die_at, killed
from tests.support.damaged import (
    CATALOG,
    DAY_US,
    ITEMS,
    SECOND,
    USERS,
    Kiosk,
    M,
    P,
    begun,
    disagreements,
    unplugged,
    whole_share,
)
from tests.support.forensics import bytes_of, plaintext_hits
from tests.support.full_disk import FullDisk
from tests.support.logged import FRAME, HEADER, flipped

SEED = 20_261_130


@pytest.fixture(scope="module")
def kiosks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kiosk]:
    """One that was closed, so that every state is stored; one whose newest events only the journal has."""
    folder = tmp_path_factory.mktemp("kiosks")
    closed = begun(folder / "closed", SEED)
    return {"closed": closed, "unplugged": unplugged(closed, folder / "unplugged", SEED)}


TABLES = [
    *("sqlite_schema", "sqlite_schema interior", "sqlite_sequence", "meta", "trimmed"),
    *("journal", "journal interior", "journal_by_handle", "journal_by_handle interior"),
    *("state", "state interior", "personal", "feature", "feature_by_channel", "channel"),
    *("lane", "lane_by_state", "denial", "denial_open", "outbox", "sqlite_autoindex_outbox_1", "budget"),
    *("answer", "answer_by_also", "answer_by_outcome"),
]


@pytest.mark.parametrize("form", ["closed", "unplugged"])
def test_every_kind_of_page_is_damaged_below(kiosks: dict[str, Kiosk], form: str) -> None:
    found = {name.replace("internal", "interior") for name in kiosks[form].pages()}
    assert found <= set(TABLES)
    assert {name.split()[0] for name in TABLES} == {name.split()[0] for name in found}


@pytest.mark.parametrize("form", ["closed", "unplugged"])
@pytest.mark.parametrize("table", TABLES)
def test_law_7_after_damage_to_any_page_each_value_is_the_oracles_or_says_that_it_is_not_whole(
    kiosks: dict[str, Kiosk], tmp_path: Path, form: str, table: str
) -> None:
    original = kiosks[form]
    for page in original.pages().get(table.replace("interior", "internal"), ()):
        kiosk = original.copied(tmp_path / "kiosk")
        kiosk.damage(page)
        before = bytes_of(kiosk.folder)
        with kiosk.open(rebuild=True) as rt:
            assert disagreements(kiosk, rt) == []
            share = whole_share(kiosk, rt)
        kept = {name for name in bytes_of(kiosk.folder) if ".damaged-" in name and name[-4:] != ".txt"}
        assert bytes_of(kiosk.folder)[min(kept)] == before["cache.db"]
        lost_much = ("meta", "state", "state interior", "journal", "journal interior")
        assert share == 1.0 or table in lost_much, (page, share)


@pytest.mark.parametrize("form", ["closed", "unplugged"])
def test_law_8_life_goes_on_and_windows_become_whole_again(
    kiosks: dict[str, Kiosk], tmp_path: Path, form: str
) -> None:
    """Many pages at once: little is whole at first, and everything with a window is after it has passed."""
    kiosk, rng = kiosks[form].copied(tmp_path / "kiosk"), random.Random(SEED)
    pages = kiosk.pages()
    kiosk.damage(*pages["journal"][-3:], *pages["state"])
    with kiosk.open(rebuild=True) as rt:
        shares = [whole_share(kiosk, rt)]
        for step_us in (20 * SECOND, 200 * SECOND, DAY_US // 12, DAY_US):
            kiosk.live(rt, rng, 25, step_us)
            assert disagreements(kiosk, rt) == []
            shares.append(whole_share(kiosk, rt))
    with kiosk.open() as rt:
        assert disagreements(kiosk, rt) == []
        assert rt.read("activity:views_1d", user="ann").status is er.Status.PRESENT
        assert rt.read("activity:spend_7d", user="ann").status is er.Status.PRESENT
    assert shares[-1] > max(shares[0], 0.6)  # without a window some are never whole again


def test_law_7_a_pair_that_may_have_been_lost_is_not_called_empty(
    kiosks: dict[str, Kiosk], tmp_path: Path
) -> None:
    """Whose state was on a damaged page nobody can tell: a pair that never was is unknown like the others."""
    kiosk = kiosks["closed"].copied(tmp_path / "kiosk")
    kiosk.damage(*kiosk.pages()["state"])
    with kiosk.open(rebuild=True) as rt:
        assert rt.read("pair:seen", user="ann", item="never seen").status is er.Status.WARMING
        rt.consent.give("eve", [P], notice="n")
        assert rt.read("pair:seen", user="eve", item="never seen").value == 0


@pytest.mark.parametrize("form", ["closed", "unplugged"])
def test_law_6_what_was_taken_before_the_damage_is_a_duplicate_after_it(
    kiosks: dict[str, Kiosk], tmp_path: Path, form: str
) -> None:
    kiosk = kiosks[form].copied(tmp_path / "kiosk")
    kiosk.damage(*kiosk.pages_of("journal_by_handle"))
    newest = max(kiosk.taken, key=lambda event: event.at_us)
    kiosk.clock.set_wall(newest.at_us + SECOND)
    with kiosk.open(rebuild=True) as rt:
        assert rt.track_many([newest]).duplicate == 1


def test_no_event_gets_a_number_again(kiosks: dict[str, Kiosk], tmp_path: Path) -> None:
    kiosk = kiosks["unplugged"].copied(tmp_path / "kiosk")
    pages = kiosk.pages()
    kiosk.damage(*pages["sqlite_sequence"], *pages["journal"][-2:])
    rows = max(row.n for row in _journal(kiosks["unplugged"]))
    with kiosk.open(rebuild=True) as rt:
        with rt._database.read() as tx:
            assert tx.newest_row() >= rows
        kiosk.live(rt, random.Random(SEED), 12)
        assert disagreements(kiosk, rt) == []


GROWN = {"activity:views_2d": 2, "activity:views_30d": 30, "habits:visits_3d": 3, "habits:visits_30d": 30}


def grown(kiosk: Kiosk, *, rebuild: bool) -> er.Runtime:
    """The kiosk under a catalog that looks back some days in both purposes."""
    text = CATALOG
    for ref in GROWN:
        view, _, name = ref.partition(":")
        feature = f'{name} = {{ op = "count", event = "view", window = "{name.partition("_")[2]}" }}'
        text = text.replace(f"[views.{view}.features]", f"[views.{view}.features]\n{feature}")
    return er.Runtime.open(
        kiosk.database,
        catalog=er.Catalog.from_toml(text),
        key=er.KeyFile(kiosk.folder / "device.key"),
        clock=kiosk.clock,
        recover="rebuild" if rebuild else None,
    )


def wrong_among_grown(kiosk: Kiosk, rt: er.Runtime) -> list[str]:
    wrong = []
    for ref, days in GROWN.items():
        hop_us = days * DAY_US // 60
        since_us = (kiosk.clock.now_us() // hop_us - 59) * hop_us
        for user in USERS:
            mine = [e for e in kiosk.taken if e.type == "view" and e.entities["user"] == user]
            want, got = sum(e.at_us >= since_us for e in mine), rt.read(ref, user=user)
            if got.status is not er.Status.WARMING and got.value != want:
                wrong.append(f"{ref} of {user}: got {got.value}, want {want}")
    return wrong


@pytest.mark.parametrize("form", ["closed", "unplugged"])
@pytest.mark.parametrize("at_once", [True, False])
def test_law_8_a_later_catalog_believes_no_journal_over_a_hole(
    kiosks: dict[str, Kiosk], tmp_path: Path, form: str, at_once: bool
) -> None:
    """At the same opening, or at a later one: what is made from the journal is a replay's, or warms."""
    pages = kiosks[form].pages()
    for damaged in (
        *([page] for page in pages["journal"]),
        pages["trimmed"],
        pages["trimmed"] + pages["state"],
    ):
        kiosk = kiosks[form].copied(tmp_path / "kiosk")
        kiosk.damage(*damaged)
        if not at_once:
            kiosk.open(rebuild=True).close()
        with grown(kiosk, rebuild=at_once) as rt:
            assert wrong_among_grown(kiosk, rt) == []
            assert disagreements(kiosk, rt) == []


def test_law_7_behind_a_log_that_cannot_be_mended_all_is_known_since_now(
    kiosks: dict[str, Kiosk], tmp_path: Path
) -> None:
    """Of one frame number, salts and page are damaged: which page is missing nobody can tell."""
    kiosk = unplugged(kiosks["closed"], tmp_path / "kiosk", SEED, log=True)
    log = kiosk.folder / "cache.db-wal"
    frame = HEADER + read_log(log).frames // 2 * FRAME
    log.write_bytes(flipped(log.read_bytes(), frame, frame + 9, frame + 1_000))
    with kiosk.open(rebuild=True) as rt:
        assert disagreements(kiosk, rt) == []
        assert whole_share(kiosk, rt) == 0
        kiosk.clock.advance(us=400 * SECOND)
        kiosk.live(rt, random.Random(SEED), 9, SECOND)
        assert disagreements(kiosk, rt) == []
        assert rt.read("activity:views_5m", user="ann").status is er.Status.PRESENT
    assert "cannot be reached" in next(kiosk.folder.glob("*.txt")).read_text()


# ---- nobody comes back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["denial", "meta", "state", "journal_by_handle", "sqlite_schema"])
def test_law_4_who_withdrew_stays_withdrawn_and_leaves_no_row(
    kiosks: dict[str, Kiosk], tmp_path: Path, table: str
) -> None:
    kiosk = kiosks["closed"].copied(tmp_path / "kiosk")
    with kiosk.open() as rt:
        rt.consent.withdraw("ann")
    kiosk.damage(*kiosk.pages_of(table))
    with kiosk.open(rebuild=True) as rt:
        assert rt.consent.state("ann", P) == rt.consent.state("ann", M) == "withdrawn"
        assert rt.read("activity:views", user="ann").status is er.Status.REVOKED
        assert rt.consent.state("bob", P) == "given"
        with rt._database.read() as tx:
            handles = tx.handles()
        living = {key.handle for key in rt._keyring.every_key()} | {rt._keyring.device_key().handle}
        assert handles <= living
        rt.consent.give("ann", [P], notice="n")
        assert rt.read("activity:views", user="ann").value == 0


def test_law_5_nothing_of_it_is_in_plain_text(kiosks: dict[str, Kiosk], tmp_path: Path) -> None:
    kiosk = kiosks["unplugged"].copied(tmp_path / "kiosk")
    kiosk.damage(1, *kiosk.pages()["state"])
    with kiosk.open(rebuild=True) as rt:
        rt.flush()
        words = ["personalization", "activity@1", *(f"user:{user}" for user in USERS)]
        assert plaintext_hits(kiosk.folder, words) == {}
    report = next(kiosk.folder.glob("*.txt")).read_text()
    assert not [word for word in (*USERS, *ITEMS, "user:", P, M) if word in report]
    assert "damaged" in report


# ---- when it is not done --------------------------------------------------------------------------------


def plain(kiosk: Kiosk) -> None:
    kiosk.database.unlink()
    connection = sqlite3.connect(kiosk.database)
    connection.execute("CREATE TABLE t(x)")
    connection.close()


def newer(kiosk: Kiosk) -> None:
    database = Database.open(str(kiosk.database), kiosk.page_key())
    with database.write("test") as tx:
        tx._connection.pragma("user_version", 99)
    database.close()


def wrong_key(kiosk: Kiosk) -> None:
    other = Kiosk(kiosk.folder.with_name("other"))
    other.folder.mkdir()
    other.open().close()
    (kiosk.folder / "device.key").write_bytes((other.folder / "device.key").read_bytes())


def no_key(kiosk: Kiosk) -> None:
    (kiosk.folder / "device.key").unlink()


def garbage(kiosk: Kiosk) -> None:
    kiosk.database.write_bytes(bytes(range(256)) * 16 * 20)


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (plain, er.DatabaseUnreadable),
        (newer, er.DatabaseTooNew),
        (wrong_key, er.KeyMismatch),
        (no_key, er.KeyMissing),
        (garbage, er.KeyMismatch),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_law_12_what_is_no_damage_is_not_rebuilt(
    kiosks: dict[str, Kiosk], tmp_path: Path, harm: Callable[[Kiosk], None], error: type[Exception]
) -> None:
    kiosk = kiosks["closed"].copied(tmp_path / "kiosk")
    harm(kiosk)
    before = bytes_of(kiosk.folder)
    for _ in range(2):
        with pytest.raises(error):
            kiosk.open(rebuild=True)
        assert bytes_of(kiosk.folder) == before


def test_a_sound_database_is_opened_as_it_is(kiosks: dict[str, Kiosk], tmp_path: Path) -> None:
    for form in ("closed", "unplugged"):
        kiosk = kiosks[form].copied(tmp_path / "kiosk")
        with kiosk.open(rebuild=True) as rt:
            assert whole_share(kiosk, rt) == 1.0
        assert not list(kiosk.folder.glob("*damaged*"))


def test_one_that_is_in_use_is_not_rebuilt(kiosks: dict[str, Kiosk], tmp_path: Path) -> None:
    kiosk = kiosks["closed"].copied(tmp_path / "kiosk")
    with kiosk.open() as rt:
        with pytest.raises(er.DatabaseInUse):
            kiosk.open(rebuild=True)
        assert whole_share(kiosk, rt) == 1.0


@pytest.mark.parametrize("size", [0, 100, PAGE_BYTES, 8 * PAGE_BYTES, 8 * PAGE_BYTES + 5])
def test_a_file_that_was_cut_short_is_rebuilt(kiosks: dict[str, Kiosk], tmp_path: Path, size: int) -> None:
    kiosk = kiosks["closed"].copied(tmp_path / "kiosk")
    kiosk.database.write_bytes(kiosk.database.read_bytes()[:size])
    with pytest.raises(er.DatabaseUnreadable, match="recover='rebuild'"):
        kiosk.open()
    with kiosk.open(rebuild=True) as rt:
        assert disagreements(kiosk, rt) == []
        assert rt.consent.state("ann", P) == "given"


def test_damage_is_said_with_what_to_do(kiosks: dict[str, Kiosk], tmp_path: Path) -> None:
    kiosk = kiosks["closed"].copied(tmp_path / "kiosk")
    kiosk.damage(*kiosk.pages()["sqlite_schema"])
    before = bytes_of(kiosk.folder)
    with pytest.raises(er.DatabaseUnreadable, match=r"recover='rebuild'.*doctor --repair"):
        kiosk.open()
    assert bytes_of(kiosk.folder) == before


# ---- cut short ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", POINTS)
def test_law_6_a_rebuild_killed_anywhere_is_finished_or_begun_anew(
    kiosks: dict[str, Kiosk], tmp_path: Path, point: str
) -> None:
    kiosk = kiosks["unplugged"].copied(tmp_path / "kiosk")
    pages = kiosk.pages()
    kiosk.damage(pages["state"][0], pages["journal"][-1], *pages["sqlite_schema"])
    damaged = kiosk.database.read_bytes()

    def rebuild_and_die() -> None:
        key = er.KeyFile(kiosk.folder / "device.key")
        keyring = Keyring.open(key, f"{kiosk.database}-keys", True).load()
        rebuild(str(kiosk.database), keyring, "test", kiosk.clock.now_us(), step=die_at(point))

    assert killed(rebuild_and_die)
    assert damaged in bytes_of(kiosk.folder).values()
    decided = POINTS.index(point) >= POINTS.index("intent")
    if decided:
        with kiosk.open() as rt:  # it was decided: no need to ask again
            assert disagreements(kiosk, rt) == []
    else:
        with pytest.raises(er.DatabaseUnreadable):
            kiosk.open()
    with kiosk.open(rebuild=True) as rt:
        assert disagreements(kiosk, rt) == []
        assert 0.3 < whole_share(kiosk, rt) < 1.0
    names = {name.partition(".damaged-")[0] for name in bytes_of(kiosk.folder)}
    assert names == {"cache.db", "cache.db-keys", "device.key"}
    assert damaged in bytes_of(kiosk.folder).values()


def test_law_12_without_room_nothing_changes(
    kiosks: dict[str, Kiosk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kiosk = kiosks["closed"].copied(tmp_path / "kiosk")
    kiosk.damage(kiosk.pages()["state"][0])
    before, disk, opened = bytes_of(kiosk.folder), FullDisk(), Database.open
    for room in (0, 3, 30):
        disk.room = room
        with monkeypatch.context() as patch:
            patch.setattr(
                "edge_runtime.recovery.rebuild.Database.open",
                lambda path, page_key, **more: (
                    opened(path, page_key, disk.name, **more)
                    if path.endswith(".rebuilt")
                    else opened(path, page_key, **more)
                ),
            )
            with pytest.raises(er.StorageFull):
                kiosk.open(rebuild=True)
        assert bytes_of(kiosk.folder) == before
    with kiosk.open(rebuild=True) as rt:
        assert disagreements(kiosk, rt) == []


def _journal(kiosk: Kiosk) -> list[EventRow]:
    with remains_of(str(kiosk.database), kiosk.page_key(), str(kiosk.folder / "scratch")) as found:
        return list(found.events([]))
