"""Schemathesis against a real server on a local socket: what it sends is made from the OpenAPI document.

It tries examples at every edge of every type, and just beyond it, random data, chains of requests along the
document's links, requests without the token and with a wrong one, and methods that a path does not have. A
reply with a status 5xx, or with anything that the document does not say, is a failure; so is one that breaks
a promise (`promised.py`).

    python -m tests.support.schemathesis_run --minutes 15     # by hand, on the whole interface
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import queue
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import schemathesis
from schemathesis import SerializationContext
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from edge_runtime.wire import bundle
from sync_server.api import rooms
from tests.support.clock import ManualClock
from tests.support.shop_server import FakeDevice, ShopServer

LIMITS: Mapping[str, Any] = {
    "poll_wait_us": 50_000,
    "event_polls": 0,
    "hello_timeout_us": 1_000_000,
    "token_requests_per_s": 10**6,
    "token_burst": 10**6,
    "refusals_per_s": 10**6,
    "refusal_burst": 10**6,
    "deliveries_at_once": 0,
}
"""Settings of the server: nothing waits for long, nobody is asked to come more slowly, and nothing is sent to
the urls that are made up here: no request leaves this machine."""


REFUSED = ("400", "401", "403", "404", "405", "408", "409", "410", "413", "415", "422", "426", "429", "503")
"""Statuses that take no bad data in."""


@schemathesis.serializer("application/msgpack")
def packed(_: SerializationContext, value: object) -> bytes:
    """The value; what MessagePack cannot hold goes as JSON, which is malformed then."""
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, UnicodeError, TypeError):
        return json.dumps(value, default=str).encode()


@schemathesis.serializer(bundle.MEDIA_TYPE)
def frames(_: SerializationContext, value: object) -> bytes:
    """Any bytes may come where frames are expected."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@dataclass
class Found:
    """What a run saw."""

    cases: int = 0
    operations: set[str] = field(default_factory=set)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(operation, status) -> replies."""
    checks: Counter[str] = field(default_factory=Counter)
    """Name -> how often it was made."""
    failures: dict[str, str] = field(default_factory=dict)
    """What failed -> how to ask for it again."""

    @property
    def taken_in(self) -> set[str]:
        """Operations that said yes at least once."""
        return {operation for operation, status in self.statuses if status < 300}


@dataclass(frozen=True)
class Scene:
    """A server that runs, and its document with examples of what there is."""

    url: str
    server: ShopServer
    """Call nothing of it while it runs."""
    document: dict[str, Any]


@contextlib.contextmanager
def running(data_dir: Path, **limits: Any) -> Iterator[Scene]:
    """A server on a thread of its own."""
    ready: queue.Queue[Scene | BaseException] = queue.Queue()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with ShopServer(data_dir, ManualClock(), **{**LIMITS, **limits}) as server:
            document = await furnished(server)
            ready.put(Scene(str(server.client.make_url("/")).rstrip("/"), server, document))
            await stop.wait()

    def served() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            ready.put(error)
        finally:
            loop.close()

    thread = threading.Thread(target=served, name="server")
    thread.start()
    scene = ready.get()
    try:
        if isinstance(scene, BaseException):
            raise scene
        yield scene
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if not ready.empty():
        fault = ready.get()
        assert isinstance(fault, BaseException)
        raise fault


async def furnished(server: ShopServer) -> dict[str, Any]:
    """Bring in subjects, rows, a segment, a device and a revocation; the document then names them."""
    nobody_holds = (await server.revoke("bob")).body["id"]
    device = await FakeDevice(server, 1).enrol()
    device.lease()
    await server.give("alice")
    with server.store.read() as tx:
        as_of = tx.lane_head()
    await server.publish("profile", [{"entity": "user:alice", "event_time": 1, "values": {}}], as_of=as_of)
    await server.publish("item_stats", [{"entity": "item:a", "event_time": 1, "values": {"popularity": 0.5}}])
    await server.revoke("carol")
    polled = {"delivery": {"method": "urn:ietf:rfc:8936"}}
    stream = (await server.call("POST", "/v1/event-streams", polled)).body["stream_id"]
    recipient = {"name": "warehouse", "delivery": stream}
    assert (await server.call("POST", "/v1/recipients", recipient)).status == 201
    catalog = server.app[rooms.REGISTRY].active
    text = json.dumps(server.document).replace('"es-abc"', f'"{stream}"').replace('"wh-abc"', f'"{stream}"')
    document: dict[str, Any] = json.loads(text)
    there: dict[str, Mapping[str, object]] = {
        "/v1/devices": {"id": device.device_id},
        "/v1/aggregates": {"metric": next(iter(catalog.model.metrics))},
        "/v1/catalogs": {"name": catalog.name, "version": catalog.version},
        "/v1/purposes": {"name": next(iter(catalog.purposes))},
        "/v1/features": {"view": "item_stats", "entity": "item:a"},
        "/v1/consents": {"subject": "alice"},
        "/v1/consent-revocations": {"id": nobody_holds, "name": "warehouse"},
        "/v1/event-streams": {"id": stream, "stream_id": stream},
        "/v1/recipients": {"name": "warehouse"},
        "/v1/subject-data": {"subject": "alice"},
        "/v1/consent-evidence": {"subject": "bob"},
        "/v1/consent-ledger/proof": {"seq": 1},
    }
    for path, item in document["paths"].items():
        for prefix, known in there.items():
            if path.startswith(prefix):
                for operation in item.values():
                    _name_known(operation, known)
    put = document["paths"]["/v1/catalogs/{name}/{version}"]["put"]["requestBody"]["content"]
    put["application/json"]["example"] = catalog.to_dict()
    return document


def _name_known(operation: dict[str, Any], known: Mapping[str, object]) -> None:
    for parameter in operation["parameters"]:
        if parameter["name"] in known:
            parameter["example"] = known[parameter["name"]]


def explore(
    scene: Scene,
    *,
    seed: int,
    examples: int,
    steps: int = 4,
    minutes: float | None = None,
    only: str | None = None,
) -> Found:
    """Run every phase against the scene's server."""
    config = SchemathesisConfig.from_dict(
        {
            "base-url": scene.url,
            "seed": seed,
            "auth": {"openapi": {"bearer": {"bearer": scene.server.token}}},
            "continue-on-failure": True,
            "request-timeout": 20,
            "generation": {"max-examples": examples, "deterministic": True, "database": "none"},
            "checks": {
                # what fits its type may still name a view that does not exist
                "positive_data_acceptance": {"enabled": False},
                # a device shut out and a token revoked stay on record, and may be looked at
                "use_after_free": {"enabled": False},
                "negative_data_rejection": {"expected-statuses": list(REFUSED)},
            },
            "phases": {
                "stateful": {"max-steps": steps},
                "coverage": {"unexpected-methods": ["PATCH", "PUT"]},
            },
            **({"max-time": int(minutes * 60)} if minutes else {}),
        }
    )
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    whole, found = schemathesis.openapi.from_dict(scene.document, config=config), Found()
    schema = whole if only is None else whole.include(path_regex=only)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, about what they generate
        for event in from_schema(schema).execute():
            _take(event, found)
    return found


def _take(event: events.EngineEvent, found: Found) -> None:
    match event:
        case events.ScenarioFinished(recorder=recorder):
            for case in recorder.cases.values():
                found.operations.add(case.value.operation.label)
            for case_id, interaction in recorder.interactions.items():
                label = recorder.cases[case_id].value.operation.label
                found.cases += 1
                if interaction.response is not None:
                    found.statuses[label, interaction.response.status_code] += 1
            for case_id, nodes in recorder.checks.items():
                label = recorder.cases[case_id].value.operation.label
                for node in nodes:
                    found.checks[node.name] += 1
                    if node.failure_info is not None:
                        failure = node.failure_info.failure
                        what = f"{label}: {node.name}: {failure.title}: {failure.message[:300]}"
                        found.failures.setdefault(what, node.failure_info.code_sample[:600])
        case events.NonFatalError(label=label, value=error):
            found.failures.setdefault(f"{label}: {error!r}"[:400], "")
        case events.FatalError(exception=error):
            raise error
        case _:
            pass


def main() -> None:
    """Explore by hand, with other seeds until the time is over, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--only", help="a regular expression for paths")
    given = parser.parse_args()
    end, seed = time.monotonic() + given.minutes * 60, given.seed
    while time.monotonic() < end:
        with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "data") as scene:
            left = (end - time.monotonic()) / 60
            found = explore(
                scene,
                seed=seed,
                examples=given.examples,
                steps=6,
                minutes=max(left, 0.1),
                only=given.only,
            )
            broken, scene.server.broken_promises = sorted(set(scene.server.broken_promises)), []
        print(f"seed {seed}: {found.cases} cases, {len(found.operations)} operations, {dict(found.checks)}")
        print("never taken in:", ", ".join(sorted(found.operations - found.taken_in)) or "none", flush=True)
        for what, how in found.failures.items():
            print(f"--- {what}\n{how}")
        for fault in broken:
            print(f"--- broken promise: {fault}")
        seed += 1


if __name__ == "__main__":
    main()
