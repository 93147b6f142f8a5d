"""What a record prints of itself: the named fields, whoever prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import pytest
from rich.pretty import pretty_repr

from edge_runtime.wire.printing import prints_only


@prints_only("purpose")
@dataclass(frozen=True, slots=True)
class AsDataclass:
    subject: str
    purpose: str


@prints_only("purpose")
class AsTuple(NamedTuple):
    subject: str
    purpose: str


@prints_only("purpose")
class AsStruct(msgspec.Struct, frozen=True):
    subject: str
    purpose: str


@prints_only()
class Silent(AsStruct, frozen=True):
    more: int = 0


@pytest.mark.parametrize("kind", [AsDataclass, AsTuple, AsStruct])
def test_only_named_fields_are_printed(kind: type[AsTuple]) -> None:
    record = kind("user:alice", "ads")
    assert repr(record) == str(record) == f"{kind.__name__}(purpose='ads', ...)"
    assert pretty_repr(record) == f"{kind.__name__}(purpose='ads')"
    assert repr([record]) == f"[{record!r}]"
    assert record == kind("user:alice", "ads"), "what it is does not change"


def test_a_record_may_print_nothing_and_says_so() -> None:
    assert repr(Silent("user:alice", "ads")) == "Silent(...)"


def test_a_field_that_is_not_there_cannot_be_named() -> None:
    with pytest.raises(AssertionError, match=r"has no \['porpoise'\]"):
        prints_only("porpoise")(AsStruct)
