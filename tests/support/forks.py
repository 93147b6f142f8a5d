"""Work in a forked child that must come to an end by itself."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable

CHILD_PATIENCE_S = 30


def in_child(work: Callable[[], None]) -> None:
    """Run `work` in a child of this process; raises AssertionError when it raised there, or hung."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that other threads run is what is tested
        child = os.fork()
    if child == 0:
        signal.alarm(CHILD_PATIENCE_S)  # a hung child is killed, and its status says so
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - shown, and told by the exit code
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert not os.WIFSIGNALED(status), f"the child hung: signal {os.WTERMSIG(status)}"
    assert os.WEXITSTATUS(status) == 0, "the child failed"
