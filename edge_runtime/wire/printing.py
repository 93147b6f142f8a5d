"""What a record prints of itself. Tracebacks, logs and debuggers print records without asking whom they name.

A record that may hold a person's id, event, feature value or a secret prints the fields that are named here
and no other, in `repr`, `str` and rich's own form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def prints_only(*names: str) -> Callable[[type[T]], type[T]]:
    """Let the records of a class (dataclass, NamedTuple or Struct) print only these fields.

    >>> @prints_only("purpose")
    ... class Asked(NamedTuple):
    ...     subject: str
    ...     purpose: str
    >>> Asked("user:alice", "ads")
    Asked(purpose='ads', ...)

    Stands above `@dataclass`, whose own `repr` it replaces.
    """

    def decorated(cls: type[T]) -> type[T]:
        unknown = [name for name in names if not _has(cls, name)]
        assert not unknown, f"{cls.__qualname__} has no {unknown}"
        for name, method in (("__repr__", printed), ("__rich_repr__", shown)):
            setattr(cls, name, method)
        return cls

    def printed(self: Any) -> str:
        fields = [f"{name}={value!r}" for name, value in shown(self)]
        return f"{type(self).__name__}({', '.join([*fields, '...'])})"

    def shown(self: Any) -> Iterator[tuple[str, object]]:
        for name in names:
            yield name, getattr(self, name)

    return decorated


def _has(cls: type, name: str) -> bool:
    return any(name in vars(base).get("__annotations__", ()) for base in cls.__mro__)
