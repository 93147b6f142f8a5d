"""Fixed seeds for every property test; a failing example prints what reproduces it.

The whole run is heard for leaks from here on, and the test that searches what was heard runs last.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support import leaks

leaks.start()  # before anything of the product is imported

if TYPE_CHECKING:
    from tests.support.town import Kiosk, Town

settings.register_profile(
    "fixed",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("fixed")


MEMORY_DISK = Path("/dev/shm")
MEMORY_DISK_BYTES = 2 << 30
"""With so much room on a disk in memory, temporary files go there: tests cut the power themselves, and a real
disk's syncs, tens of thousands of them, only make the run longer."""


def pytest_cmdline_main(config: pytest.Config) -> None:
    """Before pytest makes its folder for temporary files."""
    roomy = MEMORY_DISK.is_dir() and shutil.disk_usage(MEMORY_DISK).free > MEMORY_DISK_BYTES
    if roomy and config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="edge-tests-", dir=MEMORY_DISK)
        config.add_cleanup(partial(shutil.rmtree, config.option.basetemp, ignore_errors=True))


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Once pytest has put its own hooks for threads and finalizers in place."""
    leaks.watch_edges()
    read = pytest.CaptureFixture.readouterr

    def heard(self: pytest.CaptureFixture[str]) -> object:
        found = read(self)
        leaks.sink().text("stderr", "capture fixture", str(found.err))
        return found

    leaks.replace(pytest.CaptureFixture, "readouterr", heard)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The search for leaks comes last; what forks thousands of times first, while there is little to copy."""
    places = {"test_crash_device.py": 0, "test_crash_database.py": 0, "test_no_secret_leaks.py": 2}
    items.sort(key=lambda item: places.get(item.path.name, 1))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What a test and its children printed, whether or not it passed."""
    for title, said in report.sections:
        if title.startswith(("Captured stdout", "Captured stderr")):
            leaks.sink().text(title.split()[1], report.nodeid, said)


def pytest_unconfigure() -> None:
    """Nothing of what was heard stays, unless somebody wants to look at it (`LEAKS_KEEP=1`)."""
    if "LEAKS_KEEP" not in os.environ:
        shutil.rmtree(leaks.sink().folder, ignore_errors=True)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """A server's rooms without a socket."""
    from tests.support.town import Town  # not before `leaks.start`

    made = Town(tmp_path / "town")
    yield made
    made.close()


@pytest.fixture
def kiosk(town: Town, tmp_path: Path) -> Iterator[Kiosk]:
    """A device of that town."""
    from tests.support.town import Kiosk

    made = Kiosk(town, tmp_path / "kiosk")
    yield made
    made.close()
