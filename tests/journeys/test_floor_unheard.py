"""A floor that rises while nobody hears of it: what left without a delete must not stay on a device."""

from __future__ import annotations

import msgspec

from edge_runtime.wire import messages as m
from tests.journeys.test_session import another_node, with_alice
from tests.support.town import Kiosk, Town


def test_law_10_a_floor_that_was_raised_unheard_leaves_nothing_deleted_on_a_device(
    town: Town, kiosk: Kiosk
) -> None:
    """Another node deletes a row and forgets the delete; this one has rows to send, and no hint comes."""
    with town.store.write("rows") as tx:
        for n in range(3):
            tx.put_row("all", town.item_row(n))
    session = with_alice(town, kiosk)
    assert "item:1" in kiosk.rows()
    with town.store.write("more") as tx:
        tx.put_row("all", town.item_row(7))
    known = town.node.fanout.head("all")
    other = another_node(town)
    with other.write("elsewhere") as tx:
        tx.put_row("all", msgspec.structs.replace(town.item_row(1), deleted=True, values=b""))
        tx.drop_deletes(2**62)
    assert town.node.fanout.head("all") == known
    session.settle()
    said = [one for one in session.heard if isinstance(one, m.Delta | m.Patch) and one.channel == "all"]
    assert isinstance(said[-1], m.Delta)  # nothing had to be repaired
    assert said[-1].replacing
    assert kiosk.stand() == town.head()
    assert sorted(kiosk.rows()) == ["item:0", "item:2", "item:7"]
    other.close()
    session.close()
