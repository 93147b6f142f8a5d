"""The privacy part of catalogs at the server: versions, notices, and the key that must have signed it."""

from __future__ import annotations

import msgspec

from edge_runtime.catalog import Catalog, CatalogError, Signature
from edge_runtime.catalog.model import Notice
from edge_runtime.catalog.privacy import canonical_part, privacy_fingerprint, privacy_part
from edge_runtime.catalog.render import notice_table, signature_table
from edge_runtime.catalog.signed import check
from edge_runtime.catalog.weakening import weakenings
from sync_server.errors import Problem
from sync_server.store.protocol import WriteTx
from sync_server.store.registry import NoticeRow


def check_signed(catalog: Catalog, registry_key: bytes | None) -> None:
    """Raise `Problem("registry_unsigned")` unless the pinned key signed the privacy part; None pins none."""
    if registry_key is None:
        return
    try:
        check(catalog, registry_key)
    except CatalogError as error:
        fault = error.faults[0]
    else:
        return
    raise Problem("registry_unsigned", f"{fault.place}: {fault.reason}")


def check_order(before: Catalog | None, after: Catalog) -> None:
    """Raise `Problem("registry_rollback")` if a part signed earlier would protect less than that in force."""
    if before is None or before.signature is None or after.signature is None:
        return
    if before.name == after.name and after.signature.signed_us < before.signature.signed_us:
        weaker = weakenings(privacy_part(before), privacy_part(after))
        if weaker:
            faults = [{"place": place, "reason": "protects less than what is in force"} for place in weaker]
            raise Problem("registry_rollback", f"{len(weaker)} places", faults=faults)


def newer(signature: Signature | None, than: Signature | None) -> bool:
    """Whether `signature` was made after `than`."""
    return signature is not None and (than is None or signature.signed_us > than.signed_us)


def put_in_force(tx: WriteTx, catalog: Catalog, registered_us: int) -> int:
    """Make the catalog's privacy part the one in force, and return its registry version."""
    part = canonical_part(catalog)
    signature = catalog.signature
    signed = None if signature is None else msgspec.json.encode(signature_table(signature))
    return tx.registry.put_in_force(privacy_fingerprint(part), part, signed, registered_us)


def register_notices(tx: WriteTx, catalog: Catalog, now_us: int) -> None:
    """Register every notice of the catalog for ever.

    Raises `Problem("notice_conflict")` when one stands there with another text or for other purposes.
    """
    for notice in catalog.notices.values():
        made, known = _row(notice, now_us), tx.registry.notice(notice.version)
        if known is None:
            tx.registry.add_notice(made)
        elif (known.content_hash, _purposes(known)) != (made.content_hash, _purposes(made)):
            raise Problem("notice_conflict", "expected its content hash and purposes as they were registered")


def _row(notice: Notice, now_us: int) -> NoticeRow:
    text = notice.content_hash
    content_hash = b"" if text is None else bytes.fromhex(text.removeprefix("sha256:"))
    return NoticeRow(notice.version, msgspec.json.encode(notice_table(notice)), content_hash, now_us)


def _purposes(row: NoticeRow) -> list[str]:
    return sorted(msgspec.json.decode(row.notice)["purposes"])
