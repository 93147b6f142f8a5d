"""What belongs to the process that opened it: a child made by a fork gets memory, and none of the locks.

A forked child that went on with its parent's connections would write the parent's file without a lock, move
its log, or wait for ever for a thread that was not copied. So before a fork no thread of ours is inside
SQLite, and in the child everything that was open says so and is never closed: not even when it is forgotten.
"""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import ExitStack
from typing import Final, Protocol, cast
from weakref import WeakSet, ref

from edge_runtime.errors import RuntimeClosed

FORK_PATIENCE_S: Final = 5.0
"""Longest that a fork waits for one transaction of another thread; then it goes on without waiting."""


class Owned(Protocol):
    """Something that one process holds."""

    def hold_still(self, held: ExitStack) -> None:
        """A fork is near: enter into `held` what keeps other threads out of the file until it is over."""
        ...

    def disown(self) -> None:
        """This is a child: every use raises `foreign`, and no lock is held by a thread that is not here."""
        ...


def register(owned: Owned, *, last: bool = False) -> None:
    """Tell `owned` of every fork while it lives; `last`: its lock is taken inside those of others."""
    (_last if last else _known).add(owned)


def foreign(what: str) -> RuntimeClosed:
    """The error of a call in a child; `what` names what was called."""
    return RuntimeClosed(
        f"the {what} belongs to the process that opened it, and this one was forked from that: open one of "
        "its own here, over another file; nothing changed"
    )


def keep_for_ever(thing: object) -> None:
    """Let `thing` never be destroyed in this process: its end would touch the parent's files."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def take(lock: threading.Lock, held: ExitStack) -> None:
    """Take `lock` into `held` if it comes free in time."""
    if lock.acquire(timeout=FORK_PATIENCE_S):
        held.callback(lock.release)


class Ownership:
    """Whether this is still the process that opened `thing`, which lives as long as the process in a child.

    Args:
        what: names it in the error.
        lock: guards it; in a child it is freed of threads that are not here.
    """

    def __init__(self, thing: object, what: str, lock: threading.RLock) -> None:
        self._thing, self._what, self._lock = ref(thing), what, lock
        self.lost = False
        register(self)

    def check(self) -> None:
        """Raise `RuntimeClosed` in a child."""
        if self.lost:
            raise foreign(self._what)

    def hold_still(self, held: ExitStack) -> None:
        """See `Owned`. Its database keeps the file still."""

    def disown(self) -> None:
        """See `Owned`."""
        self.lost = True
        keep_for_ever(self._thing())
        renew(self._lock)


class _Renewable(Protocol):
    def _is_owned(self) -> bool: ...
    def _at_fork_reinit(self) -> None: ...


def renew(lock: threading.RLock) -> None:
    """In a child: free `lock` of a thread that is not here; what this thread holds stays held."""
    inner = cast("_Renewable", lock)
    if not inner._is_owned():
        inner._at_fork_reinit()


_known: Final[WeakSet[Owned]] = WeakSet()
_last: Final[WeakSet[Owned]] = WeakSet()
_forking = threading.Lock()
_held = ExitStack()


def _before() -> None:
    _forking.acquire()
    for owned in [*_known, *_last]:
        owned.hold_still(_held)


def _in_parent() -> None:
    _held.close()
    _forking.release()


def _in_child() -> None:
    global _forking, _held
    _forking, _held = threading.Lock(), ExitStack()
    for owned in [*_known, *_last]:
        keep_for_ever(owned)
        owned.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
