"""The privacy part under a second key: made offline, pinned by server and devices. Pure.

What is signed names the catalog, the fingerprint of its privacy part and when it was signed. So every version
with the same privacy part carries the same signature: features come, go and roll back without the key.
"""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.catalog.document import Catalog
from edge_runtime.catalog.model import Signature
from edge_runtime.catalog.privacy import canonical_part, privacy_fingerprint
from edge_runtime.errors import CatalogError, Fault
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure


def sign(catalog: Catalog, key: Ed25519PrivateKey, signed_us: int) -> Catalog:
    """The same catalog with its privacy part signed by `key`."""
    signature = seal.sign(key, seal.PRIVACY_PART, signed_bytes(catalog, signed_us))
    made = Signature(seal.public_bytes(key), signed_us, signature)
    return Catalog(replace(catalog.model, signature=made))


def check(catalog: Catalog, registry_key: bytes) -> Signature:
    """The catalog's signature, which is of the pinned `registry_key`; raises `CatalogError` if it is not."""
    signature = catalog.signature
    if signature is None:
        raise _unsigned("missing: the privacy part must be signed by the pinned registry key")
    if signature.key != registry_key:
        raise _unsigned("expected the pinned registry key's, got another key's")
    try:
        body = signed_bytes(catalog, signature.signed_us)
        seal.verify(registry_key, seal.PRIVACY_PART, body, signature.signature)
    except WireFailure:
        raise _unsigned("does not hold: the privacy part is another than was signed") from None
    return signature


def signed_bytes(catalog: Catalog, signed_us: int) -> bytes:
    """What the signature covers."""
    return seal.canonical((catalog.name, privacy_fingerprint(canonical_part(catalog)), signed_us))


def _unsigned(reason: str) -> CatalogError:
    return CatalogError([Fault("signature", reason)])
