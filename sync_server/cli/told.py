"""What a command has to say, and the exit codes that scripts can use."""

from __future__ import annotations

from typing import Final, NamedTuple

DONE: Final = 0
REFUSED: Final = 1
"""The server said no, or the answer is no."""
USAGE: Final = 2
NOT_THERE: Final = 3
"""No server, or no file."""
NOT_YET: Final = 4
"""Asked for and in force, but not as far as was waited for."""
STOPPED: Final = 130
"""By Ctrl-C, as a shell has it: what was asked for may have been done."""


class Told(NamedTuple):
    """What a command found, for scripts and for people."""

    document: object
    """Printed with `--json`."""
    text: str
    code: int = DONE
