"""JSON Schemas of our types, with the notes that stand in their source beside the fields."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

import msgspec

REFERENCE: Final = "#/components/schemas/"
FREE: Final = {"type": "object"}
"""Of a document whose form is said elsewhere."""


class Described:
    """Schemas of `types` and of all that stands inside them."""

    def __init__(self, types: Iterable[Any]) -> None:
        self._types = list(dict.fromkeys(kind for kind in types if kind is not dict))
        made, self.components = msgspec.json.schema_components(
            self._types, ref_template=f"{REFERENCE}{{name}}"
        )
        self._schemas = dict(zip(self._types, made, strict=True))
        for kind in _records(self._types):
            properties = self.components.get(kind.__name__, {}).get("properties", {})
            for name, note in field_notes(kind).items():
                if name in properties:
                    properties[name] = _noted(properties[name], note)

    def schema(self, kind: Any) -> Mapping[str, Any]:
        """The schema of one of the types, or a reference to it."""
        return FREE if kind is dict else self._schemas[kind]


@cache
def field_notes(kind: type) -> Mapping[str, str]:
    """Field -> the string that stands below it in the class's source; empty where there is no source."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):
        return {}
    found: dict[str, str] = {}
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    for line, below in zip(body.body, body.body[1:], strict=False):
        match line, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str() as note)),
            ):
                found[name] = " ".join(note.split())
            case _:
                pass
    return found


def _noted(schema: dict[str, Any], note: str) -> dict[str, Any]:
    return {"description": note, **schema}


def _records(types: Iterable[Any]) -> list[type]:
    """Every Struct and dataclass among and inside `types`."""
    found: dict[type, None] = {}
    for kind in msgspec.inspect.multi_type_info(types):
        _gather(kind, found)
    return list(found)


def _gather(kind: msgspec.inspect.Type, found: dict[type, None]) -> None:
    match kind:
        case (
            msgspec.inspect.StructType(cls=cls, fields=fields)
            | msgspec.inspect.DataclassType(cls=cls, fields=fields)
        ):
            if cls not in found:
                found[cls] = None
                for field in fields:
                    _gather(field.type, found)
        case msgspec.inspect.ListType(item_type=item) | msgspec.inspect.VarTupleType(item_type=item):
            _gather(item, found)
        case msgspec.inspect.TupleType(item_types=items) | msgspec.inspect.UnionType(types=items):
            for item in items:
                _gather(item, found)
        case msgspec.inspect.DictType(value_type=item):
            _gather(item, found)
        case msgspec.inspect.Metadata(type=item):
            _gather(item, found)
        case _:
            pass
