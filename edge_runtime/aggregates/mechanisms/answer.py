"""The bytes of an answer: one bit a category, padded, so that its length says nothing about its content."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PAD_BYTES: Final = 32
CATEGORY_LIMIT: Final = 10_001
"""Most categories a metric may have: what the longest list of edges in a catalog makes."""


def answer_bytes(categories: int) -> int:
    """Length of every answer with this many categories: whole blocks of 32 bytes."""
    return -(-categories // (8 * PAD_BYTES)) * PAD_BYTES


def encode_answer(chosen: Iterable[int], categories: int) -> bytes:
    """The answer that names `chosen` (indexes below `categories`)."""
    bitmap = 0
    for category in chosen:
        bitmap |= 1 << category
    return bitmap.to_bytes(answer_bytes(categories), "little")


def decode_answer(answer: bytes, categories: int) -> tuple[int, ...] | None:
    """The categories that `answer` names, ascending; None when its length or padding is not ours."""
    bitmap = int.from_bytes(answer, "little")
    if len(answer) != answer_bytes(categories) or bitmap >> categories:
        return None
    return tuple(c for c in range(categories) if bitmap >> c & 1)
