"""A JSON Schema in words, as HTML: the type of a field as a reader of the docs page wants it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from sync_server.api.described import REFERENCE

_WORDS: Final = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
_LIMITS: Final = (
    ("minimum", "at least {}"),
    ("maximum", "at most {}"),
    ("minLength", "{} or more characters"),
    ("maxLength", "up to {} characters"),
    ("minItems", "{} or more"),
    ("maxItems", "up to {}"),
    ("pattern", "matching <code>{}</code>"),
)
_BACKTICKS: Final = re.compile(r"`([^`]+)`")


def prose(text: str) -> str:
    """Text as HTML; what stands between backticks is code."""
    return _BACKTICKS.sub(r"<code>\1</code>", escape(text))


def type_text(schema: Mapping[str, Any]) -> str:
    """The type and its limits, in words.

    >>> type_text({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]})
    'whole number (at least 0), or null'
    """
    limits = [said.format(escape(str(schema[name]))) for name, said in _LIMITS if name in schema]
    return _bare(schema) + (f" ({', '.join(limits)})" if limits else "")


def fields(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, bool, str]]:
    """(name, type, whether it is needed, note) of an object's members."""
    needed = schema.get("required", ())
    for name, part in schema.get("properties", {}).items():
        yield name, type_text(part), name in needed, prose(part.get("description", ""))


def _bare(schema: Mapping[str, Any]) -> str:
    match schema:
        case {"$ref": str() as to}:
            name = escape(to.removeprefix(REFERENCE))
            return f'<a href="#type-{name}">{name}</a>'
        case {"enum": list() as values}:
            return " or ".join(f"<code>{escape(str(value))}</code>" for value in values)
        case {"const": value}:
            return f"<code>{escape(str(value))}</code>"
        case {"anyOf": list() as kinds} | {"oneOf": list() as kinds}:
            return _either([type_text(kind) for kind in kinds if kind])
        case {"type": "array", "prefixItems": list() as parts}:
            return "list of " + ", then ".join(type_text(part) for part in parts)
        case {"type": "array"}:
            return "list of " + (type_text(schema["items"]) if schema.get("items") else "anything")
        case {"type": "object", "additionalProperties": dict() as values} if values:
            return f"object of {type_text(values)}"
        case {"type": str() as kind}:
            return _WORDS.get(kind, kind)
        case _:
            return "anything"


def _either(kinds: list[str]) -> str:
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])}, or {kinds[-1]}"
