"""The name of a consent record: its place in the ledger, and a keyed hash of what stands there. Pure.

Nobody can make up the name of a record they were not told of, and a ledger that was restored and grew anew
does not answer to the names of before.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

_FORM: Final = re.compile(r"con-([a-z2-7]{24})")
_SEQ_BYTES, _TAG_BYTES = 6, 9


def record_id(key: bytes, seq: int, leaf: bytes) -> str:
    """The name of the record whose `leaf` is the ledger's number `seq`, under the tenant's 32-byte `key`."""
    tag = hashlib.blake2b(leaf, digest_size=_TAG_BYTES, key=key, person=b"edge-consent-id").digest()
    return "con-" + base64.b32encode(seq.to_bytes(_SEQ_BYTES, "big") + tag).decode().lower()


def claimed_seq(text: str) -> int | None:
    """The place that `text` claims; None when it is no record's name."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    return int.from_bytes(base64.b32decode(found[1].upper())[:_SEQ_BYTES], "big")


def names(key: bytes, text: str, seq: int, leaf: bytes) -> bool:
    """Whether `text` is the name of that record."""
    return hmac.compare_digest(text.encode("utf-8", "surrogatepass"), record_id(key, seq, leaf).encode())
