"""Bodies are strict JSON: the whole of JSONTestSuite, and what it leaves to the reader."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import msgspec
import pytest

from sync_server.api.body import into, parse_body, parse_json, parse_msgpack
from sync_server.api.features import Publish
from sync_server.errors import Problem

SUITE = Path(__file__).resolve().parents[1] / "data" / "json_test_suite" / "json_test_suite.tar.gz"
DEPTH = 64


def cases() -> list[tuple[str, bytes]]:
    with tarfile.open(SUITE) as archive:
        found = []
        for member in archive.getmembers():
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None and "test_parsing/" in member.name and member.name.endswith(".json"):
                found.append((Path(member.name).name, file.read()))
    return sorted(found)


CASES = cases()


def test_the_suite_is_whole() -> None:
    """95 texts to accept, 188 to refuse, 35 that may go either way."""
    kinds = [name[0] for name, _ in CASES]
    assert (kinds.count("y"), kinds.count("n"), kinds.count("i")) == (95, 188, 35)


@pytest.mark.parametrize(("name", "text"), CASES, ids=[name for name, _ in CASES])
def test_json_test_suite(name: str, text: bytes) -> None:
    """y_ is accepted (but for doubled keys), n_ is refused as malformed, i_ is one or the other."""
    # doubled keys are legal JSON and never what anybody meant: we refuse them on purpose
    wanted = "n" if name.startswith("y_object_duplicated_key") else name[0]
    try:
        value = parse_json(text, depth=DEPTH)
    except Problem as problem:
        verdict, code = "n", problem.code
    else:
        verdict, code = "y", "malformed_json"
        assert value == json.loads(text)
    assert verdict == wanted or wanted == "i"
    assert code == "malformed_json"


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 2}',
        b'{"x": {"a": 1, "\\u0061": 2}}',
        b"[NaN]",
        b"[-Infinity]",
        b"[1e999]",
        b'["\\ud800"]',
        b'{"\\udfff": 1}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1),
        b"[" * 200_000,
        b"1" * 5_000,
        b"",
        b"{} {}",
    ],
)
def test_law_12_what_two_readers_could_read_differently_is_refused(text: bytes) -> None:
    """Doubled keys, NaN, overflow, lone surrogates, BOMs, other encodings, depth: one clear problem."""
    with pytest.raises(Problem) as caught:
        parse_json(text, depth=DEPTH)
    assert caught.value.code == "malformed_json"


def test_nesting_at_the_limit_is_read() -> None:
    """64 levels are legal, 65 are not."""
    assert parse_json(b"[" * DEPTH + b"]" * DEPTH, depth=DEPTH)


def test_a_pair_of_surrogates_is_one_character() -> None:
    """Escaped pairs decode to the character they mean."""
    assert parse_json(b'["\\ud83d\\ude00"]', depth=DEPTH) == ["😀"]


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x81\x01\x02", b"\x81\xa1a", b"\x82\xa1a\x01\xa1a\x02", b"\xc7\x00\x01"]
)
def test_msgpack_bodies_are_strict_too(body: bytes) -> None:
    """Empty, reserved, keys that are not text, cut off, doubled keys, extension types."""
    with pytest.raises(Problem) as caught:
        parse_msgpack(body)
    assert caught.value.code == "malformed_msgpack"


def test_other_media_types_are_named() -> None:
    """A form is not JSON."""
    with pytest.raises(Problem, match="unsupported_media"):
        parse_body(b"{}", "text/plain", depth=DEPTH)


def test_no_value_comes_back_in_a_type_error() -> None:
    """Place and expectation, never what was sent."""
    for body in (
        {"view": ["secret-alice"], "rows": []},
        {"view": "v", "rows": [], "secret-alice": 1},
        {"view": "v", "rows": [], "as_of": "secret-alice"},
    ):
        with pytest.raises(Problem) as caught:
            into(body, Publish)
        assert caught.value.code == "invalid_request"
        assert b"secret" not in msgspec.json.encode(caught.value.document())
