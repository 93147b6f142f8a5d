"""How an unforeseen error is logged: by types and places. Its message may quote whoever was being served."""

from __future__ import annotations

import traceback


def told(error: BaseException) -> str:
    """One line for each frame and each type, from the first cause to the error itself; no message, no value.

    >>> told(KeyError("user:alice"))
    'KeyError'
    """
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    earlier = [] if before is None else [told(before), "then"]
    return "\n".join([*earlier, *lines, type(error).__qualname__])
