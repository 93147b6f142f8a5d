"""The ledger as its journal reads it: what came after some step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from sync_server.journal.record import Entry, Known, Revoked, Step

if TYPE_CHECKING:
    from sync_server.store.protocol import ReadTx

_PAGE: Final = 1_000


def entries_after(tx: ReadTx, size: int, *, devices: bool) -> Iterator[Entry]:
    """Every ledger step after the first `size`, each revocation after its steps; with `devices` all of those.

    Devices come last: what they are now is not undone by what they were.
    """
    head = tx.lane_head()
    for seq in range(size + 1, head + 1):
        step = tx.evidence(seq)
        assert step is not None
        yield Step(step)
    for revocation_id in _revocations(tx, size):
        row = tx.revocation(revocation_id)
        assert row is not None
        yield Revoked(row, tuple(tx.denials(revocation_id)))
    if devices:
        after = ""
        while page := tx.devices(_PAGE, after):
            yield from (Known(device, head) for device in page)
            after = page[-1].device_id


def _revocations(tx: ReadTx, size: int) -> Sequence[Any]:
    found = tx.execute(
        "SELECT revocation, min(seq) FROM denials WHERE seq > ? GROUP BY revocation ORDER BY 2", (size,)
    )
    return [row[0] for row in found]
