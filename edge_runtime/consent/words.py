"""What is asked of the consent room, checked: subjects, purposes, notices, times. Pure.

A fault is a `MalformedRequest` that names the place and never the subject.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple, Protocol

from edge_runtime.catalog.model import Notice, Purpose
from edge_runtime.errors import MalformedRequest
from edge_runtime.wire.utf8 import utf8_size

ID_LIMIT_BYTES: Final = 512
FUTURE_US: Final = 60_000_000
GIVEN: Final = frozenset({"given", "renewed"})
"""DPV states that allow use."""
DENIED: Final = frozenset({"refused", "withdrawn", "revoked", "expired", "objected"})
"""States that end permission."""
GPC: Final = "gpc"
"""The signal of Global Privacy Control (`Sec-GPC: 1`)."""


class Declared(Protocol):
    """What the consent room needs of a catalog."""

    @property
    def purposes(self) -> Mapping[str, Purpose]:
        """Purposes by name."""
        ...

    @property
    def notices(self) -> Mapping[str, Notice]:
        """Notices by version; empty when none are declared."""
        ...

    def subject(self, id: str) -> str:
        """The typed id of a subject."""
        ...


class Permission(NamedTuple):
    """Whether personal features may be used, and why (not)."""

    allowed: bool
    reason: str


def needs_consent(purpose: Purpose) -> bool:
    """Whether a purpose rests on consent: by its basis, or for storing on a terminal that is not its own."""
    return purpose.asks


def subject_of(catalog: Declared, subject: object) -> str:
    """The typed id, or `MalformedRequest`."""
    if not isinstance(subject, str):
        raise MalformedRequest("subject", "an id", type(subject).__name__)
    size = utf8_size(subject)
    if size is None:
        raise MalformedRequest("subject", "an id that is valid Unicode", "a lone surrogate")
    if not 0 < size <= ID_LIMIT_BYTES:
        raise MalformedRequest("subject", f"an id of 1 to {ID_LIMIT_BYTES} bytes", f"{size} bytes")
    return catalog.subject(subject)


def purposes_of(catalog: Declared, purposes: object, also: Collection[str] = ()) -> list[str]:
    """The purposes named, each once and in order; `also` are legal though undeclared."""
    if isinstance(purposes, str | bytes) or not isinstance(purposes, Iterable):
        raise MalformedRequest("purposes", "a list of purposes", type(purposes).__name__)
    names = list(dict.fromkeys(purposes))
    if not names:
        raise MalformedRequest("purposes", "at least one purpose", "none")
    for name in names:
        if not isinstance(name, str) or (name not in catalog.purposes and name not in also):
            raise MalformedRequest("purposes", f"one of {sorted(catalog.purposes)}", "an undeclared purpose")
    return names


def notice_of(catalog: Declared, notice: object, purposes: Iterable[str]) -> str:
    """The notice's version; declared notices must cover the purposes."""
    if not isinstance(notice, str) or not notice.strip():
        raise MalformedRequest("notice", "the version of the text that was shown", "nothing")
    try:
        size = len(notice.encode())
    except UnicodeEncodeError:
        raise MalformedRequest("notice", "valid Unicode", "a lone surrogate") from None
    if size > ID_LIMIT_BYTES:
        raise MalformedRequest("notice", f"at most {ID_LIMIT_BYTES} bytes", f"{size} bytes")
    if catalog.notices:
        declared = catalog.notices.get(notice)
        if declared is None:
            raise MalformedRequest("notice", f"one of {sorted(catalog.notices)}", "an undeclared notice")
        uncovered = sorted(set(purposes) - set(declared.purposes))
        if uncovered:
            raise MalformedRequest("notice", f"a notice that covers {uncovered}", "one that does not")
    return notice


def when_us(at: object, now_us: int) -> int:
    """Microseconds of an aware datetime or Unix seconds; now for None; not before 1970, not ahead of now."""
    if at is None:
        return now_us
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise MalformedRequest("at", "an aware datetime or Unix seconds", "a naive datetime")
        seconds = Decimal(at.timestamp())
    elif isinstance(at, int | float) and not isinstance(at, bool):
        seconds = Decimal(at)
    else:
        raise MalformedRequest("at", "an aware datetime or Unix seconds", type(at).__name__)
    if not seconds.is_finite() or not 0 <= seconds * 1_000_000 <= now_us + FUTURE_US:
        raise MalformedRequest("at", "a time since 1970 that is not ahead of now", "another time")
    return int((seconds * 1_000_000).to_integral_value())
