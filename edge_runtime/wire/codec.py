"""Bytes to messages and back: limits are checked before a byte is parsed.

A frame is one msgpack map `{"t": tag, "v": version, ...}`. Decoding takes three steps, each of which can say
no: size of the frame, structure under per-container limits (msgpack: no extension types, no doubled keys, no
bytes left over, bounded depth), and types (msgspec: nothing is coerced). What goes wrong is told by place and
type, never by quoting a value or a name that the other side chose.

A frame may be packed: a map `{"t": "packed", "size": n, "body": zlib stream}` around one frame of n bytes.
Its size is known and bounded before a byte is inflated, and it holds no other packed frame.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from typing import Any, Final, get_args

import msgpack
import msgspec

from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import PROTOCOL, Delta, Message, Packed

FRAME_LIMIT_BYTES: Final = 64 * 1024
"""Largest frame either side sends; what is larger is split into several deltas."""

SPOKEN: Final = (PROTOCOL,)
"""Versions of the protocol that are spoken here, newest first."""

UNPACKED_LIMIT_BYTES: Final = 256 * 1024
"""Largest frame inside a packed one."""

PACK_FROM_BYTES: Final = 512
"""Smaller frames are sent as they are."""

_LEVEL: Final = 2
"""Of zlib: a delta is packed once for all who follow, and most of the gain is in the first two levels."""

ROW_LIMIT_BYTES: Final = 48 * 1024
"""Largest encoded `Row`: one row always fits a frame, so a publisher refuses what is larger."""

_KINDS: Final[dict[str, Any]] = {str(kind.__struct_config__.tag): kind for kind in get_args(Message)}
"""What a tag stands for. Converting to the union would look at its thirty kinds anew for each frame."""

_encoder = msgspec.msgpack.Encoder(order="deterministic")
_deltas = msgspec.msgpack.Decoder(Delta)
_DELTA: Final = b"\x89\xa1t\xa5delta\xa1v" + _encoder.encode(PROTOCOL)
"""How a delta begins that is encoded here: a map of nine, the first two its tag and its version."""


def encode(message: Message) -> bytes:
    """Return the one byte string for `message`; raises `WireFailure` when it is over the frame limit."""
    frame = _encoder.encode(message)
    if len(frame) > FRAME_LIMIT_BYTES:
        raise WireFailure("too_large", f"expected at most {FRAME_LIMIT_BYTES} bytes, made {len(frame)}")
    return frame


def encode_packed(message: Message) -> bytes:
    """The one byte string for `message` in few bytes: packed when that makes it smaller by an eighth.

    Raises `WireFailure("too_large")` when the frame is over the limit also when packed, or the frame inside
    is over its own.
    """
    plain = _encoder.encode(message)
    if len(plain) > UNPACKED_LIMIT_BYTES:
        raise WireFailure("too_large", f"expected at most {UNPACKED_LIMIT_BYTES} bytes, made {len(plain)}")
    frame = plain
    if len(plain) >= PACK_FROM_BYTES:
        packed = _encoder.encode(Packed(size=len(plain), body=zlib.compress(plain, _LEVEL)))
        frame = packed if len(packed) <= len(plain) * 7 // 8 else plain
    if len(frame) > FRAME_LIMIT_BYTES:
        raise WireFailure("too_large", f"expected at most {FRAME_LIMIT_BYTES} bytes, made {len(frame)}")
    return frame


def decode(frame: bytes, limit_bytes: int = FRAME_LIMIT_BYTES, spoken: Collection[int] = SPOKEN) -> Message:
    """Return the message in `frame`, or raise `WireFailure` naming the refusal code.

    Args:
        frame: one whole frame as it came from the socket.
        limit_bytes: frames longer than this are refused before parsing.
        spoken: versions of the protocol that may come.
    """
    quick = _delta(frame, limit_bytes, spoken)
    if quick is not None:
        return quick
    raw = _map(frame, limit_bytes, spoken)
    if raw.get("t") == "packed":
        plain = _inflated(_typed(raw, Packed))
        quick = _delta(plain, UNPACKED_LIMIT_BYTES, spoken)
        if quick is not None:
            return quick
        raw = _map(plain, UNPACKED_LIMIT_BYTES, spoken)
    tag = raw.get("t")
    message: Message = _typed(raw, _KINDS.get(tag, Message) if isinstance(tag, str) else Message)
    return message


def _delta(frame: bytes, limit_bytes: int, spoken: Collection[int]) -> Delta | None:
    """The delta in `frame`, read straight into its types; None is no verdict.

    A map of nine begins with tag and version, and every other field of a delta must come: so the seven names
    that are left are those seven, none of them doubled.
    """
    if len(frame) > limit_bytes or PROTOCOL not in spoken or not frame.startswith(_DELTA):
        return None
    try:
        return _deltas.decode(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _map(frame: bytes, limit_bytes: int, spoken: Collection[int]) -> dict[str, object]:
    raw = unpack(frame, limit_bytes)
    if not isinstance(raw, dict):
        raise WireFailure("malformed", f"expected a map, got {type(raw).__name__}")
    version = raw.get("v")
    if type(version) is not int or version not in spoken:
        raise WireFailure("unsupported_version", f"expected version {max(spoken)}")
    return raw


def _typed(raw: dict[str, object], kind: Any) -> Any:
    try:
        return msgspec.convert(raw, kind, strict=True, builtin_types=(bytes,))
    except (msgspec.ValidationError, UnicodeError) as error:
        fault = _without_values(error)
    raise WireFailure("malformed", fault)  # here, and so without the error that may quote a value


def _inflated(packed: Packed) -> bytes:
    """The frame inside: exactly as long as it says, and nothing after it."""
    if packed.size > UNPACKED_LIMIT_BYTES:
        raise WireFailure("too_large", f"expected at most {UNPACKED_LIMIT_BYTES} bytes, got {packed.size}")
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(packed.body, packed.size + 1)
    except zlib.error:
        raise WireFailure("malformed", "the packed frame is no zlib stream") from None
    if len(plain) != packed.size or not stream.eof or stream.unused_data:
        raise WireFailure("malformed", "the packed frame is not of the size it says")
    return plain


def pack(value: object) -> bytes:
    """Plain values as the one msgpack byte string: keys sorted. For the `values` of a row."""
    return _encoder.encode(value)


def unpack(frame: bytes, limit_bytes: int) -> object:
    """Return plain msgpack `frame` as Python values under the limits, or raise `WireFailure`."""
    if len(frame) > limit_bytes:
        raise WireFailure("too_large", f"expected at most {limit_bytes} bytes, got {len(frame)}")
    try:
        found: object = msgpack.unpackb(
            frame,
            raw=False,
            strict_map_key=True,
            max_str_len=limit_bytes,
            max_bin_len=limit_bytes,
            max_array_len=limit_bytes,
            max_map_len=limit_bytes,
            max_ext_len=0,
            ext_hook=_no_extension,
            object_pairs_hook=_each_key_once,
        )
        return found
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        fault = type(error).__name__
    raise WireFailure("malformed", f"not msgpack: {fault}")  # here: those errors hold the bytes


def _without_values(error: Exception) -> str:
    """The part of a validation error that names types and places, which never quotes a value."""
    text = str(error)
    return text if text.startswith(("Expected", "Object missing")) else "an unknown field, tag or value"


def _no_extension(code: int, data: bytes) -> object:
    raise ValueError("extension type")


def _each_key_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("doubled key")
    return fields
