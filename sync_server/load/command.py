"""The run behind `edge-sync load`: enrol, connect, wait until all are fresh, probe, report, take them out."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import resource
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from edge_runtime.catalog import Catalog
from edge_runtime.wire.printing import prints_only
from sync_server.clock import SystemClock
from sync_server.load.figures import summary
from sync_server.load.fleet import Fleet, ServerSaid
from sync_server.load.screen import Bar, phase, report

FILES_BESIDE = 100
"""Open files of a process besides its sockets, with room to spare."""
PROBE = "edge-load-probe"


@prints_only("url", "devices")
@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. Times in seconds."""

    url: str
    token: str
    devices: int
    per_s: float
    patience_s: float
    hold_s: float
    probes: int
    view: str | None
    channels: tuple[str, ...]
    whole: int
    leases: bool
    keep: bool
    quiet: bool
    seed: int | None


class LoadFailed(Exception):
    """The run did not come to its end; the message says why."""


def make_room(devices: int) -> None:
    """Raise this process's limit of open files so that every device has a socket.

    Raises `LoadFailed` when the hard limit is too low.
    """
    needed = devices + FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise LoadFailed(
            f"{devices} devices need {needed} open files and this system allows {hard} (`ulimit -Hn`):"
            f" run at most {max(0, hard - FILES_BESIDE)} devices here, or raise the limit"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def run(plan: Plan) -> tuple[dict[str, Any], str]:
    """Carry the plan out; returns the figures, and the same as text.

    Raises `LoadFailed`: the server does not answer, says no, or the files do not suffice. The devices that
    were enrolled are taken out again, also then.
    """
    make_room(plan.devices)
    rng = random.SystemRandom() if plan.seed is None else random.Random(plan.seed)
    async with Fleet(plan.url, plan.token, rng, leases=plan.leases) as fleet:
        try:
            return await _measured(fleet, plan)
        except ServerSaid as said:
            raise LoadFailed(str(said)) from None
        except OSError as error:  # aiohttp's connection errors are ones
            raise LoadFailed(f"{plan.url} does not answer: {error}") from None
        finally:
            if not plan.keep:
                await _take_out(fleet, plan)


async def _measured(fleet: Fleet, plan: Plan) -> tuple[dict[str, Any], str]:
    loop = asyncio.get_running_loop()
    async with _phase(fleet, "enrol", plan, lambda: len(fleet.members)):
        await fleet.enrol(plan.devices, whole=plan.whole, channels=plan.channels or None)
    started_s = loop.time()
    async with _phase(fleet, "fresh", plan, lambda: fleet.fresh):
        connecting = asyncio.create_task(fleet.connect(plan.per_s))
        try:
            whole = await fleet.all_fresh(plan.devices / plan.per_s + plan.patience_s)
        finally:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
    last_s, fresh = loop.time() - started_s, plan.devices if whole else fleet.fresh
    await _probe(fleet, plan)
    await asyncio.sleep(plan.hold_s)
    result = _result(fleet, plan, fresh, last_s if whole else None)
    result["server"] = await _server_side(fleet)
    return result, report(result, fleet.seen.fresh_s, fleet.seen.latency_s)


@contextlib.asynccontextmanager
async def _phase(fleet: Fleet, title: str, plan: Plan, done: Callable[[], int]) -> AsyncIterator[None]:
    """A bar that follows `done` four times a second."""
    with phase(title, plan.devices, quiet=plan.quiet) as bar:
        task = asyncio.create_task(_follow(bar, fleet, done))
        try:
            yield
        finally:
            task.cancel()
            bar.show(done(), _note(fleet))


async def _follow(bar: Bar, fleet: Fleet, done: Callable[[], int]) -> None:
    while True:
        bar.show(done(), _note(fleet))
        await asyncio.sleep(0.25)


def _note(fleet: Fleet) -> str:
    seen = fleet.seen
    parts = [("refused", seen.refused), ("broken", seen.broken), ("FAULTS", seen.faults)]
    return "  ".join(f"{name} {sum(counts.values())}" for name, counts in parts if counts)


# ---- probing -------------------------------------------------------------------------------------------


async def _probe(fleet: Fleet, plan: Plan) -> None:
    """Publish one small row after another and let every device say when it came; then delete it."""
    if not plan.probes:
        return
    view, kind = await _probe_view(fleet, plan.view)
    clock = SystemClock()
    with phase("probe", plan.probes, quiet=plan.quiet) as bar:
        for n in range(plan.probes):
            due, at_us = len(fleet.seen.latency_s) + fleet.fresh, clock.now_us()
            fleet.asked(at_us)
            await _publish(fleet, view, kind, at_us)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    while len(fleet.seen.latency_s) < due:
                        await asyncio.sleep(0.01)
            bar.show(n + 1)
    await _publish(fleet, view, kind, clock.now_us(), deleted=True)


async def _publish(fleet: Fleet, view: str, kind: str, at_us: int, *, deleted: bool = False) -> None:
    body: dict[str, object] = {"deleted": True} if deleted else {"values": {}}
    row = {"entity": f"{kind}:{PROBE}", "event_time": at_us / 1_000_000, **body}
    reply = await fleet.call("POST", "/v1/features", {"view": view, "rows": [row]})
    if reply["refused"]:
        raise ServerSaid(f"the probe row was refused: {reply['refused'][0]['reason']}")


async def _probe_view(fleet: Fleet, wanted: str | None) -> tuple[str, str]:
    """A pushed view about nobody, and its entity type: the one asked for, or the first of the catalog."""
    active = (await fleet.call("GET", "/v1/catalogs"))["active"]
    if active is None:
        raise ServerSaid("no catalog is active: publish one, or run with --probes 0")
    name, _, version = active.partition("@")
    catalog = Catalog.from_dict(await fleet.call("GET", f"/v1/catalogs/{name}/{version}"))
    for key, view in catalog.views.items():
        about_nobody = len(view.entity) == 1 and not catalog.entities[view.entity[0]].personal
        pushed = view.source == "server" and view.tier == "hot"
        if about_nobody and pushed and wanted in (None, view.name, key):
            return key, view.entity[0]
    raise ServerSaid("no pushed view about nobody to probe with: name one with --view, or --probes 0")


# ---- the end -------------------------------------------------------------------------------------------


def _result(fleet: Fleet, plan: Plan, fresh: int, last_s: float | None) -> dict[str, Any]:
    devices, seen = [member.device for member in fleet.members], fleet.seen
    return {
        "devices": plan.devices,
        "url": plan.url,
        "fresh": {"devices": fresh, "last_s": None if last_s is None else round(last_s, 3)},
        "time_to_fresh_s": summary(seen.fresh_s),
        "publish_to_device_ms": summary([s * 1_000 for s in seen.latency_s]),
        "matched": sum(d.matched for d in devices),
        "mismatched": sum(d.mismatched for d in devices),
        "rows": sum(d.rows for d in devices),
        "refused": dict(seen.refused),
        "broken": dict(seen.broken),
        "faults": dict(seen.faults),
    }


async def _server_side(fleet: Fleet) -> dict[str, float]:
    """Admission as the server counts it."""
    return {name: value for name, value in (await metrics(fleet)).items() if name in STANDING}


STANDING = ("opening", "in", "guest", "streaming", "streaming_most", "waiting")


async def metrics(fleet: Fleet) -> dict[str, float]:
    """`edge_sync_visits` of the server's metrics, by stage."""
    found = {}
    async with fleet.http.get(f"{fleet.url}/metrics", headers=fleet.headers) as reply:
        for line in (await reply.text()).splitlines():
            if line.startswith('edge_sync_visits{stage="'):
                stage, _, value = line.removeprefix('edge_sync_visits{stage="').partition('"} ')
                found[stage] = float(value)
    return found


async def _take_out(fleet: Fleet, plan: Plan) -> None:
    await fleet.stop()
    gone = 0

    def one_gone() -> None:
        nonlocal gone
        gone += 1
        bar.show(gone)

    with phase("remove", len(fleet.members), quiet=plan.quiet) as bar:
        fleet.changed = one_gone
        with contextlib.suppress(ServerSaid, OSError):
            await fleet.remove()


def plan_of(args: argparse.Namespace, url: str, token: str, seconds: Callable[[str], float]) -> Plan:
    """The plan in a command line; raises `ValueError`."""
    if args.devices < 1 or args.rate <= 0:
        raise ValueError("expected at least one device, and a rate above 0")
    return Plan(
        url=url,
        token=token,
        devices=args.devices,
        per_s=args.rate,
        patience_s=seconds(args.patience),
        hold_s=seconds(args.hold),
        probes=args.probes,
        view=args.view,
        channels=tuple(args.channel or ()),
        whole=args.whole,
        leases=args.leases,
        keep=args.keep,
        quiet=args.json,
        seed=None,
    )


def declare(parser: argparse.ArgumentParser) -> None:
    """The options of `edge-sync load`."""
    parser.add_argument("--devices", type=int, required=True, metavar="N", help="how many to simulate")
    parser.add_argument("--rate", type=float, default=100, help="new sessions a second (default 100)")
    parser.add_argument("--channel", action="append", help="channel to follow; repeatable (default: all)")
    parser.add_argument("--probes", type=int, default=20, help="rows to publish and time (default 20)")
    parser.add_argument("--view", help="pushed view about nobody to probe with (default: the first)")
    parser.add_argument("--whole", type=int, default=50, help="devices that compare digests (default 50)")
    parser.add_argument("--leases", action="store_true", help="ask for leases; they outlive the run")
    parser.add_argument("--patience", default="2m", help="how long to wait for the last (default 2m)")
    parser.add_argument("--hold", default="0s", help="how long to stay connected at the end")
    parser.add_argument("--keep", action="store_true", help="leave the devices enrolled at the end")
