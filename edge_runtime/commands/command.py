"""What a command is: a function from its options to an exit code, one JSON object and the text for people."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Protocol

Out = dict[str, object]
Run = Callable[[argparse.Namespace], tuple[int, Out, str]]


class Declare(Protocol):
    """Declares one command and returns its parser, for arguments."""

    def __call__(self, name: str, run: Run, about: str) -> argparse.ArgumentParser: ...
