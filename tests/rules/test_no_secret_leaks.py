"""No key byte and no subject in any log, repr, traceback or exception of the whole run. Runs last.

What was heard of the run so far is searched: all of it when the whole suite is run, else what there is. Run
as two processes (see the Makefile), each searches what it heard itself. The tests before the search plant
leaks of every kind, and show that the hooks still see where keys are made.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edge_runtime as er
from sync_server.devices.authority import load_authority
from sync_server.devices.entropy import system_entropy
from tests.support import leaks
from tests.support.leaks.collector import Needle, Text
from tests.support.leaks.needles import DATA_KEY, SERVER_KEY, SUBJECT, TENANT_KEY
from tests.support.leaks.rewriting import instrumented
from tests.support.leaks.search import Finding, Search
from tests.support.leaks.vocabulary import product_words
from tests.support.shop import shop_catalog

KEY = bytes.fromhex("9f1c6a0b52e7d83344b1aa07fe90c2d51d6e7f8890a1b2c3d4e5f60718293a4b")
WHO = "user:planted-4711"
WHOLE_PART = 1_500
"""A run of so many tests is the whole suite or one of its two parts; either must have taught us a lot."""
ANSWERS = {("stdout", "token, bare")}
"""`edge-sync enrol` answers with the token that it made, once: that is what it was asked for."""

PLANTED = """
class Holder:
    def __init__(self, key): self.key = key
    def __repr__(self): return f"Holder({self.key!r})"

def fails(message): raise KeyError(message)

def swallows(message):
    try: fails(message)
    except KeyError: return None

def hides(message):
    try: fails(message)
    except KeyError: raise ValueError("nothing to see") from None

def holds(key):
    holder = Holder(key)
    raise ValueError("nothing to see")

async def fails_later(message): raise KeyError(message)
"""


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[leaks.Collector]:
    """A collector of this test's own, which knows one key and one subject."""
    collector = leaks.Collector(tmp_path / "heard")
    with leaks.private(collector):
        collector.secret(DATA_KEY, KEY)
        collector.word(SUBJECT, WHO)
        yield collector
    collector.close()


def found(collector: leaks.Collector) -> set[tuple[str, str]]:
    """(source, kind of needle) of every finding."""
    findings = Search(collector.needles()).findings(collector.texts())
    return {(finding.source, finding.kind) for finding in findings}


def planted(tmp_path: Path) -> dict[str, Any]:
    """A module of the product that leaks."""
    names: dict[str, Any] = {"__name__": "edge_runtime.planted"}
    exec(instrumented(PLANTED.encode(), str(tmp_path / "planted.py")), names)  # noqa: S102 - our own text
    return names


# ---- planted leaks are found ---------------------------------------------------------------------------


def test_a_log_record_is_heard_at_every_level_and_of_every_logger(heard: leaks.Collector) -> None:
    quiet = logging.getLogger("planted.quiet")
    quiet.propagate = False
    quiet.debug("the key is %s", KEY.hex())
    assert found(heard) == {("log", f"{DATA_KEY}, as hex")}
    quiet.info("about", extra={"whom": WHO})
    assert ("log", "subject, typed") in found(heard)


def test_a_log_record_tells_its_exception(heard: leaks.Collector) -> None:
    try:
        raise KeyError(WHO)
    except KeyError:
        logging.getLogger("planted").exception("something failed")
    assert ("log", "subject, typed") in found(heard)


def test_an_exception_that_a_test_catches_is_heard(heard: leaks.Collector, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        planted(tmp_path)["fails"](WHO)
    assert found(heard) == {("exception", "subject, typed"), ("exception", "subject, bare")}


def test_an_exception_that_the_product_swallows_is_heard(heard: leaks.Collector, tmp_path: Path) -> None:
    planted(tmp_path)["swallows"](KEY)
    assert found(heard) == {("exception", f"{DATA_KEY}, as repr")}


def test_a_suppressed_context_is_heard(heard: leaks.Collector, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to see"):
        planted(tmp_path)["hides"](WHO)
    where = [f.where for f in Search(heard.needles()).findings(heard.texts()) if f.kind == "subject, typed"]
    assert "builtins.ValueError in edge_runtime.planted:hides" in where


def test_an_object_of_ours_among_the_locals_of_a_traceback_is_heard(
    heard: leaks.Collector, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="nothing to see"):
        planted(tmp_path)["holds"](KEY)
    assert found(heard) == {("repr", f"{DATA_KEY}, as repr")}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_fails_is_heard(heard: leaks.Collector) -> None:
    def fails() -> None:
        raise KeyError(WHO)

    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    assert ("thread", "subject, typed") in found(heard)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_finalizer_that_fails_is_heard(heard: leaks.Collector) -> None:
    class Fails:
        def __del__(self) -> None:
            raise KeyError(WHO)

    Fails()
    gc.collect()
    assert ("unraisable", "subject, typed") in found(heard)


def test_a_task_that_nobody_awaits_is_heard(heard: leaks.Collector, tmp_path: Path) -> None:
    fails = planted(tmp_path)["fails_later"]

    async def run() -> None:
        task = asyncio.create_task(fails(WHO))
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(run())
    assert {source for source, _ in found(heard)} == {"exception", "loop", "log"}


def test_a_warning_is_heard_whatever_the_filter_says(heard: leaks.Collector) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.warn(f"{WHO} was here", stacklevel=1)
    assert ("warning", "subject, typed") in found(heard)


def test_the_listener_is_no_part_of_what_a_test_makes_fail(
    heard: leaks.Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests let the process die at a chosen write: ours must not count."""

    def fails(*_: object) -> int:
        raise AssertionError("a write that a test counts")

    monkeypatch.setattr(os, "write", fails)
    logging.getLogger("planted").debug("about %s", WHO)
    monkeypatch.undo()
    assert ("log", "subject, typed") in found(heard)


def test_a_child_is_heard_and_its_keys_are_learned(heard: leaks.Collector, tmp_path: Path) -> None:
    """It prints the root slot that it made itself, logs at debug level, and names somebody new."""
    (heard.folder / "code").mkdir()
    program = f"""
import logging, pathlib, sys
import edge_runtime as er
from tests.support.shop import shop_catalog
folder = pathlib.Path({str(tmp_path)!r})
with er.Runtime.open(folder / "cache.db", catalog=shop_catalog(), key=er.KeyFile(folder / "key")) as rt:
    rt.consent.give("somebody-else", ["personalization"], notice="2026-11")
    print((folder / "key").read_bytes().hex(), file=sys.stderr)
    logging.getLogger("planted").debug("for %s", "user:somebody-else")
"""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([os.environ["PYTHONPATH"], root])
    environment = {**os.environ, leaks.FOLDER: str(heard.folder), "PYTHONPATH": path}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    assert {("stderr", f"{DATA_KEY}, as hex"), ("log", "subject, typed")} <= found(heard)


# ---- the hooks still see where secrets are made ----------------------------------------------------------


def test_keys_and_subjects_are_learned_where_they_are_made(heard: leaks.Collector, tmp_path: Path) -> None:
    """Were the hooks blind, the search below would find nothing, for ever."""
    key = tmp_path / "device.key"
    with er.Runtime.open(tmp_path / "cache.db", catalog=shop_catalog(), key=er.KeyFile(key)) as rt:
        before = learned(heard)
        rt.consent.give("learned-1", ["personalization"], notice="2026-11")
        given = learned(heard)
        assert rt.track("view", user="learned-2", item="x") is er.NO_CONSENT
        rt.consent.withdraw("learned-1")
        erased = learned(heard)
    assert before[DATA_KEY] >= 4, "page key, root, device key, signing seed"
    assert given[DATA_KEY] > before[DATA_KEY], "a data key"
    assert erased[DATA_KEY] > given[DATA_KEY], "a new root"
    assert before[TENANT_KEY] or given[TENANT_KEY], "the key of pseudonyms"
    names = {n.raw for n in heard.needles() if n.kind == SUBJECT}
    assert {b"user:learned-1", b"user:learned-2"} <= names
    er.replay(shop_catalog(), [], points=[{"user": "learned-3", "at": 1.7e9}], refs=["activity:views"])
    assert Needle(SUBJECT, b"user:learned-3") in heard.needles()
    load_authority(tmp_path / "server.key", system_entropy, store_exists=False)
    assert learned(heard)[SERVER_KEY] >= 4, "signing seed, pseudonym, digest and tag key"


def learned(collector: leaks.Collector) -> Counter[str]:
    return Counter(needle.kind for needle in collector.needles())


# ---- the search ------------------------------------------------------------------------------------------


def test_no_key_byte_or_subject_is_in_any_log_repr_traceback_or_exception(
    request: pytest.FixtureRequest,
) -> None:
    collector = leaks.sink()
    needles, sources = collector.needles(), Counter[str]()

    def texts() -> Iterator[Text]:
        for text in collector.texts():
            sources[text.source] += 1
            yield text

    heard = Search(needles, product_words()).findings(texts())
    kinds = Counter(needle.kind for needle in needles)
    print(f"heard {dict(sources)}; looked for {dict(kinds)}")
    if request.session.testscollected >= WHOLE_PART:
        assert min(kinds[kind] for kind in (DATA_KEY, SUBJECT)) > 1_000, kinds
        assert min(kinds[kind] for kind in (SERVER_KEY, TENANT_KEY)) > 50, kinds
        assert sources.keys() >= {"log", "exception", "repr", "stderr"}, sources
    findings = {one: count for one, count in heard.items() if (one.source, one.kind) not in ANSWERS}
    assert not findings, "\n".join(map(line, sorted(findings.items())))


def line(found: tuple[Finding, int]) -> str:
    """A finding for whoever must mend it. It never says the secret."""
    (source, where, kind), count = found
    return f"{source}: {where} shows a {kind}, in {count} texts"
