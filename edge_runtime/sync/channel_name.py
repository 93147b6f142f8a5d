"""What kind of channel a name means: rows about nobody, or one subject's for one purpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure

SHARED: Final = "all"
"""The channel of every row about nobody that stands in no narrower one."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A channel of rows about nobody: `all`, `segment:<name>`."""

    name: str


@dataclass(frozen=True, slots=True)
class Personal:
    """The channel of one subject and purpose."""

    name: str
    subject: bytes
    """16-byte pseudonym."""
    purpose: str

    @property
    def token(self) -> str:
        """The subject as it stands in rows."""
        return self.name.partition("/")[0]


Channel = Plain | Personal


def channel_of(name: str) -> Channel:
    """What kind of channel `name` is; `WireFailure("malformed")` for a personal name that is not one."""
    if not name.startswith("~"):
        return Plain(name)
    token, slash, purpose = name.partition("/")
    if not slash or not purpose:
        raise WireFailure("malformed", "expected <token>/<purpose>")
    return Personal(name, seal.token_subject(token), purpose)
