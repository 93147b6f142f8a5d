"""What an exception would show: its text, its arguments and fields, those of its whole chain, the traceback,
and the reprs of our own objects among the locals of the frames that it passes."""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from types import CodeType, FrameType
from typing import Final

from tests.support.leaks.collector import Collector
from tests.support.leaks.rewriting import PACKAGES
from tests.support.leaks.sink import sink

SAMPLES: Final = 8
"""How often the locals of one function are looked at, for each kind of exception: what a repr shows depends
on the type."""
_ELEMENTS: Final = 4
"""Elements of a container among the locals that are looked at."""
_DEEPEST: Final = 12
"""Exceptions of one chain that are looked at."""
_FLOW: Final = (StopIteration, StopAsyncIteration, GeneratorExit)
_ours: dict[type, bool] = {}
_looked_at: Counter[tuple[Collector, CodeType, type]] = Counter()
_known: set[int] = set()
"""Hashes of what was raised where: most exceptions of a run are the same ones again."""


def passing() -> None:
    """Called by the product in every frame that an exception leaves."""
    error = sys.exc_info()[1]
    if error is not None and not isinstance(error, _FLOW):
        _note(error, sys._getframe(1))


def caught() -> None:
    """Called by the product in every frame that catches an exception.

    One that arose in that very frame, or in a library that it called, was seen by that frame alone. If it
    is raised again, logged, kept, or the context of another, it is met there.
    """
    error, frame = sys.exc_info()[1], sys._getframe(1)
    if error is not None and not isinstance(error, _FLOW) and _came_from_ours(error):
        _note(error, frame)


def _note(error: BaseException, frame: FrameType) -> None:
    if type(error).__module__.startswith("tests."):
        return  # what a test raises of its own kind, in a hook of ours, is the test's word
    told = hash((sink(), _origin(error), *((type(one), str(one)) for one in _chain(error))))
    if told not in _known:
        _known.add(told)
        sink().text("exception", f"{_name(type(error))} in {_place(frame)}", shown(error))
    place = (sink(), frame.f_code, type(error))
    if _looked_at[place] < SAMPLES:
        _looked_at[place] += 1
        _look_at_locals(frame)


def shown(error: BaseException) -> str:
    """Everything that a crash report would print of an exception, but lines of source: those know nobody."""
    return "\n".join(line for one in _chain(error) for line in _lines_of(one))


def is_ours(kind: type) -> bool:
    """Whether a class belongs to the product."""
    found = _ours.get(kind)
    if found is None:
        found = _ours[kind] = kind.__module__.partition(".")[0] in PACKAGES
    return found


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, its causes and contexts, suppressed ones too, and the members of groups."""
    waiting, met = [error], set[int]()
    while waiting and len(met) < _DEEPEST:
        one = waiting.pop()
        if id(one) in met:
            continue
        met.add(id(one))
        yield one
        members = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        waiting += [e for e in (one.__cause__, one.__context__, *members) if e is not None]


def _origin(error: BaseException) -> CodeType | None:
    """The code in which it was raised."""
    code = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
    return code


def _lines_of(error: BaseException) -> Iterator[str]:
    for frame, line in traceback.walk_tb(error.__traceback__):
        yield f"  File {frame.f_code.co_filename}:{line}, in {frame.f_code.co_name}"
    yield from traceback.format_exception_only(error)
    yield f"{error!r} {error.args!r} {vars(error)!r}"


def _look_at_locals(frame: FrameType) -> None:
    found = frame.f_locals
    for value in list(found.values()):
        for one in (value, *_elements(value)):
            if is_ours(type(one)) and not isinstance(one, BaseException):
                _look_at(one, frame)
    if type(found) is dict:  # a copy; left there it would keep alive what the function lets go
        found.clear()


def _look_at(one: object, frame: FrameType) -> None:
    try:
        text = repr(one)
    except AttributeError:
        return  # half made: its own `__init__` is what failed
    sink().text("repr", f"{_name(type(one))}, a local of {_place(frame)}", text)


def _elements(value: object) -> Iterator[object]:
    match value:
        case str() | bytes() | bytearray():
            return
        case Mapping() if type(value) is dict:
            yield from islice(value.values(), _ELEMENTS)
        case Collection() if type(value) in (list, tuple, set, frozenset):
            yield from islice(value, _ELEMENTS)


def _came_from_ours(error: BaseException) -> bool:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(_in_ours(frame) for frame in frames[1:])


def _in_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in PACKAGES


def _place(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__')}:{frame.f_code.co_qualname}"


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
