"""Law 7 on channels that are followed no more: what is not in them may be at the server by now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cache.database import Database
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.seal import personal_channel
from tests.support.absent import NOT_FOUND, ON_ITS_WAY, reason
from tests.support.town import P, Session, Town
from tests.support.warm import Device, live, warm_town

CAP = 2
VISITORS = ("anouk", "bela", "chiara", "dorian", "elif")
QUIET = er.Settings(sweep_interval_us=0, presence_timeout_us=0)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = warm_town(tmp_path / "town")
    yield made
    made.close()


def kiosk(town: Town, folder: Path, channels: int = CAP) -> Device:
    return Device(town, folder / "kiosk", settings=QUIET, sync=SyncSettings(personal_channels=channels))


def give(device: Device, *visitors: str) -> None:
    for visitor in visitors:
        device.rt.consent.give(visitor, [P], notice="2026-11")


def country(device: Device, visitor: str) -> str:
    return device.rt.read("profile:country", user=visitor).reason


def said(session: Session) -> list[type[m.Message]]:
    return [type(one) for one in session.said if isinstance(one, m.Follow | m.Unfollow)]


def channel(town: Town, visitor: str, purpose: str = P) -> str:
    return personal_channel(town.pseudonym(f"user:{visitor}"), purpose)


def followed(session: Session) -> set[str]:
    """The subjects' channels that are followed now, by what was said in order."""
    now: set[str] = set()
    for one in session.said:
        if isinstance(one, m.Follow):
            now.add(one.channel)
        elif isinstance(one, m.Unfollow):
            now.discard(one.channel)
    return {name for name in now if name[0] == "~"}


def test_law_7_a_channel_that_the_cap_closed_does_not_say_not_found(town: Town, tmp_path: Path) -> None:
    """Of more subjects than a kiosk may follow, each has a row at the server: none of them is not there."""
    device = kiosk(town, tmp_path)
    session = live(device)
    for visitor in VISITORS:
        give(device, visitor)
        session.settle()
        assert country(device, visitor) == NOT_FOUND, "its channel is followed, and empty"
    assert said(session).count(m.Unfollow) == len(VISITORS) - CAP
    for visitor in VISITORS:
        town.put_profile(f"user:{visitor}", "FR")
    session.settle()
    assert session.device.caught_up
    assert [country(device, visitor) for visitor in VISITORS[:-CAP]] == [ON_ITS_WAY] * 3
    assert [device.status("profile:country", user=v) for v in VISITORS[-CAP:]] == [er.Status.EXPIRED] * CAP
    for visitor in VISITORS[-CAP:]:
        device.rt.leave(visitor)
    session.settle()
    assert {device.status("profile:country", user=v) for v in VISITORS[1:3]} == {er.Status.EXPIRED}
    session.close()
    device.close()


def test_law_7_a_channel_that_opens_again_says_not_found_again(town: Town, tmp_path: Path) -> None:
    """Nothing came meanwhile: the server says once more that both are equal, at the same seq."""
    device = kiosk(town, tmp_path)
    give(device, "anouk")
    session = live(device)
    assert country(device, "anouk") == NOT_FOUND
    device.rt.leave("anouk")
    session.settle()
    device.clock.advance(seconds=1)
    assert country(device, "anouk") == ON_ITS_WAY
    session.settle()
    assert country(device, "anouk") == NOT_FOUND
    assert said(session) == [m.Follow, m.Unfollow, m.Follow]
    session.close()
    device.close()


@pytest.mark.parametrize("restarted", [False, True])
def test_law_7_a_channel_that_closed_between_two_sessions_does_not_either(
    town: Town, tmp_path: Path, restarted: bool
) -> None:
    """No session ever left it: the next one begins with others."""
    device = kiosk(town, tmp_path)
    give(device, "anouk", "bela")
    live(device).close()
    assert country(device, "anouk") == country(device, "bela") == NOT_FOUND
    if restarted:
        device.close()
        device = kiosk(town, tmp_path, channels=1)
        device.rt.leave("bela")
    else:
        device.rt.leave("anouk")
    gone, stays = ("bela", "anouk") if restarted else ("anouk", "bela")
    session = live(device)
    town.put_profile(f"user:{gone}", "FR")
    session.settle()
    assert m.Unfollow not in said(session)
    assert (country(device, gone), country(device, stays)) == (ON_ITS_WAY, NOT_FOUND)
    session.close()
    device.close()


def test_law_7_a_channel_that_the_server_serves_no_more_does_not_either(town: Town, tmp_path: Path) -> None:
    """It cannot just now: what is held stays, and says nothing of what is not."""
    device = kiosk(town, tmp_path)
    give(device, "anouk")
    session = live(device)
    for name in ("all", channel(town, "anouk")):
        session.hand_over(codec.encode(m.Refusal(code="not_now", about=name, retry_after_us=10**9)))
    assert country(device, "anouk") == reason(device, "none") == ON_ITS_WAY
    session.close()
    device.close()


@pytest.mark.parametrize("within", [True, False])
def test_law_7_nor_does_one_that_the_byte_budget_ends(town: Town, tmp_path: Path, within: bool) -> None:
    device = kiosk(town, tmp_path)
    give(device, "anouk")
    session = live(device)
    assert country(device, "anouk") == reason(device, "none") == NOT_FOUND
    if not within:
        session.close()
    device.memory.lean = True
    session = session if within else live(device)
    session.settle()
    assert country(device, "anouk") == reason(device, "none") == ON_ITS_WAY
    device.memory.lean = False
    session.settle()
    assert country(device, "anouk") == reason(device, "none") == NOT_FOUND
    session.close()
    device.close()


def test_law_11_a_channel_that_brings_nothing_takes_no_others_place(town: Town, tmp_path: Path) -> None:
    """Under `measurement` the server has no rows: it has what room is left, however new the consent to it."""
    device = kiosk(town, tmp_path)
    session = live(device)
    device.rt.consent.give("anouk", [P, "measurement"], notice="2026-11")
    session.settle()
    assert followed(session) == {channel(town, "anouk"), channel(town, "anouk", "measurement")}
    device.rt.consent.give("bela", [P, "measurement"], notice="2026-11")
    session.settle()
    assert followed(session) == {channel(town, "anouk"), channel(town, "bela")}
    device.rt.consent.withdraw("anouk")
    session.settle()
    assert followed(session) == {channel(town, "bela"), channel(town, "bela", "measurement")}
    session.close()
    device.close()


def test_law_2_nothing_is_written_of_a_channel_whose_subject_was_erased(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The withdrawal comes between the look at what is to be doubted and the writing of it."""
    device = kiosk(town, tmp_path)
    give(device, "anouk", "bela")
    live(device).close()
    hers, his = (device.rt._keyring.key(f"user:{visitor}", P) for visitor in ("anouk", "bela"))
    assert hers is not None
    assert his is not None
    write = Database.write

    def late(database: Database, name: str) -> AbstractContextManager[WriteTransaction]:
        if name == "whole":
            device.rt.consent.withdraw("anouk", [P])
        return write(database, name)

    monkeypatch.setattr(Database, "write", late)
    device.replica._doubt([hers, his])
    with device.rt._database.read() as tx:
        assert not tx.personal_rows(hers.handle)
        assert tx.personal_rows(his.handle)
    assert country(device, "bela") == ON_ITS_WAY
    device.close()
