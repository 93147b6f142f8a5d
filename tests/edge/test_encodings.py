"""An encoding gives the same bits one value at a time and many at once."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.catalog import DType, Encoding, FieldFeature
from edge_runtime.serving.encodings import AsIs, AsVector, Encoder, Hash, OneHot, encoder_for

NUMBER = FieldFeature("x", DType("float64"))
TIME = FieldFeature("t", DType("time"))
NUMERIC = [
    None,
    Encoding("log1p"),
    Encoding("zscore", mean=2.5, std=0.3),
    Encoding("clip", low=-1.0, high=7.5),
    Encoding("clip", low=0.0),
    Encoding("clip", high=-0.0),
    Encoding("bucketize", edges=(-3.0, 0.0, 0.1, 1e6)),
]

numbers = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, -1.0, math.nextafter(-1.0, 0.0), 0.1, 7.5, 5e-324]),
)


def one_by_one(encoder: Encoder, values: list[object]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    rows = np.empty((len(values), encoder.width))
    for n, value in enumerate(values):
        try:
            rows[n] = encoder.one(value)
        except ValueError:
            rows[n] = math.nan
    return rows


@pytest.mark.parametrize("encoding", NUMERIC, ids=str)
@given(values=st.lists(numbers, min_size=1, max_size=20))
def test_numbers_have_equal_bits_on_both_paths(encoding: Encoding | None, values: list[object]) -> None:
    """Every numeric encoding: scalar and vectorised results are identical, byte for byte."""
    encoder = encoder_for(NUMBER, encoding)
    assert encoder.many(values).tobytes() == one_by_one(encoder, values).tobytes()


@pytest.mark.parametrize("encoding", NUMERIC[1:], ids=str)
@given(values=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20))
def test_times_have_equal_bits_on_both_paths(encoding: Encoding, values: list[object]) -> None:
    """Times count as Unix seconds, with identical bits on both paths."""
    encoder = encoder_for(TIME, encoding)
    assert encoder.many(values).tobytes() == one_by_one(encoder, values).tobytes()


@given(values=st.lists(st.one_of(st.text(), st.integers(), st.booleans()), min_size=1, max_size=20))
def test_categories_have_equal_bits_on_both_paths(values: list[object]) -> None:
    """one_hot and hash: scalar and vectorised results are identical."""
    hot = OneHot(("UK", "DE", 1, True), "DE")
    for encoder in (hot, Hash(64)):
        assert encoder.many(values).tobytes() == one_by_one(encoder, values).tobytes()


triples = st.lists(st.floats(allow_nan=False, width=32), min_size=3, max_size=3)


@given(st.lists(triples, min_size=1, max_size=5))
def test_vectors_have_equal_bits_on_both_paths(values: list[list[float]]) -> None:
    """A float32[n] feature fills n cells, the same on both paths."""
    encoder = AsVector(3)
    raw: list[object] = list(values)
    assert encoder.many(raw).tobytes() == one_by_one(encoder, raw).tobytes()


def test_one_hot_takes_the_default_for_an_unknown_category() -> None:
    """A value that is no category counts as the declared default; without one all numbers are 0."""
    assert OneHot(("UK", "DE", "other"), "other").one("XX") == (0.0, 0.0, 1.0)
    assert OneHot(("UK", "DE", "other"), None).one("XX") == (0.0, 0.0, 0.0)


def test_one_hot_does_not_take_true_for_one() -> None:
    """The category 1 is not the category true."""
    assert OneHot((0, 1), None).one(True) == (0.0, 0.0)
    assert OneHot((False, True), None).one(True) == (0.0, 1.0)


def test_hash_is_the_documented_blake2b() -> None:
    """The bucket is BLAKE2b-64 of type and text, modulo the buckets: the same in every process."""
    oracle = int.from_bytes(hashlib.blake2b(b"s:caf\xc3\xa9", digest_size=8).digest(), "big") % 1000
    assert Hash(1000).one("café") == (float(oracle),)
    assert Hash(2**16).one("1") != Hash(2**16).one(1)


def test_bucketize_is_bisect_right() -> None:
    """An edge belongs to the bucket above it."""
    encoder = encoder_for(NUMBER, Encoding("bucketize", edges=(0.0, 10.0)))
    assert [encoder.one(v) for v in (-1, 0, 9.99, 10, 11)] == [(0.0,), (1.0,), (1.0,), (2.0,), (2.0,)]


def test_what_is_no_number_has_none() -> None:
    """A text where a number should be is refused by `one` and NaN in `many`; it is never parsed."""
    with pytest.raises(ValueError, match="expected a number"):
        AsIs().one("1.5")
    assert np.isnan(AsIs().many(["1.5", 2.0])).tolist() == [[True], [False]]
    with pytest.raises(ValueError):
        encoder_for(NUMBER, Encoding("log1p")).one(-1.0)
    for bad in ([1.0], "abc", [1.0, "x", 2.0], [1.0, math.nan, 2.0], None):
        with pytest.raises(ValueError):
            AsVector(3).one(bad)
