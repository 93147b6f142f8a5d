"""`sync_server.client`: typed replies, and what is asked again and what is not."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, TypeVar

import msgspec
import pytest

from edge_runtime.wire.fingerprint import digest_of
from sync_server.api import rooms
from sync_server.client import Client, NotYet, Patience, Refused, Unreachable, path_of
from sync_server.consent.verifying import VerifyFailure, verify_with_root
from tests.support.broken_catalog import changed, put
from tests.support.served import free_port
from tests.support.shop_server import FakeDevice, ShopServer

P = "personalization"
T = TypeVar("T")


class ManualWaiter:
    """Time passes when somebody waits."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.then: Callable[[], object] = lambda: None

    def now_s(self) -> float:
        return sum(self.waits)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.then()


class Shop:
    """The client, called beside the server's loop."""

    def __init__(self, shop: ShopServer) -> None:
        self.waiter = ManualWaiter()
        url = str(shop.client.make_url("")).rstrip("/")
        self.client = Client(url, shop.app[rooms.API_TOKEN], waiter=self.waiter, rng=random.Random(7))
        self.consent = self.client.consent

    async def do(self, call: Callable[[], T]) -> T:
        return await asyncio.to_thread(call)


async def test_the_whole_way_in_types(shop: ShopServer) -> None:
    """Give, look, revoke, watch, walk the targets, prove: with nothing but the client."""
    devices = [await FakeDevice(shop, seed).enrol() for seed in range(3)]
    assert all(device.lease() for device in devices)
    at = Shop(shop)
    root = (await at.do(at.consent.head)).root_fingerprint
    given = await at.do(lambda: at.consent.give("alice", P, notice="2026-11"))
    assert (given.seq, given.state_now.state) == (1, "given")
    assert (await at.do(lambda: at.consent.record(given.id))).seq == 1
    assert (await at.do(lambda: at.consent.state("alice", P))).grant == 1
    made = await at.do(lambda: at.consent.revoke("alice", [P]))
    assert at.consent.verify(made.receipt, root).proven.purposes == (P,)
    steps = await at.do(lambda: list(at.consent.history("user:alice")))
    assert [step.state for step in steps] == ["given", "withdrawn"]
    with pytest.raises(NotYet) as late:
        await at.do(lambda: at.consent.wait_for(made.id, "enforced", timeout_s=2.5))
    assert (late.value.status.state, at.waiter.waits) == ("propagating", [1.0, 1.0, 0.5])
    with pytest.raises(Refused, match="not_completed") as refused:
        await at.do(lambda: at.consent.receipt(made.id))
    assert (refused.value.status, refused.value.passes) == (409, False)

    def all_answer() -> None:
        for device in devices:
            device.answer(shop_body(made), shop.pseudonym("alice"))

    at.waiter.then = all_answer
    done = await at.do(lambda: at.consent.wait_for(made.id, "completed"))
    assert (done.state, done.counters.erased) == ("completed", 3)
    targets = await at.do(lambda: list(at.consent.targets(made.id, page=2)))
    assert [t.device_id for t in targets] == sorted(d.device_id for d in devices)
    proof = await at.do(lambda: at.consent.receipt(made.id))
    assert len(at.consent.verify(proof, root).proven.receipts) == 3
    with pytest.raises(VerifyFailure):
        at.consent.verify(proof, "sha256:" + 64 * "0")
    await at.do(lambda: at.consent.withdraw_record(given.id))
    assert [r.id for r in await at.do(lambda: list(at.consent.revocations()))] == [made.id]
    assert (await at.do(at.consent.head)).size == 2


def shop_body(made: Any) -> dict[str, Any]:
    return {"denials": [{"seq": d.seq, "purpose": d.purpose} for d in made.denials]}


async def test_a_decision_is_refused_with_its_problem(shop: ShopServer) -> None:
    """At once: it would be refused again."""
    at = Shop(shop)
    with pytest.raises(Refused) as refused:
        await at.do(lambda: at.consent.decide("alice", "spying", "given", notice="n"))
    assert (refused.value.code, refused.value.status, at.waiter.waits) == ("unknown_purpose", 422, [])


class Scripted:
    """A server that answers as it is told, one reply after another, and keeps what it was asked."""

    def __init__(self, *replies: tuple[int, dict[str, str], bytes] | None) -> None:
        self.asked: list[tuple[str, str | None]] = []
        left = iter(replies)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                self.asked.append((handler.path, handler.headers["Idempotency-Key"]))
                handler.rfile.read(int(handler.headers["Content-Length"]))
                reply = next(left)
                if reply is None:  # cut off: a promise of more than comes
                    reply = (202, {"Content-Length": "500"}, b"{")
                status, headers, body = reply
                handler.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    handler.send_header(name, value)
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(handler, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @contextmanager
    def serving(self) -> Iterator[Scripted]:
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()


ACCEPTED = (
    b'{"id": "rev-1", "state": "accepted", "accepted_at": 1, "due_at": 2, "denials": [],'
    b' "receipt": {"statement": {}, "signature": "", "public_key": ""}, "of_tomorrow": 1}'
)


def problem(code: str, status: int, **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, b'{"code": "%s", "title": "t"}' % code.encode()


def test_law_6_a_withdrawal_is_asked_again_under_one_key_until_it_is_answered() -> None:
    """Overloaded, limited, in flight, cut off in the middle: the same key each time, and never too soon."""
    replies: tuple[tuple[int, dict[str, str], bytes] | None, ...] = (
        problem("storage", 503, Retry_After="5"),
        problem("rate_limited", 429, Retry_After="2"),
        problem("request_in_flight", 409),
        None,
        (503, {}, b"<html>a proxy"),
        (202, {}, ACCEPTED),
    )
    waiter = ManualWaiter()
    with Scripted(*replies).serving() as server:
        client = Client(server.url, "t", waiter=waiter, rng=random.Random(1))
        assert client.consent.revoke("alice").id == "rev-1", "what it does not know it leaves alone"
    assert len(server.asked) == len(replies)
    assert len(set(server.asked)) == 1
    assert server.asked[0][1]
    least = [5.1, 2.2, 0.4, 0.8, 1.6]
    most = [5.2, 2.4, 0.8, 1.6, 3.2]
    assert all(a <= b <= c for a, b, c in zip(least, waiter.waits, most, strict=True)), waiter.waits


def test_two_withdrawals_have_two_keys_and_a_caller_may_bring_its_own() -> None:
    """A key is as unpredictable as a UUID, unless the caller wants to repeat it itself."""
    with Scripted(*[(202, {}, ACCEPTED)] * 3).serving() as server:
        client = Client(server.url, "t")
        client.consent.revoke("alice")
        client.consent.revoke("alice")
        client.consent.revoke("alice", key="of-ticket-4711")
    keys = [key for _, key in server.asked]
    assert len(set(keys)) == 3
    assert keys[2] == "of-ticket-4711"


def test_what_no_header_holds_is_refused_without_being_quoted() -> None:
    """A line break in a key or token would end up in a traceback; one around a token comes from its file."""
    with Scripted((202, {}, ACCEPTED)).serving() as server:
        with pytest.raises(ValueError, match="expected Idempotency-Key of printable ASCII"):
            Client(server.url, "t").consent.revoke("alice", key="alice\n")
        with pytest.raises(ValueError, match="expected Authorization of printable ASCII"):
            Client(server.url, "t\nu").consent.revoke("alice")
        assert Client(server.url, "t\n").consent.revoke("alice").id == "rev-1"


def test_patience_ends() -> None:
    """Nobody answers: `Unreachable` when the next attempt would be too late; pauses grow to their limit."""
    waiter = ManualWaiter()
    patience = Patience(total_s=30, first_s=1, most_s=8)
    client = Client(f"http://127.0.0.1:{free_port()}", "t", patience=patience, waiter=waiter)
    with pytest.raises(Unreachable):
        client.consent.revoke("alice")
    limits = itertools.chain([1, 2, 4], itertools.repeat(8))
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(waiter.waits, limits, strict=False))
    assert 14 <= sum(waiter.waits) <= 30


def test_a_path_quotes_what_it_is_made_of() -> None:
    """Nobody's id leads elsewhere; what is None is left out."""
    path = path_of("v1", "consents", "../x y", subject="a&b=c", purpose=None, after=7)
    assert path == "/v1/consents/..%2Fx%20y?subject=a%26b%3Dc&after=7"


async def test_signals_receipts_and_exports_in_types(shop: ShopServer) -> None:
    """A browser's signal, the subject's receipt, and everything that is held."""
    table = changed(put("catalog/version", 5))
    put(f"purposes/{P}/uses", ["targeting"])(table)
    assert (await shop.call("PUT", "/v1/catalogs/shop/5?activate=true", table)).status == 201
    at = Shop(shop)
    root = (await at.do(at.consent.head)).root_fingerprint
    refused = await at.do(lambda: at.consent.give("alice", P, notice="2026-11", gpc=True))
    assert (refused.state, refused.gpc_conflict, refused.signals) == ("refused", True, ["gpc"])
    opted = await at.do(lambda: at.consent.opt_out("bob"))
    assert ([record.purpose for record in opted.denied], opted.opted_out) == ([P], [P])
    receipt = await at.do(lambda: at.consent.consent_receipt(refused.id))
    assert verify_with_root(msgspec.to_builtins(receipt), digest_of(root)).document()["state"] == "refused"
    pages = await at.do(lambda: list(at.consent.subject_data("alice")))
    assert [record.id for page in pages for record in page.decisions] == [refused.id]
