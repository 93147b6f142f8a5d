"""Global Privacy Control at the server: heeded where it speaks, evidence everywhere."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_runtime.catalog import Catalog
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from sync_server.catalog.privacy import put_in_force
from sync_server.consent import ledger
from tests.support.broken_catalog import changed, put
from tests.support.town import ALICE, Kiosk, P, Session, Town

TARGETING = Catalog.from_dict(changed(put("purposes/personalization/uses", ["targeting"])))
USES_NONE = Catalog.from_dict(changed(lambda table: None))


def leaves(town: Town) -> list[ledger.Leaf]:
    with town.store.read() as tx:
        steps = [tx.evidence(seq) for seq in range(1, tx.lane_head() + 1)]
    return [msgspec.msgpack.decode(step.leaf, type=ledger.Leaf) for step in steps if step is not None]


def in_force(town: Town, catalog: Catalog) -> None:
    with town.store.write("registry") as tx:
        put_in_force(tx, catalog, 1)


@pytest.fixture
def session(town: Town, tmp_path: Path) -> Session:
    made = Session(Kiosk(town, tmp_path / "kiosk", catalog=USES_NONE))
    made.settle()
    return made


def test_a_signal_from_a_device_stands_in_the_leaf(town: Town, session: Session) -> None:
    """As evidence, where the purpose does nothing that it speaks of."""
    in_force(town, USES_NONE)
    session.kiosk.consents.give(ALICE, [P], notice="2026-11", gpc=True)
    session.settle()
    assert [(leaf.state, leaf.signals) for leaf in leaves(town)] == [("given", ("gpc",))]
    assert session.kiosk.consents.permission(ALICE, P).allowed


def test_a_device_that_does_not_know_what_the_purpose_does_is_put_right(town: Town, session: Session) -> None:
    """Its catalog is older: it says `given`, the ledger records a refusal, and the device erases."""
    in_force(town, TARGETING)
    session.kiosk.consents.give(ALICE, [P], notice="2026-11", gpc=True)
    session.settle()
    assert [(leaf.state, leaf.signals) for leaf in leaves(town)] == [("refused", ("gpc",))]
    assert session.kiosk.keyring.key(ALICE, P) is None
    assert session.kiosk.consents.state(ALICE, P) == "refused"


def test_a_signal_that_nobody_knows_is_refused_and_nothing_is_recorded(town: Town, session: Session) -> None:
    decision = m.Decision(bytes(16), town.pseudonym(ALICE), P, "given", "n", 0, 0, ("dnt",))
    session.answer([codec.encode(m.Decisions(decisions=[decision]))])
    session.settle()
    assert leaves(town) == []
    assert [r.code for r in session.heard_of(m.Refusal) if isinstance(r, m.Refusal)] == ["malformed"]
