"""A node that stops: `readyz` says no, then its sessions are told to go, one after another.

Told at once, a fleet comes back at once. Each is told when to come back besides, within the time that a node
needs to take all of them in.
"""

from __future__ import annotations

import asyncio

from sync_server.settings import SECOND_US
from sync_server.sync.node import Node
from sync_server.sync.parting import back_within_us, going_away


async def drain(node: Node) -> None:
    """Take nobody in any more and part from everybody; returns when the last was told.

    It takes as long as another node needs to take them in, and at most `drain_us` after `drain_notice_us`.
    Decisions go on flowing to those who are still here. A polled session that waits is answered at once.
    """
    node.admission.closing = True
    await asyncio.sleep(node.settings.drain_notice_us / SECOND_US)
    visits, window_us = node.admission.visits, back_within_us(node)
    loop = asyncio.get_running_loop()
    began_s, lasts_s = loop.time(), min(node.settings.drain_us, window_us) / SECOND_US
    for told, visit in enumerate(visits, 1):
        visit.part(going_away(node, window_us))
        await asyncio.sleep(max(0.0, began_s + lasts_s * told / len(visits) - loop.time()))
