"""What a run says and what it must not say: texts and needles, appended to two files of one folder.

Every process of the run appends to the same two files, a forked one too and one that is killed: a line is
written by one call, so none is torn by another. Memory holds a hash of each text, not the text.
"""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_write: Final = os.write
"""Python's own, also while a test has put one in its place that dies."""
TEXT_LIMIT: Final = 200_000
"""Characters kept of one text; a longer one keeps its two ends."""


class Text(NamedTuple):
    """Something that a log, a debugger or a crash report would show."""

    source: str
    """`log`, `warning`, `exception`, `repr`, `thread`, `unraisable`, `loop`, `stderr`, `stdout`."""
    where: str
    """Logger, or type and place in the product."""
    text: str


class Needle(NamedTuple):
    """Something that no text may hold."""

    kind: str
    """`data key`, `subject`, `api token`, ...: what a finding names instead of the needle."""
    raw: bytes
    """Key bytes, or UTF-8 of a subject or token."""


class Collector:
    """Appends texts and needles, each once a process. Safe in threads, after a fork, and before a kill."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self._texts, self._needles = _append_to(folder / "texts"), _append_to(folder / "needles")
        self.takes_keys = self.takes_subjects = True
        self._known: set[int] = set()
        """Hashes of what this process wrote: no text is held, and no key lives on in here."""

    def text(self, source: str, where: str, text: str) -> None:
        """Keep a text, unless the same was kept from the same place."""
        if len(text) > TEXT_LIMIT:
            text = f"{text[: TEXT_LIMIT // 2]} ... {text[-TEXT_LIMIT // 2 :]}"
        if self._is_new(hash((source, where, text))):
            _put(self._texts, json.dumps((source, where, text)).encode() + b"\n")

    def secret(self, kind: str, raw: bytes | bytearray) -> None:
        """Key bytes that the run made. Written at once: the product overwrites its own."""
        if self.takes_keys and self._is_new(hash((kind, raw if type(raw) is bytes else raw.hex()))):
            self._note(kind, raw)

    def word(self, kind: str, word: str) -> None:
        """A subject (`user:alice`, or as a caller named it) or a token that is text."""
        if self._is_new(hash((kind, word))):
            self._note(kind, word.encode("utf-8", "surrogatepass"))

    def texts(self) -> Iterator[Text]:
        """Every text of every process so far."""
        for line in _lines(self.folder / "texts"):
            source, where, text = json.loads(line)
            yield Text(source, where, text)

    def needles(self) -> set[Needle]:
        """Every needle of every process so far."""
        found = map(json.loads, _lines(self.folder / "needles"))
        return {Needle(kind, bytes.fromhex(raw)) for kind, raw in found}

    def close(self) -> None:
        """Close both files."""
        os.close(self._texts)
        os.close(self._needles)

    def _is_new(self, name: int) -> bool:
        if name in self._known:
            return False
        self._known.add(name)
        return True

    def _note(self, kind: str, raw: bytes | bytearray) -> None:
        _put(self._needles, json.dumps((kind, raw.hex())).encode() + b"\n")


def _put(file: int, line: bytes) -> None:
    """Write, also while a test lets this process write no file any longer."""
    try:
        _write(file, line)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))
        try:
            _write(file, line)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _append_to(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file
