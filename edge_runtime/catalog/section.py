"""Reading a table of the catalog: each key once, each fault with its exact place, nothing thrown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from edge_runtime.catalog import duration
from edge_runtime.catalog.dtype import is_finite
from edge_runtime.catalog.limits import CatalogLimits
from edge_runtime.errors import Fault

RESERVED: Final = frozenset({"at", "id", "type", "request", "service"})
"""Names that calls use for themselves: `vector("ranker", user=..., at=..., request=...)`."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def shown(value: object) -> str:
    """A value as a fault shows it: type and at most 40 characters."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**30:
        return "a huge integer"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"


class Findings:
    """Every fault found so far, with the limits that hold."""

    def __init__(self, limits: CatalogLimits) -> None:
        self.limits = limits
        self.faults: list[Fault] = []

    def add(self, place: str, reason: str) -> None:
        """Note one fault."""
        self.faults.append(Fault(place, reason))


class Section:
    """One table of the catalog. A getter notes a fault and gives None (or its default) for a wrong value.

    `close()` notes every key that nothing asked for.
    """

    def __init__(self, findings: Findings, place: str, table: dict[object, object]) -> None:
        self.findings, self.place, self._table = findings, place, table
        self._asked: dict[str, None] = {}

    def at(self, key: str) -> str:
        """The place of one of this table's keys."""
        return f"{self.place}.{key}" if self.place else key

    def fault(self, key: str | None, reason: str) -> None:
        """Note a fault at a key, or at the table itself."""
        self.findings.add(self.place if key is None else self.at(key), reason)

    def has(self, key: str) -> bool:
        """Whether the key is there (of any type)."""
        self._asked[key] = None
        return key in self._table

    def raw(self, key: str) -> object:
        """The value as it stands, None when absent."""
        self._asked[key] = None
        return self._table.get(key)

    def forbid(self, key: str, reason: str) -> None:
        """Note `reason` if the key is there; it is not offered as a legal key otherwise."""
        if key in self._table:
            self._asked[key] = None
            self.fault(key, reason)

    def _missing(self, key: str, expected: str, required: bool) -> bool:
        if self.has(key):
            return False
        if required:
            self.fault(key, f"missing: expected {expected}")
        return True

    def _wrong(self, key: str, expected: str) -> None:
        self.fault(key, f"expected {expected}, got {shown(self._table[key])}")

    def text(self, key: str, *, required: bool = False, choices: Sequence[str] | None = None) -> str | None:
        """A string within the size limit, one of `choices` if given."""
        expected = "a string" if choices is None else "one of " + " ".join(choices)
        if self._missing(key, expected, required):
            return None
        value = self._table[key]
        if not isinstance(value, str) or not self._encodes(value):
            self._wrong(key, expected)
            return None
        if choices is not None and value not in choices:
            self._wrong(key, expected)
            return None
        return value

    def _encodes(self, value: str) -> bool:
        try:
            return len(value.encode()) <= self.findings.limits.text_bytes
        except UnicodeEncodeError:
            return False

    def integer(self, key: str, low: int, high: int, *, required: bool = False) -> int | None:
        """An integer from `low` to `high`."""
        expected = f"an integer from {low} to {high}"
        if self._missing(key, expected, required):
            return None
        value = self._table[key]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self._wrong(key, expected)
            return None
        return value

    def number(self, key: str, *, required: bool = False) -> float | None:
        """A finite number, as float."""
        if self._missing(key, "a finite number", required):
            return None
        value = self._table[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
            self._wrong(key, "a finite number")
            return None
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        if self._missing(key, "true or false", required=False):
            return default
        value = self._table[key]
        if not isinstance(value, bool):
            self._wrong(key, "true or false")
            return default
        return value

    def duration(self, key: str, *, required: bool = False) -> int | None:
        """A duration in microseconds, within the limit."""
        if self._missing(key, duration.EXPECTED, required):
            return None
        us = duration.parse_duration(self._table[key])
        if us is None:
            self._wrong(key, duration.EXPECTED)
            return None
        limit_us = self.findings.limits.duration_us
        if us > limit_us:
            self.fault(
                key, f"expected at most {duration.write_duration(limit_us)}, got {shown(self._table[key])}"
            )
            return None
        return us

    def positive_duration(self, key: str, *, required: bool = False) -> int | None:
        """A duration longer than 0."""
        us = self.duration(key, required=required)
        if us == 0:
            self.fault(key, f"expected {duration.EXPECTED.removesuffix(' or 0')} longer than 0, got 0")
            return None
        return us

    def items(self, key: str, *, required: bool = False) -> tuple[object, ...] | None:
        """A list, within the size limit, items unchecked."""
        if self._missing(key, "a list", required):
            return None
        value = self._table[key]
        if not isinstance(value, list | tuple):
            self._wrong(key, "a list")
            return None
        limit = self.findings.limits.list_items
        if len(value) > limit:
            self.fault(key, f"expected at most {limit} items, got {len(value)}")
            return None
        return tuple(value)

    def strings(self, key: str, *, required: bool = False, or_one: bool = False) -> tuple[str, ...] | None:
        """A list of distinct strings; with `or_one` a single string stands for a list of one."""
        expected = "a string or a list of strings" if or_one else "a list of strings"
        if self._missing(key, expected, required):
            return None
        value = self._table[key]
        if or_one and isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple):
            self._wrong(key, expected)
            return None
        items = self.items(key) if isinstance(self._table[key], list | tuple) else tuple(value)
        if items is None:
            return None
        return self._distinct_strings(key, items)

    def _distinct_strings(self, key: str, items: tuple[object, ...]) -> tuple[str, ...] | None:
        texts: dict[str, None] = {}
        for n, item in enumerate(items):
            if not isinstance(item, str) or not self._encodes(item):
                self.findings.add(f"{self.at(key)}[{n}]", f"expected a string, got {shown(item)}")
                return None
            if item in texts:
                self.findings.add(f"{self.at(key)}[{n}]", f"expected each item once, got {shown(item)} again")
                return None
            texts[item] = None
        return tuple(texts)

    def numbers(self, key: str, *, required: bool = False, rising: bool = False) -> tuple[float, ...] | None:
        """A list of finite numbers, strictly rising if asked."""
        items = self.items(key, required=required)
        if items is None:
            return None
        numbers: list[float] = []
        for n, item in enumerate(items):
            if isinstance(item, bool) or not isinstance(item, int | float) or not is_finite(item):
                self.findings.add(f"{self.at(key)}[{n}]", f"expected a finite number, got {shown(item)}")
                return None
            if rising and numbers and float(item) <= numbers[-1]:
                self.findings.add(
                    f"{self.at(key)}[{n}]", f"expected more than the item before, got {shown(item)}"
                )
                return None
            numbers.append(float(item))
        return tuple(numbers)

    def table(self, key: str, *, required: bool = False) -> Section | None:
        """A nested table."""
        if self._missing(key, "a table", required):
            return None
        value = self._table[key]
        if not isinstance(value, dict):
            self._wrong(key, "a table")
            return None
        return Section(self.findings, self.at(key), value)

    def entries(self) -> Iterator[tuple[str, object]]:
        """Every entry with a string key, within the count limit; other keys are faults."""
        limit = self.findings.limits.entries
        if len(self._table) > limit:
            self.fault(None, f"expected at most {limit} entries, got {len(self._table)}")
            return
        for key, value in self._table.items():
            if isinstance(key, str) and self._encodes(key):
                self._asked[key] = None
                yield key, value
            else:
                self.fault(None, f"expected string keys, got {shown(key)}")

    def tables(self) -> Iterator[tuple[str, Section]]:
        """Every entry, each of which must be a table."""
        for key, value in self.entries():
            if isinstance(value, dict):
                yield key, Section(self.findings, self.at(key), value)
            else:
                self.fault(key, f"expected a table, got {shown(value)}")

    def close(self) -> None:
        """Note every key that nothing asked for, naming the legal ones."""
        unknown = [k for k in self._table if not isinstance(k, str) or k not in self._asked]
        legal = " ".join(self._asked)
        for key in unknown[:20]:
            if isinstance(key, str) and self._encodes(key):
                self.fault(key, f"unknown key: expected one of {legal}")
            else:
                self.fault(None, f"expected string keys, got {shown(key)}")


def check_name(section: Section, key: str, name: str, what: str, *, word: bool = False) -> bool:
    """Whether `name` may be declared (a fault at `key` if not). `word`: it is used as a keyword argument."""
    limit = section.findings.limits.name_bytes
    if name in RESERVED:
        section.fault(key, f"{name} is a reserved name ({' '.join(sorted(RESERVED))}): choose another {what}")
        return False
    if (_WORD if word else _NAME).fullmatch(name) is None or len(name) > limit:
        signs = "letters, digits and _" if word else "letters, digits, _ and -"
        section.fault(key, f"expected {what} of {signs}, at most {limit}, not starting with a digit")
        return False
    return True
