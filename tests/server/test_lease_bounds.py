"""When a silent device may be counted as locked: never before every lease that it may hold has ended."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

import pytest

from edge_runtime.catalog import Catalog
from sync_server.api import rooms
from sync_server.catalog.purpose_leases import limits, unleased, widened
from sync_server.consent.decisions import API, Proposal
from sync_server.consent.revocations import Revoking, revoke
from sync_server.settings import DAY_US, HOUR_US, Settings
from sync_server.store.protocol import WriteTx
from sync_server.store.records import UNLEASED_US, GrantedLease
from tests.support.shop_server import FakeDevice, ShopServer
from tests.support.town import ALICE, Town

PURPOSES: Final = ("ads", "care", "news")
WALKS, STEPS = 400, 14
DEVICE: Final = "dev-walker"


class Held(NamedTuple):
    """A lease as the device may hold it, whatever came of it on the way."""

    at_us: int
    duration_us: int
    limits: Mapping[str, int]

    def ends_us(self, purpose: str, settings: Settings) -> int:
        """The latest moment at which the purpose is still used under it: on the slowest clock allowed."""
        counted_us = min(self.duration_us, self.limits.get(purpose, self.duration_us))
        slow_us = counted_us * settings.lease_drift_ppm / 1_000_000
        return self.at_us + counted_us + int(slow_us)


class _Undone(Exception):
    pass


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    made = Town(tmp_path_factory.mktemp("town"))
    yield made
    made.close()


def test_law_3_no_bound_lies_before_the_end_of_any_lease_that_may_be_held(town: Town) -> None:
    """Settings that change, catalogs that come, leases that were lost or overtaken on the way."""
    shorter = 0
    for seed in range(WALKS):
        with suppress(_Undone), town.store.write("walk") as tx:
            shorter += _walked(tx, town, random.Random(seed))
            raise _Undone
    assert shorter > WALKS // 10, "a bound that is always the whole lease proves nothing"


def _walked(tx: WriteTx, town: Town, rng: random.Random) -> bool:
    tx.add_device(DEVICE, rng.randbytes(32), ("all",), 0)
    now_us, held = 10 * DAY_US, list[Held]()
    leases: dict[str, int | None] = {}
    for version in range(STEPS):
        if rng.random() < 0.2:
            leases = widened(leases, _catalog(rng, version))
        if rng.random() < 0.7:
            duration_us = rng.choice((1, 6, 24, 24, 48)) * HOUR_US
            held.append(Held(now_us, duration_us, limits(leases, duration_us)))
            until_us = town.settings.lease_bound_us(now_us, duration_us)
            assert tx.grant_lease(DEVICE, 0, GrantedLease(now_us, until_us, held[-1].limits, "server"))
        now_us += rng.choice((1, HOUR_US // 2, 5 * HOUR_US, 20 * HOUR_US))
    asked = rng.sample(PURPOSES, rng.randrange(1, 3))
    return _bounded(tx, town, asked, leases, held, now_us)


def _bounded(
    tx: WriteTx,
    town: Town,
    asked: list[str],
    leases: Mapping[str, int | None],
    held: list[Held],
    now_us: int,
) -> bool:
    """Revoke, and look at the bound; whether it was shorter than the whole lease."""
    subject, settings = town.pseudonym(ALICE), town.settings
    said = [Proposal(subject, p, "withdrawn", "n", 0, 0, API) for p in asked]
    wanted = Revoking("rev", "subject", said, [bytes(32)] * len(asked), now_us)
    revoke(tx, wanted, leases, settings.lease_bound_us, now_us=now_us)
    target, device = tx.target("rev", DEVICE), tx.device(DEVICE)
    assert device is not None
    if unleased(leases, asked):
        assert target is not None
        assert target.lease_bound_us == UNLEASED_US
        return False
    ends = [one.ends_us(purpose, settings) for one in held for purpose in asked]
    if target is None:
        assert all(end <= now_us for end in ends)
        return False
    assert target.lease_bound_us >= max([now_us, *ends])
    assert target.lease_bound_us <= max(now_us, device.lease_until_us)
    return target.lease_bound_us < device.lease_until_us


def _catalog(rng: random.Random, version: int) -> Catalog:
    """Some purposes, under consent but for a few, with any leases."""
    bases = {p: rng.choice(("consent",) * 12 + ("contract",)) for p in PURPOSES if rng.random() < 0.7}
    purposes = {
        name: {
            "title": name,
            "legal_basis": basis,
            "terminal_access": "strictly_necessary",
            "lease": f"{rng.choice((1, 2, 2, 12, 24))}h",
            "retention": "30d",
        }
        for name, basis in bases.items()
    }
    return Catalog.from_dict(
        {
            "catalog": {"name": "walk", "version": version + 1},
            "purposes": purposes,
            "entities": {"user": {"personal": True}},
        }
    )


async def test_a_purposes_own_lease_ends_it_earlier_whatever_catalog_comes_after(shop: ShopServer) -> None:
    """What the lease itself said of the purpose counts: a longer one of a later catalog is not in it."""
    device = await FakeDevice(shop, 1).enrol()
    register(shop, 4, brief="2h")
    assert device.lease()
    granted_us = shop.clock.now_us()
    register(shop, 5, brief="12h", later="1h")
    shop.clock.advance(seconds=60)
    for purposes, lease_us in ((["brief"], 2 * HOUR_US), (["brief", "personalization"], DAY_US)):
        assert bound_of(shop, *purposes) == shop.settings.lease_bound_us(granted_us, lease_us)
    whole_us = shop.settings.lease_bound_us(granted_us, DAY_US)
    assert bound_of(shop, "later") == whole_us, "the lease that may be held said nothing of it"


async def test_law_3_a_purpose_that_needs_no_lease_is_never_counted_as_locked(shop: ShopServer) -> None:
    """Under a contract a device goes on without contact: it is waited for, and so is one without a lease."""
    device, silent = await FakeDevice(shop, 1).enrol(), await FakeDevice(shop, 2).enrol()
    register(shop, 4, "contract", orders="2h")
    assert device.lease()
    shop.app[rooms.REGISTRY].activate("shop", 4)
    made = await shop.revoke("alice", ["orders"])
    shop.clock.advance(seconds=20 * 86_400)
    found = (await shop.call("GET", made.headers["Location"])).body
    assert (found["state"], found["counters"]["targets"], found["counters"]["enforced"]) == (
        "propagating",
        2,
        0,
    )
    targets = (await shop.call("GET", made.headers["Location"] + "/targets")).body["targets"]
    assert [t["lease_bound_at"] for t in targets] == [None, None]
    for one in (device, silent):
        one.answer(made.body, shop.pseudonym("alice"))
    assert (await shop.call("GET", made.headers["Location"])).body["state"] == "completed"


def bound_of(shop: ShopServer, *purposes: str) -> int:
    """When the only target of a revocation of these is locked by itself."""
    with shop.store.write("revoke") as tx:
        row, _ = shop.office.revoke(tx, shop.pseudonym("alice"), purposes, "subject", "n")
        (target,) = tx.targets(row.id)
    return target.lease_bound_us


def register(shop: ShopServer, version: int, basis: str = "consent", **leases: str) -> None:
    """One more catalog that declares purposes with these leases."""
    purposes = {
        name: {
            "title": name,
            "legal_basis": basis,
            "terminal_access": "strictly_necessary",
            "lease": lease,
            "retention": "30d",
        }
        for name, lease in leases.items()
    }
    entities = {"user": {"personal": True}}
    catalog = Catalog.from_dict(
        {"catalog": {"name": "shop", "version": version}, "purposes": purposes, "entities": entities}
    )
    shop.app[rooms.REGISTRY].register(catalog, shop.clock.now_us())
