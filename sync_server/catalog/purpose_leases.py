"""How long each purpose may be used without contact, over every catalog that any device may have. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge_runtime.catalog import Catalog

PurposeLeases = Mapping[str, int | None]
"""Purpose -> its longest lease in microseconds; None when some catalog lets it be used without any lease."""


def widened(leases: PurposeLeases, catalog: Catalog) -> dict[str, int | None]:
    """`leases`, with what one more catalog says.

    A device locks a purpose by its own catalog. So of several the longest lease counts; and where one rests
    the purpose on another basis than consent, no lease ends its use there.
    """
    wide = dict(leases)
    for purpose in catalog.purposes.values():
        before = wide.get(purpose.name, 0)
        unleased = before is None or not purpose.asks
        wide[purpose.name] = None if unleased else max(before or 0, purpose.lease_us)
    return wide


def limits(leases: PurposeLeases, duration_us: int) -> dict[str, int]:
    """What a lease of `duration_us` says of purposes that it ends for earlier."""
    return {p: lease_us for p, lease_us in leases.items() if lease_us is not None and lease_us < duration_us}


def unleased(leases: PurposeLeases, purposes: Iterable[str]) -> bool:
    """Whether any of `purposes` may be used on a device whose lease has ended. What no catalog declares may
    not: nobody can hold any of it."""
    return any(leases.get(purpose, 0) is None for purpose in purposes)


def longest_us(named: Mapping[str, int], purposes: Iterable[str]) -> int | None:
    """The longest lease that `named` leaves to any of `purposes`; None: one has the whole lease."""
    found = [named.get(purpose) for purpose in purposes]
    known = [lease_us for lease_us in found if lease_us is not None]
    return max(known) if len(known) == len(found) else None
