"""Measuring text leaves no error behind that holds it."""

from __future__ import annotations

import pytest

from edge_runtime.errors import MalformedRequest
from edge_runtime.serving.request import check_id
from edge_runtime.wire.utf8 import utf8_size


@pytest.mark.parametrize(
    ("text", "size"), [("", 0), ("abc", 3), ("ä", 2), ("𝕏", 4), ("\ud800", None), ("a\udfff", None)]
)
def test_the_size_is_what_encoding_says(text: str, size: int | None) -> None:
    assert utf8_size(text) == size


def test_an_error_about_a_text_does_not_carry_it_along() -> None:
    with pytest.raises(MalformedRequest) as caught:
        check_id("user", "alice\ud800")
    assert caught.value.__context__ is None
