"""What every provider of a root slot promises, asked of each of them, at the place where it really rests."""

from __future__ import annotations

import base64
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import KeyMissing, StorageError
from edge_runtime.keys.providers import KeyProvider
from edge_runtime.keys.slot import Slot, decode
from tests.support.consent_room import die, killed
from tests.support.key_places import NAMES, Place, despite_aborts, hook_durable_calls, place

pytestmark = [
    pytest.mark.filterwarnings("ignore:PBKDF2 without:DeprecationWarning"),  # keyrings.alt's, not ours
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),  # keyring's, when it is refused
]

OLD, NEW = os.urandom(300), os.urandom(320)


def fixture_of(names: Sequence[str]) -> Any:
    """Each of these places in turn."""

    @pytest.fixture(params=names)
    def found(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
        with place(request.param, tmp_path) as found:
            yield found

    return found


at = fixture_of(NAMES)
shared = fixture_of([name for name in NAMES if name != "memory"])
# keyrings.alt writes its file in place: who reads it meanwhile, in another process, gets an error of its own
filed = fixture_of(["file", "passphrase", "encrypted_keyring"])
# SoftHSM 2.6 says that it kept what a full disk refused, and only another process sees that it did not
limited = fixture_of(["file", "passphrase", "encrypted_keyring", "secret_service"])


@despite_aborts
def test_it_keeps_one_slot_and_never_makes_a_second(at: Place) -> None:
    provider = at.open("slot")
    assert not provider.exists()
    with pytest.raises(KeyMissing, match="nothing was created"):
        provider.load()
    assert not provider.exists()
    assert provider.create(OLD)
    assert not provider.create(NEW)
    assert not at.open("slot").create(NEW)
    assert (provider.load(), at.open("slot").load()) == (OLD, OLD)
    provider.store(NEW)
    assert (provider.load(), at.open("slot").load()) == (NEW, NEW)
    assert at.open("slot").exists()
    assert not at.open("another").exists()


@despite_aborts
def test_it_is_replaced_by_one_who_did_not_load_it_and_made_by_store_if_need_be(at: Place) -> None:
    at.open("slot").create(OLD)
    at.open("slot").store(NEW)
    assert at.open("slot").load() == NEW
    at.open("lost").store(NEW)
    assert at.open("lost").load() == NEW


@despite_aborts
def test_a_real_slot_comes_back_whole_and_so_do_the_smallest_and_a_large_one(at: Place) -> None:
    provider, slot = at.open("slot"), Slot.new()
    assert provider.create(slot.encode())
    assert decode(at.open("slot").load()) == slot
    for one in (b"\0", b"a\n", bytes(range(256)) * 4):
        provider.store(one)
        assert at.open("slot").load() == one


@despite_aborts
def test_it_says_how_well_it_keeps(at: Place) -> None:
    assert at.open("slot").assurance == at.assurance


@despite_aborts
def test_law_6_killed_at_any_point_of_store_it_holds_the_slot_before_or_the_one_after(shared: Place) -> None:
    assert shared.open("slot").create(OLD)
    for nth in range(1, 99):
        finished = not killed(lambda n=nth: _at_the_nth_point(shared, n, lambda p: p.store(NEW)))  # type: ignore[misc]
        assert shared.open("slot").load() == NEW if finished else shared.open("slot").load() in (OLD, NEW)
        shared.open("slot").store(OLD)
        assert shared.open("slot").load() == OLD, "what the kill left is in nobody's way"
        if finished:
            break
    assert finished
    assert nth > shared.steps, "there are more points than that"


@despite_aborts
def test_law_6_killed_at_any_point_of_create_there_is_a_whole_slot_or_none(shared: Place) -> None:
    for nth in range(1, 99):
        name = f"slot-{nth}"
        finished = not killed(
            lambda n=nth, s=name: _at_the_nth_point(shared, n, lambda p: p.create(OLD), s)  # type: ignore[misc]
        )
        made = shared.open(name).exists()
        assert made or not finished
        assert shared.open(name).create(NEW) is not made
        assert shared.open(name).load() == (OLD if made else NEW)
        # a kill may have left the file under two names: replacing it is still whole or not at all
        killed(lambda s=name: _at_the_nth_point(shared, 3, lambda p: p.store(NEW), s))  # type: ignore[misc]
        assert shared.open(name).load() in (OLD, NEW)
        if finished:
            break
    assert finished


def _at_the_nth_point(at: Place, nth: int, act: Callable[[KeyProvider], object], name: str = "slot") -> None:
    provider, left = at.open(name), nth
    provider.exists()

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()

    hook_durable_calls(count)
    act(provider)


@despite_aborts
def test_no_room_leaves_the_old_slot(limited: Place) -> None:
    at = limited
    assert at.open("slot").create(OLD)

    def work() -> None:
        with at.no_room():
            for act in (lambda: at.open("slot").store(NEW), lambda: at.open("new").create(NEW)):
                with pytest.raises(StorageError):
                    act()

    assert not killed(work)
    assert at.open("slot").load() == OLD
    assert at.open("new").create(NEW)
    at.open("slot").store(NEW)
    assert at.open("slot").load() == NEW


@despite_aborts
def test_of_many_processes_that_create_one_does_and_its_slot_is_kept(shared: Place) -> None:
    for turn in range(5):
        name = f"slot-{turn}"
        slots = [bytes([number]) * 300 for number in range(4)]
        made = _at_once([partial(shared.open(name).create, slot) for slot in slots])
        assert made.count(True) == 1
        assert shared.open(name).load() == slots[made.index(True)]


@despite_aborts
def test_a_create_beside_a_store_never_tears_it(shared: Place) -> None:
    assert shared.open("slot").create(OLD)

    def stores() -> bool:
        provider = shared.open("slot")
        for _ in range(20):
            provider.store(NEW)
            if provider.load() != NEW:
                return False
        return True

    def creates() -> bool:
        return not any(shared.open("slot").create(OLD) for _ in range(20))

    assert _at_once([stores, creates]) == [True, True]
    assert shared.open("slot").load() == NEW


def _at_once(acts: list[Callable[[], bool]]) -> list[bool]:
    """What each act returned, in processes of their own that begin together."""
    waiting, start = os.pipe()
    children = []
    for act in acts:
        child = os.fork()
        if child == 0:
            code = 9
            try:
                os.close(start)
                os.read(waiting, 1)
                code = int(act())
            except StorageError:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    os.close(waiting)
    os.close(start)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert set(codes) <= {0, 1}, "a process failed"
    return [code == 1 for code in codes]


@despite_aborts
def test_a_replaced_slot_is_overwritten_where_it_stood(filed: Place, tmp_path: Path) -> None:
    assert filed.file is not None
    provider, path = filed.open("slot"), filed.file("slot")
    provider.create(OLD)
    before, remnant = path.read_bytes(), tmp_path / "remnant"
    os.link(path, remnant)
    provider.store(NEW)
    assert remnant.read_bytes() == bytes(len(before))


@despite_aborts
def test_a_file_is_its_owners_only_and_nothing_lies_beside_it(filed: Place) -> None:
    assert filed.file is not None
    provider, path = filed.open("slot"), filed.file("slot")
    provider.create(OLD)
    beside = sorted(path.parent.iterdir())
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    provider.store(NEW)
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(path.parent.iterdir()) == beside


@despite_aborts
def test_law_5_no_secret_stands_in_a_repr_a_traceback_or_a_log(
    at: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider = at.open("slot")
    texts = [_told(provider.load)]
    provider.create(OLD)
    texts += [repr(provider), str(provider), f"{provider}", _told(lambda: at.open("none").load())]
    provider.store(NEW)
    provider.load()
    with at.no_room():
        texts.append(_told(lambda: provider.store(NEW)))
    if at.file is not None:
        at.file("slot").write_bytes(NEW)
        texts.append(_told(lambda: at.open("slot").load()))
    said = "\n".join([*texts, caplog.text])
    assert not [form for form in _forms(at) if form in said]


def _told(act: Callable[[], object]) -> str:
    """The traceback of what `act` raises, with everything that led to it."""
    try:
        act()
    except StorageError as error:
        return "".join(traceback.format_exception(error))
    return ""


def _forms(at: Place) -> list[str]:
    forms = list(at.secrets)
    for slot in (OLD, NEW):
        part = slot[30:60]
        forms += [part.hex(), repr(part)[2:-1], base64.b64encode(part).decode().rstrip("=")[:-2]]
    return forms
