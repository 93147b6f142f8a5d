"""What every device session of one node shares, and how it is put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.catalog import Catalog
from sync_server.aggregates.rounds import Rounds
from sync_server.catalog.purpose_leases import PurposeLeases
from sync_server.clock import Clock
from sync_server.consent.heads import SignedHeads
from sync_server.consent.office import ConsentOffice
from sync_server.devices.authority import Authority
from sync_server.devices.entropy import Entropy
from sync_server.restore.catching_up import CatchingUp
from sync_server.settings import Settings
from sync_server.store.protocol import Store
from sync_server.sync.acks import Acks
from sync_server.sync.admission import Admission, Visit
from sync_server.sync.desk import Desk
from sync_server.sync.fanout import Fanout
from sync_server.sync.heads import Heads
from sync_server.sync.hints import Hints
from sync_server.sync.lane_tail import LaneTail
from sync_server.sync.on_demand import OnDemand
from sync_server.sync.pages import Pages
from sync_server.sync.patches import Patches
from sync_server.sync.presence import Presence
from sync_server.sync.pushed import PushedViews
from sync_server.sync.rate import DeviceRate
from sync_server.sync.receipt_tray import ReceiptTray
from sync_server.sync.row_frames import RowFrames
from sync_server.sync.signing import Signing
from sync_server.sync.steps import Steps
from sync_server.sync.use import Use


@dataclass(frozen=True, slots=True)
class Node:
    """What every session of this node shares."""

    settings: Settings
    clock: Clock
    store: Store
    signing: Signing
    lane: LaneTail
    fanout: Fanout
    hints: Hints
    desk: Desk
    chance: Callable[[int], bytes]
    """n unpredictable bytes, for nonces."""
    heads: Heads
    admission: Admission
    patches: Patches
    presence: Presence
    on_demand: OnDemand
    row_frames: RowFrames
    steps: Steps
    acks: Acks
    receipts: ReceiptTray
    pushed: PushedViews
    ledger: SignedHeads
    leases: Callable[[], PurposeLeases]
    """What each purpose's lease is, over every registered catalog."""
    catching_up: CatchingUp
    """What is still to be heard after a restore."""

    def fraction(self) -> float:
        """A number in [0, 1), for jitter."""
        return int.from_bytes(self.chance(4), "big") / 2**32

    def knock(self) -> Visit:
        """A place for a new session; raises `Turned` when there is none, or the node is stopping."""
        return self.admission.knock(self.clock.now_us(), self.fraction())


def open_node(
    settings: Settings,
    clock: Clock,
    store: Store,
    authority: Authority,
    office: ConsentOffice,
    rounds: Rounds,
    entropy: Entropy,
    catalog: Callable[[], Catalog | None] = lambda: None,
    leases: Callable[[], PurposeLeases] = dict,
) -> Node:
    """Put a node together and let it hear of every commit of `store`.

    Args:
        catalog: tells the catalog in force; without one nothing is on demand.
        leases: tells the lease of each purpose; one of which it says nothing has the whole lease.

    The owner runs `node.heads.run(settings.heads_poll_us)` as a task beside it.
    """
    hints = Hints()
    lane = LaneTail(store, settings.frame_rows)
    pages: Pages[tuple[object, ...]] = Pages(
        settings.fanout_cache_bytes, settings.fanout_file_bytes, settings.data_dir
    )
    fanout = Fanout(store, authority.signing, settings.frame_rows, pages)
    heads = Heads(hints, lane, fanout, store)
    store.listen(hints.committed)
    patches = Patches(store, settings, authority.digest_key)
    pushed = PushedViews(store, catalog)
    return Node(
        settings=settings,
        clock=clock,
        store=store,
        signing=Signing(authority),
        lane=lane,
        fanout=fanout,
        hints=hints,
        desk=Desk(settings, clock, store, rounds, office),
        chance=entropy,
        heads=heads,
        admission=Admission(settings),
        patches=patches,
        presence=Presence(settings.sessions),
        on_demand=OnDemand(
            settings=settings,
            clock=clock,
            store=store,
            catalog=catalog,
            rate=DeviceRate(settings.fetched_per_minute, settings.sessions),
            use=Use(settings.use_half_life_us, settings.use_rows),
        ),
        row_frames=RowFrames(fanout, patches, pushed),
        steps=Steps(fanout),
        acks=Acks(store),
        receipts=ReceiptTray(store, clock),
        pushed=pushed,
        catching_up=CatchingUp(store, clock, settings, entropy, leases),
        ledger=SignedHeads(authority, clock),
        leases=leases,
    )
