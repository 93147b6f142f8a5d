"""How large a catalog may be. Every limit is a setting with a unit; what is over it is a fault."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CatalogLimits:
    """Bounds on a catalog, checked before and while it is read."""

    document_bytes: int = 1_048_576
    """Size of the TOML or JSON text."""
    entries: int = 1_000
    """Declarations in one section, features in one view, columns in one service."""
    list_items: int = 10_000
    """Items in one list (`values`, `edges`, `in`)."""
    text_bytes: int = 4_096
    """UTF-8 length of one string."""
    name_bytes: int = 64
    """UTF-8 length of one declared name."""
    duration_us: int = 3_650 * 86_400_000_000
    """Longest duration anywhere: ten years."""
    lease_us: int = 30 * 86_400_000_000
    """Ceiling of a purpose's lease, built into every device."""
    epsilon: float = 4.0
    """Ceiling of a metric's epsilon in one window, built into every device."""
    least_epsilon: float = 1e-6
    """The unit in which budgets count; under it a mechanism's odds are those of a coin."""
    last_n: int = 1_000
    """Largest `n` of an operator that keeps the newest n."""
    keys: int = 65_536
    """Largest `cap`, `max_keys` and number of hash buckets."""
    derived_depth: int = 8
    """Derived features made of one another, in one chain."""
    vector_size: int = 4_096
    """Largest n of `float32[n]`."""
    service_width: int = 65_536
    """Numbers in one row of a service."""
