"""A needle is found in every dress it may come in, and a word that names nobody is not."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from edge_runtime.wire import seal
from tests.support.leaks.collector import Needle, Text
from tests.support.leaks.needles import DATA_KEY, DECLARED, SUBJECT, TENANT_KEY, TOKEN
from tests.support.leaks.search import Finding, Search

KEY = bytes.fromhex("9f1c6a0b52e7d83344b1aa07fe90c2d51d6e7f8890a1b2c3d4e5f60718293a4b")
OTHER = bytes.fromhex("00ff11ee22dd33cc44bb55aa66997788aabbccddeeff00112233445566778899")


def kinds(text: str, *needles: Needle) -> set[str]:
    return Search(needles, {"personalization"}).kinds(text)


@pytest.mark.parametrize(
    "raw", [KEY, KEY[:8], KEY[9:25], b"before" + KEY + b"after"], ids=lambda raw: len(raw)
)
@pytest.mark.parametrize(
    ("dress", "name"),
    [
        (lambda raw: raw.decode("latin-1"), "bytes"),
        (lambda raw: f"got {raw!r}", "repr"),
        (lambda raw: f"got {bytearray(raw)!r}", "repr"),
        (lambda raw: repr(f"KeyError({raw!r})"), "repr"),
        (lambda raw: f"got {raw!r}"[:-1], "repr"),
        (lambda raw: f"x'{raw.hex()}'", "hex"),
        (lambda raw: f"0{raw.hex().upper()}", "hex"),
    ],
)
def test_a_key_or_a_part_of_it_is_found_as_bytes_repr_and_hex(raw: bytes, dress: object, name: str) -> None:
    assert callable(dress)
    assert f"{DATA_KEY}, as {name}" in kinds(dress(raw), Needle(DATA_KEY, KEY))


@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"abc"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padded", [True, False])
def test_a_key_is_found_as_base64_at_any_offset(before: bytes, encode: object, padded: bool) -> None:
    assert callable(encode)
    text = encode(before + KEY).decode()
    text = text if padded else text.rstrip("=")
    assert kinds(f"the key is {text}.", Needle(DATA_KEY, KEY)) == {f"{DATA_KEY}, as base64"}
    assert kinds(f"key_{text}", Needle(DATA_KEY, KEY)), "also when a word runs into it"


def test_another_key_and_a_pattern_are_not_found() -> None:
    counting = Needle(DATA_KEY, bytes(range(32)))
    said = f"{OTHER!r} {OTHER.hex()} {base64.b64encode(OTHER).decode()} {bytes(range(64))!r} {bytes(32)!r}"
    assert kinds(said, Needle(DATA_KEY, KEY), counting, Needle(DATA_KEY, bytes(32))) == set()


@pytest.mark.parametrize("id", ["alice", "a", "7", "it's me", "zoë", "a|b", 'say "hi"', "naïve\n", "x" * 400])
@pytest.mark.parametrize("dress", [str, repr, ascii, json.dumps, quote, lambda typed: f"a@{typed}/view"])
def test_a_typed_subject_is_found_in_every_dress(id: str, dress: object) -> None:
    assert callable(dress)
    assert "subject, typed" in kinds(f"for {dress(f'user:{id}')} only", subject(f"user:{id}"))


def test_a_typed_subject_ends_where_its_id_ends() -> None:
    assert kinds("user:alice2 user:alice-b user:al guest:alice", subject("user:alice")) == set()


@pytest.mark.parametrize("id", ["margaret", "user-4711", "u4711", "+49 170 1234567", "zoë.müller@example"])
def test_a_bare_id_that_can_hardly_be_anything_else_is_found_as_a_word(id: str) -> None:
    assert kinds(f"no row of {id}, sorry", subject(f"user:{id}")) == {"subject, bare"}
    assert kinds(f"no row of {id}, sorry", subject(id)) == {"subject, bare"}, "as a caller names it"
    assert kinds(f"x{id}x", subject(f"user:{id}")) == set()


def test_a_bare_id_that_may_be_a_word_is_found_only_as_a_quoted_token() -> None:
    alice = subject("user:alice")
    assert kinds("alice is a name, and malice is not", alice) == set()
    for said in ("KeyError('alice')", '{"subject": "alice"}', "unknown field `alice`", "b'alice'"):
        assert kinds(said, alice) == {"subject, bare"}, said


def test_what_the_product_or_a_catalog_says_by_itself_names_nobody() -> None:
    needles = [subject("user:user"), subject("user:personalization"), Needle(DECLARED, b"user")]
    assert kinds("EntityType(name='user')", *needles) == set()
    assert kinds("'user' of 'user:user'", *needles) == {"subject, typed"}


def test_an_amount_as_a_question_writes_it_names_nobody() -> None:
    assert kinds("Question(epsilon='1/2')", subject("user:1/2")) == set()
    assert kinds("no row of user:1/2", subject("user:1/2")) == {"subject, typed"}


def test_pseudonyms_are_allowed_and_their_key_is_not() -> None:
    pseudonym = seal.pseudonym(KEY, "user:alice")
    said = f"{pseudonym!r} {pseudonym.hex()} {seal.subject_token(pseudonym)}"
    needles = [subject("user:alice"), Needle(TENANT_KEY, KEY)]
    assert kinds(said, *needles) == set()
    assert kinds(f"{said} {KEY.hex()}", *needles) == {f"{TENANT_KEY}, as hex"}


def test_a_token_is_found_as_it_is() -> None:
    assert kinds("Bearer 3q2-7_abcDEF0123456789", Needle(TOKEN, b"3q2-7_abcDEF0123456789")) == {"token, bare"}


def test_a_finding_names_the_place_and_never_the_needle() -> None:
    texts = [Text("log", "here", "user:alice went"), Text("log", "here", "user:alice came")]
    found = Search([subject("user:alice")]).findings(texts)
    assert found == {Finding("log", "here", "subject, typed"): 2}


def subject(name: str) -> Needle:
    return Needle(SUBJECT, name.encode())
