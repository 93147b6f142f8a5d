"""The hand-written limit of the session bench gives the engine's verdicts and bits."""

from __future__ import annotations

import pytest

from bench.session import CATALOG, REAL, assert_identical
from bench.session_feeds import made, real
from bench.streams import find
from edge_runtime.catalog import Catalog
from edge_runtime.session.plan import ViewPlan, compile_catalog


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.from_toml(CATALOG)


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> ViewPlan:
    return compile_catalog(catalog).views["activity@1"]


def test_the_hand_written_limit_gives_identical_bits(plan: ViewPlan, catalog: Catalog) -> None:
    """Late events, duplicates and pauses included: 12 features, compared with ==."""
    assert_identical(plan, made(catalog, 2_000))


@pytest.mark.parametrize("name", REAL)
def test_so_it_does_over_real_streams(
    name: str, plan: ViewPlan, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ties, cancellations, repeated rows and a hole of 31 days; many users with a state of their own."""
    monkeypatch.delenv("EDGE_BENCH_DATA", raising=False)
    assert_identical(plan, real(catalog, find(name), limit=3_000))
