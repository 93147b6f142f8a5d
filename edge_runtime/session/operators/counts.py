"""What counting by key gives: `CountMap`, the value of `count_by`, and `TopList`, that of `top_n`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn


class CountMap(dict[str, int]):
    """Counts by key. A dict that cannot be changed: `value == {"a": 2}`, `value["a"]`.

    Two CountMaps are equal when their overflows are too.

    >>> CountMap({"a": 2, "b": 3}, 4).top(1), CountMap({"a": 2}).truncated
    (['b'], False)
    """

    __slots__ = ("_ranked", "overflow")

    def __init__(self, counts: Mapping[str, int] | Iterable[tuple[str, int]] = (), overflow: int = 0) -> None:
        super().__init__(counts)
        self.overflow = overflow
        """Events that had keys which are not kept."""
        self._ranked: list[str] | None = None

    @property
    def truncated(self) -> bool:
        """Whether some keys are not kept."""
        return self.overflow > 0

    def top(self, n: int) -> TopList:
        """The `n` keys of most events: by count from the most, equals by key from the smallest."""
        if self._ranked is None:
            # Two sorts in C: the second is stable, so keys of equal counts stay as the first left them. Code
            # points order as UTF-8 bytes do.
            self._ranked = sorted(self)
            self._ranked.sort(key=self.__getitem__, reverse=True)
        return TopList(self._ranked[:n], self.overflow)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CountMap) and other.overflow != self.overflow:
            return False
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # as of every dict

    def __repr__(self) -> str:
        return f"CountMap({super().__repr__()}, overflow={self.overflow})"

    def __reduce__(self) -> tuple[type[CountMap], tuple[dict[str, int], int]]:
        return CountMap, (dict(self), self.overflow)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a CountMap cannot be changed: dict(value) is a copy that can")

    __setitem__: Any = _refuse
    __delitem__: Any = _refuse
    __ior__: Any = _refuse
    clear: Any = _refuse
    pop: Any = _refuse
    popitem: Any = _refuse
    setdefault: Any = _refuse
    update: Any = _refuse


class TopList(list[str]):
    """The most frequent keys, the first the most frequent; equal to a plain list of the same keys.

    Where `truncated`, more keys occurred than are counted: each kept count is exact, but a key that is not
    kept may have been more frequent.
    """

    __slots__ = ("overflow",)

    def __init__(self, keys: Iterable[str] = (), overflow: int = 0) -> None:
        super().__init__(keys)
        self.overflow = overflow
        """Events that had keys which are not kept."""

    @property
    def truncated(self) -> bool:
        """Whether some keys are not kept."""
        return self.overflow > 0
