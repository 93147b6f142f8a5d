"""Finds needles in texts, in any dress they may come in. Pure.

**Keys** are looked for as bytes: a text gives up every run of bytes it may hold (itself, `b'\\x..'` at any
depth of quoting, hex, base64 of either alphabet at any offset), and each run is searched for the four 8-byte
blocks of each key. So a key is found whole, within something larger, or as a part of 15 bytes, or as its
first 8; by chance perhaps once in ten million runs.

**Subjects** are looked for as they are, percent-decoded, and as `repr` and JSON quote them:

- a typed id (`user:alice`) anywhere, unless the id goes on (`user:alice2`);
- a bare id that can hardly be anything else, at least 8 characters, or 5 with letters and digits, as a whole
  word;
- a shorter one, which may be a common word ("alice", "u1"), only as a whole quoted token (`'alice'`), which
  is how `KeyError`, `repr`, JSON and validators show a value, and not if the product or a catalog says the
  same word by itself; one character is looked for only as a typed id.

Pseudonyms are no needles: nobody can tell whom they name without the tenant's key, which is one.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple
from urllib.parse import unquote

from tests.support.leaks.collector import Needle, Text
from tests.support.leaks.needles import DECLARED, SUBJECT, TOKEN

BLOCK: Final = 8
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([nrt\\'\"]))")
_ESCAPED: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_HEX: Final = re.compile(r"[0-9a-fA-F]{16,}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{22,}")
_RATIO: Final = re.compile(r"-?[0-9]{1,3}/[0-9]{1,3}")
"""How a question writes an amount (`1/2`): as a word it names nobody, whoever is called so."""
_WORD: Final = re.compile(r"\w+")
_WORDY: Final = re.compile(r"[\w-]")
_WORDS: Final = frozenset({SUBJECT, TOKEN})


class Finding(NamedTuple):
    """One place that shows a needle. It never says which."""

    source: str
    where: str
    kind: str
    """Kind of needle, and in which dress."""


class Search:
    """Looks for one set of needles.

    Args:
        vocabulary: words that the product says by itself, and names that catalogs declare: as a bare id such
            a word is no needle.
    """

    def __init__(self, needles: Iterable[Needle], vocabulary: Collection[str] = ()) -> None:
        needles = list(needles)
        declared = {needle.raw.decode() for needle in needles if needle.kind == DECLARED}
        self._vocabulary = declared.union(vocabulary)
        self._blocks: dict[bytes, str] = {}
        self._typed: dict[str, set[str]] = {}
        """Entity type and colon -> every form of the ids."""
        self._lengths: dict[str, list[int]] = {}
        self._bare: dict[str, set[tuple[str, str]]] = {}
        """First long word of a bare id -> (the id, its kind)."""
        for needle in needles:
            if needle.kind in _WORDS:
                self._add_word(needle.kind, needle.raw.decode("utf-8", "surrogatepass"))
            elif needle.kind != DECLARED:
                self._add_key(needle)
        for prefix, ids in self._typed.items():
            self._lengths[prefix] = sorted({len(one) for one in ids}, reverse=True)
        self._prefix = re.compile("|".join(map(re.escape, sorted(self._typed, reverse=True))) or r"(?!)")

    def findings(self, texts: Iterable[Text]) -> Counter[Finding]:
        """Where needles show, and in how many different texts."""
        found: Counter[Finding] = Counter()
        for source, where, text in texts:
            for kind in self.kinds(text):
                found[Finding(source, where, kind)] += 1
        return found

    def kinds(self, text: str) -> set[str]:
        """The kinds of needles that `text` shows."""
        read = f"{text}\n{unquote(text)}" if "%" in text else text
        return {*self._keys_in(text), *self._typed_in(read), *self._bare_in(read)}

    # ---- keys -------------------------------------------------------------------------------------------

    def _add_key(self, needle: Needle) -> None:
        for start in range(0, len(needle.raw) - BLOCK + 1, BLOCK):
            block = needle.raw[start : start + BLOCK]
            if not _pattern(block):
                self._blocks[block] = needle.kind

    def _keys_in(self, text: str) -> Iterator[str]:
        for dress, run in runs_of_bytes(text):
            for start in range(len(run) - BLOCK + 1):
                kind = self._blocks.get(run[start : start + BLOCK])
                if kind is not None:
                    yield f"{kind}, as {dress}"
                    break

    # ---- subjects ---------------------------------------------------------------------------------------

    def _add_word(self, kind: str, word: str) -> None:
        head, colon, bare = word.partition(":")
        if kind == SUBJECT and colon and head.isidentifier() and _WORD.search(bare):
            self._typed.setdefault(f"{head}:", set()).update(_dresses(bare))
        else:
            bare = word
        if _RATIO.fullmatch(bare):
            return
        if len(bare) < 2 or not _WORD.search(bare) or (bare in self._vocabulary and not _distinctive(bare)):
            return
        for dress in _dresses(bare):
            words = _WORD.findall(dress)
            if words:
                self._bare.setdefault(max(words, key=len), set()).add((dress, kind))

    def _typed_in(self, text: str) -> Iterator[str]:
        for match in self._prefix.finditer(text):
            start, ids = match.end(), self._typed[match[0]]
            for length in self._lengths[match[0]]:
                if text[start : start + length] in ids and _ends(text, start + length):
                    yield "subject, typed"
                    return

    def _bare_in(self, text: str) -> Iterator[str]:
        for word in self._bare.keys() & set(_WORD.findall(text)):
            for bare, kind in self._bare[word]:
                if _shows(text, bare):
                    yield f"{kind}, bare"


def runs_of_bytes(text: str) -> Iterator[tuple[str, bytes]]:
    """Every run of bytes that a text may be the print of, and how it was dressed."""
    raw = text.encode("utf-8", "surrogatepass")
    if not text.isascii():
        yield "bytes", raw
        yield "bytes", text.encode("latin-1", "replace")
    for _ in range(3):  # a repr of a repr of a repr
        if b"\\x" not in raw:
            break
        raw = _ESCAPE.sub(_unescaped, raw)
        yield "repr", raw
    for match in _HEX.finditer(text):
        for shift in (0, 1):
            run = match[0][shift:]
            yield "hex", bytes.fromhex(run[: len(run) // 2 * 2])
    for match in _BASE64.finditer(text):
        run = match[0].replace("-", "+").replace("_", "/")
        for shift in range(4):
            yield "base64", base64.b64decode(run[shift : shift + (len(run) - shift) // 4 * 4])
            rest = (len(run) - shift) % 4
            if rest > 1:
                yield "base64", base64.b64decode(run[len(run) - rest - 12 :] + "=" * (4 - rest))


def _unescaped(match: re.Match[bytes]) -> bytes:
    code, short = match.groups()
    return bytes.fromhex(code.decode()) if code is not None else _ESCAPED.get(short, short)


def _pattern(block: bytes) -> bool:
    """Whether a block counts up, or down, or not at all, as test keys like `bytes(range(32))` do."""
    steps = {(b - a) % 256 for a, b in pairwise(block)}
    return len(steps) == 1 or len(set(block)) < 5


def _dresses(word: str) -> set[str]:
    """A text as it is, as `repr` shows it and as JSON does."""
    return {word, repr(word)[1:-1], ascii(word)[1:-1], json.dumps(word)[1:-1]}


def _distinctive(bare: str) -> bool:
    letters, digits = any(c.isalpha() for c in bare), any(c.isdigit() for c in bare)
    return len(bare) >= 8 or (len(bare) >= 5 and letters and digits)


def _shows(text: str, bare: str) -> bool:
    if not _distinctive(bare):
        return any(f"{mark}{bare}{mark}" in text for mark in "'\"`")
    at = text.find(bare)
    while at >= 0:
        if _ends(text, at + len(bare)) and not (at and _WORDY.match(text[at - 1])):
            return True
        at = text.find(bare, at + 1)
    return False


def _ends(text: str, at: int) -> bool:
    return at >= len(text) or _WORDY.match(text[at]) is None
