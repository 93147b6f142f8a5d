"""The records of a CSV, TSV, JSON Lines or Parquet file, one by one, each with its line.

The ending says the form; text may be gzipped (`.csv.gz`). Cells of a CSV are texts, and an empty one is None:
what they mean, the reader's columns say. Nothing but the record at hand is held.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from edge_runtime.errors import MalformedRequest

Record = dict[str, object]
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson", ".json")
_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Sheet:
    """One file of records. `rename` maps its columns to the names meant; to "" leaves a column out."""

    path: Path
    rename: Mapping[str, str] = field(default_factory=dict)

    def records(self) -> Iterator[tuple[int, Record]]:
        """(line, record); for Parquet the number of the row, from 1.

        Raises:
            MalformedRequest: another ending, a column renamed that is not there, or a line that is none of
                its form; the place is `file:line`.
            ImportError: a Parquet file, and pyarrow is not installed.
        """
        ending = form_of(self.path)
        if ending in _DELIMITERS:
            return self._csv(_DELIMITERS[ending])
        return self._json_lines() if ending in _JSON_LINES else self._parquet()

    @property
    def is_text(self) -> bool:
        """Whether its cells are texts, to be turned into what the catalog declares."""
        return form_of(self.path) in _DELIMITERS

    def place(self, line: int) -> str:
        """`file:line`."""
        return f"{self.path}:{line}"

    def place_of(self, number: int) -> str:
        """The place of record `number`, counted from 0."""
        for position, (line, _) in enumerate(self.records()):
            if position == number:
                return self.place(line)
        return str(self.path)

    def _csv(self, delimiter: str) -> Iterator[tuple[int, Record]]:
        with self._open() as raw:
            reader = csv.reader(_texts(raw, self), delimiter=delimiter, strict=True)
            names: list[str] | None = None
            while (cells := self._next(reader)) is not None:
                if names is None:
                    names = self._names([cell.strip() for cell in cells])
                elif cells:
                    if len(cells) != len(names):
                        got = f"{len(cells)} cells"
                        raise MalformedRequest(self.place(reader.line_num), f"{len(names)} cells", got)
                    found: Record = {n: c or None for n, c in zip(names, cells, strict=True) if n}
                    yield reader.line_num, found

    def _next(self, reader: Any) -> list[str] | None:
        try:
            return cast("list[str] | None", next(reader, None))
        except csv.Error as error:
            place = self.place(reader.line_num)
            raise MalformedRequest(place, "a line of quoted and separated cells", str(error)) from None

    def _json_lines(self) -> Iterator[tuple[int, Record]]:
        decode, rename = msgspec.json.Decoder().decode, self.rename
        with self._open() as raw:
            for line, text in enumerate(raw, 1):
                if not text.strip():
                    continue
                try:
                    found = decode(text)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    raise MalformedRequest(self.place(line), "one JSON object", "no JSON") from None
                if not isinstance(found, dict):
                    raise MalformedRequest(self.place(line), "one JSON object", type(found).__name__)
                yield line, _renamed(found, rename) if rename else found

    def _parquet(self) -> Iterator[tuple[int, Record]]:
        try:
            parquet: Any = import_module("pyarrow.parquet")
        except ImportError:
            raise ImportError("Parquet needs pyarrow: pip install edge-runtime[parquet]") from None
        with self.path.open("rb") as raw:
            try:
                file = parquet.ParquetFile(raw)
            except (OSError, ValueError) as error:
                raise MalformedRequest(str(self.path), "a Parquet file", type(error).__name__) from None
            names = self._names(file.schema_arrow.names)
            line = 0
            for batch in file.iter_batches(batch_size=_BATCH):
                for found in batch.to_pylist(maps_as_pydicts="strict"):
                    line += 1
                    yield line, {n: v for n, v in zip(names, found.values(), strict=True) if n}

    def _names(self, columns: list[str]) -> list[str]:
        for column in self.rename:
            if column not in columns:
                raise MalformedRequest(str(self.path), f"a column {column!r} to rename", "none of that name")
        names = [self.rename.get(column, column) for column in columns]
        used = [name for name in names if name]
        if len(set(used)) < len(used):
            raise MalformedRequest(self.place(1), "columns of different names", "one name twice")
        return names

    def _open(self) -> IO[bytes]:
        if self.path.suffix == ".gz":
            return cast("IO[bytes]", gzip.open(self.path, "rb"))
        return self.path.open("rb")


def form_of(path: Path) -> str:
    """The ending that says the form, without `.gz`: `.csv`, `.tsv`, `.jsonl`, `.ndjson`, `.json`, `.parquet`.

    Raises:
        MalformedRequest: another ending.
    """
    ending = (Path(path.stem) if path.suffix == ".gz" else path).suffix.lower()
    known = (*_DELIMITERS, *_JSON_LINES, ".parquet")
    if ending not in known or (ending == ".parquet" and path.suffix == ".gz"):
        raise MalformedRequest(str(path), f"an ending {' '.join(known)}, text perhaps with .gz", "another")
    return ending


def _texts(raw: IO[bytes], sheet: Sheet) -> Iterator[str]:
    for line, text in enumerate(raw, 1):
        found = _decoded(text, "utf-8-sig" if line == 1 else "utf-8")
        if found is None:
            raise MalformedRequest(sheet.place(line), "UTF-8", "other bytes")
        yield found


def _decoded(text: bytes, encoding: str) -> str | None:
    """None for other bytes: Python's own error holds the whole line, and would be the context of ours."""
    try:
        return text.decode(encoding)
    except UnicodeDecodeError:
        return None


def _renamed(found: Record, rename: Mapping[str, str]) -> Record:
    return {name: value for key, value in found.items() if (name := rename.get(key, key))}
