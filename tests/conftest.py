"""Fixed seeds for every property test; a failing example prints what reproduces it.

The whole run is heard for leaks from here on, and the test that searches what was heard runs last.
"""

from __future__ import annotations

import shutil

import pytest
from hypothesis import HealthCheck, settings

from tests.support import leaks

leaks.start()  # before anything of the product is imported

settings.register_profile(
    "fixed",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("fixed")


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
    """The search for leaks comes last."""
    items.sort(key=lambda item: item.path.name == "test_no_secret_leaks.py")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What a test and its children printed, whether or not it passed."""
    for title, said in report.sections:
        if title.startswith(("Captured stdout", "Captured stderr")):
            leaks.sink().text(title.split()[1], report.nodeid, said)


def pytest_unconfigure() -> None:
    """Nothing of what was heard stays."""
    if "LEAKS_KEEP" not in __import__("os").environ:
        shutil.rmtree(leaks.sink().folder, ignore_errors=True)
