"""The hand-written limit of the session bench gives the engine's verdicts and bits."""

from __future__ import annotations

from bench.session import CATALOG, assert_identical, stream
from edge_runtime.catalog import Catalog
from edge_runtime.session.plan import compile_catalog


def test_the_hand_written_limit_gives_identical_bits() -> None:
    """Late events, duplicates and pauses included: 12 features, compared with ==."""
    catalog = Catalog.from_toml(CATALOG)
    assert_identical(compile_catalog(catalog).views["activity@1"], stream(catalog, 2_000))
