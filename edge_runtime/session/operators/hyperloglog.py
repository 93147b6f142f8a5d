"""HyperLogLog: how many different values there were, from 2^11 registers of one byte.

A value's BLAKE2b-64 chooses a register by its first 11 bits; the register keeps the greatest rank (zeros
before the first one bit among the other 53, plus one) that it met. Maxima do not depend on order or
repetition, so the registers of a union are the maxima of both, and every estimate is a function of the set
alone. Its standard error is about 1.04 / sqrt(2^11) = 2.3 %.

The estimate is Ertl's improved raw estimator, which needs no table of measured corrections and holds from the
smallest to the largest sets: O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches",
arXiv:1702.01284 (2017), algorithm 6, with sigma and tau of section 4.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

from edge_runtime.catalog.model import Scalar
from edge_runtime.session.exact import sqrt

PRECISION = 11
REGISTERS = 1 << PRECISION
_REST_BITS = 64 - PRECISION
_REST_MASK = (1 << _REST_BITS) - 1
_ALPHA = 1 / (2 * math.log(2))
_MOST = 2.0**62
"""Where every register is at its last rank the formula has no number; an int64 has this one."""

_float_bytes = struct.Struct(">d").pack


def value_hash(value: Scalar) -> int:
    """BLAKE2b-64 of a value: equal numbers hash alike (1 and 1.0, 0.0 and -0.0); 1, "1" and true do not."""
    if isinstance(value, str):
        canonical = b"s" + value.encode()
    elif isinstance(value, float) and not value.is_integer():
        canonical = b"f" + _float_bytes(value)
    elif isinstance(value, bool):
        canonical = b"b%d" % value
    else:
        canonical = b"i%d" % int(value)
    return int.from_bytes(blake2b(canonical, digest_size=8).digest(), "big")


class HyperLogLog:
    """The registers of one set of hashes."""

    __slots__ = ("_estimate", "registers")

    def __init__(self, registers: bytes | bytearray | None = None) -> None:
        """No values, or those that a copy of `registers` stands for.

        Raises:
            ValueError: not 2^11 registers, or a rank that no hash has.
        """
        self.registers = bytearray(REGISTERS) if registers is None else bytearray(registers)
        if len(self.registers) != REGISTERS or int(self._view().max()) > _REST_BITS + 1:
            raise ValueError("not the registers of a HyperLogLog")
        self._estimate: int | None = None

    def add(self, value: int) -> None:
        """Add the hash of a value."""
        register = value >> _REST_BITS
        rank = _REST_BITS + 1 - (value & _REST_MASK).bit_length()
        if rank > self.registers[register]:
            self.registers[register] = rank
            self._estimate = None

    def add_all(self, values: Iterable[int]) -> None:
        """Add many hashes at once."""
        hashes = np.fromiter(values, dtype=np.uint64)
        # Under 2^53 every integer is a float64, and its exponent is its length in bits.
        _, lengths = np.frexp((hashes & np.uint64(_REST_MASK)).astype(np.float64))
        ranks = (_REST_BITS + 1 - lengths).astype(np.uint8)
        np.maximum.at(self._view(), (hashes >> np.uint64(_REST_BITS)).astype(np.intp), ranks)
        self._estimate = None

    def absorb(self, other: HyperLogLog) -> None:
        """Add another's values."""
        mine = self._view()
        np.maximum(mine, other._view(), out=mine)
        self._estimate = None

    def estimate(self) -> int:
        """How many different values were added, rounded to a whole number."""
        if self._estimate is None:
            ranks = np.bincount(self._view(), minlength=_REST_BITS + 2)
            self._estimate = round(_improved_raw(ranks.tolist()))
        return self._estimate

    def _view(self) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        return np.frombuffer(self.registers, dtype=np.uint8)


def _improved_raw(ranks: list[int]) -> float:
    """Ertl's estimate from how many registers hold each rank, 0 to 54."""
    z = REGISTERS * _tau(1 - ranks[-1] / REGISTERS)
    for count in reversed(ranks[1:-1]):
        z = 0.5 * (z + count)
    z += REGISTERS * _sigma(ranks[0] / REGISTERS)
    scale = _ALPHA * REGISTERS * REGISTERS
    return scale / max(z, scale / _MOST)


def _sigma(x: float) -> float:
    """x + the sum over k of x^(2^k) * 2^(k-1): the share of registers that are still 0."""
    if x == 1.0:
        return math.inf
    y, z, before = 1.0, x, -1.0
    while z != before:
        x, before = x * x, z
        z, y = z + x * y, y + y
    return z


def _tau(x: float) -> float:
    """(1 - x - the sum over k of (1 - x^(2^-k))^2 * 2^-k) / 3: the share of registers that are full."""
    if x in (0.0, 1.0):
        return 0.0
    y, z, before = 1.0, 1 - x, -1.0
    while z != before:
        x, before, y = sqrt(x), z, 0.5 * y
        z -= (1 - x) * (1 - x) * y
    return z / 3
