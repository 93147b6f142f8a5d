"""No key byte and no subject in anything that is printed beside a result: hears a whole run and searches it.

`start` begins to hear in this process, before anything of the product is imported, and in every child that
is started afterwards; `join` is what a child calls (`child/sitecustomize.py`). `Search` looks once, at the
end, for what must not be said in all that was.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.support.leaks import exceptions, needles, rewriting, watching
from tests.support.leaks.collector import Collector
from tests.support.leaks.sink import begin, keys_from_a_seed, private, sink, subjects_by_chance
from tests.support.leaks.watching import replace, watch_edges

__all__ = [
    "FOLDER",
    "Collector",
    "join",
    "keys_from_a_seed",
    "private",
    "replace",
    "sink",
    "start",
    "subjects_by_chance",
    "watch_edges",
]

FOLDER: Final = "EDGE_TESTS_LEAKS"
"""Environment variable that names the run's folder to its children."""
_CHILD: Final = Path(__file__).parent / "child"


def start() -> None:
    """Begin to hear, here and in the children to come; `watch_edges` is left to whoever configures pytest.

    Raises AssertionError when the product is imported already.
    """
    assert not any(name.partition(".")[0] in rewriting.PACKAGES for name in sys.modules), "too late"
    folder = Path(tempfile.mkdtemp(prefix="edge-leaks-"))
    (folder / "code").mkdir()
    os.environ[FOLDER] = str(folder)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(_CHILD) if before is None else f"{_CHILD}{os.pathsep}{before}"
    sys.path.append(str(_CHILD))  # for children that are started with this process's own path
    watching.watch_loops()
    _hear(folder)


def join() -> None:
    """Take part in the run whose folder the environment names; without one nothing happens."""
    folder = Path(os.environ.get(FOLDER, ""))
    if folder.is_absolute() and folder.is_dir():
        _hear(folder)
        watch_edges()
        watching.watch_prints()


def _hear(folder: Path) -> None:
    begin(Collector(folder))
    rewriting.tell(exceptions.passing, exceptions.caught)
    sys.meta_path.insert(0, rewriting.Finder(folder / "code", needles.learn_from))
    needles.watch_chance()
    watching.watch_logs()
    watching.watch_warnings()
