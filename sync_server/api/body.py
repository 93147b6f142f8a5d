"""Reading a request's body: strict JSON or MessagePack under limits, then into a type."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, Literal, NoReturn, TypeVar

import msgspec
from aiohttp import web

from edge_runtime.wire import codec
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.utf8 import utf8_size
from sync_server.errors import Problem

T = TypeVar("T")

_PLACE: Final = re.compile(r" - at `(?P<place>[^`]*)`$")
MSGPACK: Final = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})


async def read_body(request: web.Request, limit_bytes: int) -> bytes:
    """The whole body; raises `Problem`: `too_large` as soon as it is over the limit, `unsupported_media` for
    a compressed one."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem("unsupported_media", "expected a body without Content-Encoding")
    if request.content_length is not None and request.content_length > limit_bytes:
        raise Problem("too_large", f"expected at most {limit_bytes} bytes")
    body = bytearray()
    async for chunk in request.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > limit_bytes:
            raise Problem("too_large", f"expected at most {limit_bytes} bytes")
    return bytes(body)


def parse_body(body: bytes, content_type: str, *, depth: int) -> object:
    """Parse by content type; raises `Problem` with a code of its own for each way to be wrong."""
    if content_type in MSGPACK:
        return parse_msgpack(body)
    if content_type in ("application/json", "application/octet-stream", ""):
        return parse_json(body, depth=depth)
    raise Problem("unsupported_media")


def parse_msgpack(body: bytes) -> object:
    """Parse MessagePack; keys must be strings, and no key may come twice."""
    try:
        return codec.unpack(body, len(body))
    except WireFailure as failure:
        raise Problem("malformed_msgpack", failure.reason) from None


def parse_json(body: bytes, *, depth: int) -> object:
    """Parse strict JSON (RFC 8259): UTF-8, no duplicate keys, no NaN or infinity, no lone surrogates.

    Raises `Problem("malformed_json")`, also for nesting deeper than `depth`.
    """
    value, fault = _loaded(body, depth)
    if fault is not None:  # raised here: the parser's errors hold the body, and would be the context of ours
        raise Problem("malformed_json", fault)
    _check_values(value, depth)
    return value


def into(value: object, wanted: type[T]) -> T:
    """`value` as `wanted`, or `Problem("invalid_request")` naming place and expectation but no value."""
    try:
        return msgspec.convert(value, wanted, strict=True)
    except (msgspec.ValidationError, UnicodeError) as error:
        fault = _without_values(str(error), wanted)
    raise Problem("invalid_request", fault)  # here, and so without the error that may quote a value


def _loaded(body: bytes, depth: int) -> tuple[object, str | None]:
    """What the body means, or why it means nothing."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant), None
    except json.JSONDecodeError as error:
        return None, f"{error.msg} at {error.pos}"
    except UnicodeDecodeError:
        return None, "expected UTF-8"
    except RecursionError:
        return None, f"expected nesting of at most {depth}"
    except ValueError:  # an integer of more digits than Python reads
        return None, "a number is too long"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Problem("malformed_json", "a key comes twice in one object")
    return made


def _no_constant(_: str) -> NoReturn:
    raise Problem("malformed_json", "NaN and infinities are not JSON")


def _check_values(value: object, depth: int) -> None:
    """Walk without recursion: depth, finite numbers, strings that encode."""
    waiting: list[tuple[object, int]] = [(value, 1)]
    while waiting:
        item, level = waiting.pop()
        match item:
            case str():
                _check_text(item)
            case float() if not math.isfinite(item):
                raise Problem("malformed_json", "a number is too large")
            case list() | dict():
                if level > depth:
                    raise Problem("malformed_json", f"expected nesting of at most {depth}")
                if isinstance(item, dict):
                    for key in item:
                        _check_text(key)
                waiting += [(v, level + 1) for v in (item.values() if isinstance(item, dict) else item)]
            case _:
                pass


def _check_text(text: str) -> None:
    if utf8_size(text) is None:
        raise Problem("malformed_json", "a lone surrogate is not Unicode")


def _without_values(text: str, wanted: Any) -> str:
    """A validation message without what the caller sent: the expectation where it is ours, and the place."""
    found = _PLACE.search(text)
    place = found["place"] if found else "$"
    kind: Literal["Expected", "Object missing"]
    for kind in ("Expected", "Object missing"):
        if text.startswith(kind):
            return text
    fields = {}
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(wanted)}
    if text.startswith("Object contains unknown field"):
        known = f": expected only {', '.join(fields)}" if fields and place == "$" else ""
        return f"an unknown field{known} - at `{place}`"
    match msgspec.inspect.type_info(fields.get(place.removeprefix("$."), object)):
        case msgspec.inspect.LiteralType(values=values):
            return f"a value that is not allowed: expected {', '.join(map(str, values))} - at `{place}`"
    return f"a value that is not allowed - at `{place}`"
