"""The key that must have signed the catalog's privacy part: pinned at enrolment, asked at every opening.

An older part than the one in force here may only come back where it protects no less. What was in force is
kept in the database; damage may take it, and then any signed part is the first.
"""

from __future__ import annotations

import json
from typing import Final, Literal

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.catalog import Catalog
from edge_runtime.errors import CatalogError, Fault

META: Final = "privacy_part"
Standing = Literal["pinned", "signed", "unsigned"]


class _InForce(msgspec.Struct, frozen=True, array_like=True):
    """The newest signed part that was used here."""

    signed_us: int
    part: bytes
    """Canonical JSON."""


def check_pinned(catalog: Catalog, registry_key: bytes | None, database: Database) -> None:
    """Take the catalog's privacy part for the one in force; without a pinned key nothing is asked.

    Raises `CatalogError`, with nothing changed: the pinned key did not sign it, or it is older than the one
    that was in force and protects less (each such place is named).
    """
    if registry_key is None:
        return
    from edge_runtime.catalog.privacy import canonical_part, privacy_part  # here: few runtimes have a pin
    from edge_runtime.catalog.signed import check
    from edge_runtime.catalog.weakening import weakenings

    signature = check(catalog, registry_key)
    with database.read() as tx:
        raw = tx.meta(META)
    before = None if raw is None else msgspec.msgpack.decode(raw, type=_InForce)
    now = _InForce(signature.signed_us, canonical_part(catalog))
    if before is not None and now.signed_us < before.signed_us:
        weaker = weakenings(json.loads(before.part), privacy_part(catalog))
        if weaker:
            reason = "an older privacy part protects less here than the one that was in force"
            raise CatalogError([Fault(place, reason) for place in weaker])
    elif now != before:
        with database.write("privacy_part") as tx:
            tx.set_meta(META, msgspec.msgpack.encode(now))


def standing(catalog: Catalog, registry_key: bytes | None) -> Standing:
    """What the privacy part rests on: the pinned key, a signature that nobody asked for, or nothing."""
    if registry_key is not None:
        return "pinned"
    return "unsigned" if catalog.signature is None else "signed"
