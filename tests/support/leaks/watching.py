"""Hears what a process says beside its results: log records of every logger at every level, warnings, what
threads, event loops and finalizers fail with, and, in the suite's children, what they print."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from tests.support.leaks.exceptions import shown
from tests.support.leaks.sink import sink

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""Fields that every record has."""


def replace(owner: object, name: str, value: object) -> None:
    """Put `value` in the place of an attribute of somebody else's."""
    setattr(owner, name, value)


def watch_logs() -> None:
    """Every record of every logger from DEBUG on, also of a logger that does not propagate."""
    logging.root.setLevel(logging.DEBUG)
    handle = logging.Logger.callHandlers

    def heard(logger: logging.Logger, record: logging.LogRecord) -> None:
        sink().text("log", record.name, told(record))
        handle(logger, record)

    replace(logging.Logger, "callHandlers", heard)


def told(record: logging.LogRecord) -> str:
    """A record as a handler may print it: its message, its arguments, its own fields, its exception."""
    extra = {k: v for k, v in vars(record).items() if k not in _PLAIN}
    error = record.exc_info[1] if record.exc_info else None
    return f"{record.levelname} {record.getMessage()} {record.args!r} {extra!r}{_of(error)}"


def watch_warnings() -> None:
    """Every warning, also one that a filter drops or turns into an error."""
    real, explicit = warnings.warn, warnings.warn_explicit

    def warn(
        message: Any, category: Any = None, stacklevel: int = 1, source: Any = None, **more: Any
    ) -> None:
        sink().text("warning", _category(message, category), f"{message} {source!r}")
        real(message, category, stacklevel + 1, source, **more)

    def warn_explicit(message: Any, category: Any, *args: Any, **kwargs: Any) -> None:
        sink().text("warning", _category(message, category), str(message))
        explicit(message, category, *args, **kwargs)

    replace(warnings, "warn", warn)
    replace(warnings, "warn_explicit", warn_explicit)


def _category(message: object, category: type[Warning] | None) -> str:
    return (type(message) if isinstance(message, Warning) else category or UserWarning).__qualname__


def watch_edges() -> None:
    """What nobody caught: in the main thread, in others, and where nobody can (`__del__`)."""
    unraisable, thread, main = sys.unraisablehook, threading.excepthook, sys.excepthook

    def on_unraisable(found: Any) -> None:
        said = f"{found.err_msg} {found.object!r}"
        sink().text("unraisable", "sys.unraisablehook", said + _of(found.exc_value))
        unraisable(found)

    def on_thread(found: Any) -> None:
        sink().text("thread", "threading.excepthook", f"{found.thread!r}" + _of(found.exc_value))
        thread(found)

    def on_main(kind: Any, error: BaseException, where: Any) -> None:
        sink().text("exception", "sys.excepthook", _of(error))
        main(kind, error, where)

    sys.unraisablehook, threading.excepthook, sys.excepthook = on_unraisable, on_thread, on_main


def watch_loops() -> None:
    """What event loops are told of tasks and callbacks that failed, whichever handler they have."""
    from asyncio import BaseEventLoop  # children that have no loop are spared it

    real = BaseEventLoop.call_exception_handler

    def heard(loop: BaseEventLoop, context: dict[str, Any]) -> None:
        sink().text("loop", "call_exception_handler", f"{context!r}" + _of(context.get("exception")))
        real(loop, context)

    replace(BaseEventLoop, "call_exception_handler", heard)


def watch_prints() -> None:
    """What this process prints as text."""
    for source, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        if stream is not None:
            replace(stream, "write", _heard(source, stream))


def _heard(source: str, stream: TextIO) -> Callable[[str], int]:
    real = stream.write

    def write(text: str) -> int:
        if len(text) > 1:
            sink().text(source, _command(), text)
        return real(text)

    return write


def _command() -> str:
    return " ".join(" ".join(sys.orig_argv[1:4]).split())[:80]


def _of(error: BaseException | None) -> str:
    if error is None:
        return ""
    return "\n" + shown(error)
