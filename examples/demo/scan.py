"""Look for a customer's plain values in files, byte by byte, as a thief with the disk would."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.demo.purchases import Visit


@dataclass(frozen=True, slots=True)
class Findings:
    """What a search over files found."""

    files: int
    size_bytes: int
    hits: int
    """Places where a plain value stands, over all files."""


def plain_values(customer: str, visits: Iterable[Visit]) -> list[bytes]:
    """Return the customer's id and invoice numbers in the encodings a program would write them in.

    Article codes are left out: the same codes stand in what every kiosk is told about items, and five
    characters are short enough to turn up in ciphertext by chance.
    """
    invoices = {visit.invoice for visit in visits if visit.customer == customer}
    values = [customer, *sorted(invoices)]
    return [value.encode(encoding) for value in values for encoding in ("utf-8", "utf-16-le", "utf-16-be")]


def search(folders: Iterable[Path], needles: Sequence[bytes]) -> Findings:
    """Count the needles in every file below `folders`; a file that vanishes meanwhile counts as empty."""
    files = size_bytes = hits = 0
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        content = _content(path)
        files += 1
        size_bytes += len(content)
        hits += count(content, needles)
    return Findings(files, size_bytes, hits)


def count(content: bytes, needles: Sequence[bytes]) -> int:
    """Return how often the needles stand in `content`."""
    return sum(content.count(needle) for needle in needles)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # a write-ahead log or a temporary file may go at any time
        return b""
