"""Events: written with what makes them true, delivered until acknowledged, told once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from sync_server.api import rooms
from sync_server.devices.authority import rotate_key
from sync_server.devices.entropy import system_entropy
from sync_server.events.pairwise import pairwise_name
from sync_server.events.telling import notice
from sync_server.receiving import keys_of
from sync_server.settings import DAY_US
from sync_server.store.events import EventRow
from tests.support.clock import ManualClock
from tests.support.receivers import Heard, RawReceiver, failing, taking
from tests.support.shop_server import FakeDevice, ShopServer

URI = "urn:edge-sync:event:"


@pytest.fixture
async def open_shop(tmp_path: Path) -> AsyncIterator[ShopServer]:
    """A server that may send to this machine."""
    limits = {"deliver_to": ("loopback",), "events_look_us": 20_000}
    async with ShopServer(tmp_path / "data", ManualClock(), **limits) as server:
        yield server


async def stream(shop: ShopServer, **more: Any) -> str:
    made = await shop.call("POST", "/v1/event-streams", more)
    assert made.status == 201, made.body
    return str(made.body["stream_id"])


async def webhook(shop: ShopServer, url: str, **more: Any) -> str:
    made = await shop.call("POST", "/v1/webhooks", {"url": url, **more})
    assert made.status == 201, made.body
    return str(made.body["id"])


async def poll(shop: ShopServer, stream_id: str, *ack: str, **more: Any) -> Any:
    body = {"returnImmediately": True, "ack": list(ack), **more}
    reply = await shop.call("POST", f"/v1/event-streams/{stream_id}/poll", body)
    assert reply.status == 200, reply.body
    return reply.body


async def claims(shop: ShopServer, token: str) -> Any:
    keys = keys_of((await shop.call("GET", "/.well-known/jwks.json", token=None)).body)
    key = keys[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, key, algorithms=["EdDSA"], options={"verify_aud": False})


async def kinds_of(shop: ShopServer, sets: dict[str, str]) -> list[str]:
    found = [await claims(shop, token) for token in sets.values()]
    return [next(iter(c["events"])).removeprefix(URI) for c in found]


def turn(shop: ShopServer) -> None:
    """Housekeeping's look at what time made true."""
    shop.app[rooms.EVENTS].keeper.step(shop.clock.now_us())


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Ask again until it is so; each asking lets the server work."""
    for _ in range(2_000):
        if await true():
            return
    raise AssertionError("it never came true")


async def test_a_set_has_one_event_a_top_level_sub_id_and_no_exp(open_shop: ShopServer) -> None:
    """RFC 8417 and SSF 1.0: what a token of a revocation says, under the published key."""
    shop = open_shop
    stream_id = await stream(shop)
    made = (await shop.revoke("alice", ["personalization"])).body
    sets = (await poll(shop, stream_id))["sets"]
    token = sets[f"{made['id']}.accepted"]
    assert jwt.get_unverified_header(token)["typ"] == "secevent+jwt"
    said = await claims(shop, token)
    assert said["iss"] == shop.settings.issuer
    assert said["aud"] == f"{shop.settings.issuer}/v1/event-streams/{stream_id}"
    assert said["iat"] == shop.clock.now_us() // 1_000_000
    assert "exp" not in said
    assert "sub" not in said
    name = pairwise_name(shop.authority.tag_key, stream_id, shop.pseudonym("alice"))
    assert said["sub_id"] == {"format": "opaque", "id": name}
    assert list(said["events"]) == [f"{URI}revocation-accepted"]
    body = said["events"][f"{URI}revocation-accepted"]
    assert (body["revocation"], body["purposes"]) == (made["id"], ["personalization"])
    assert "alice" not in json.dumps(said)


async def test_a_revocations_life_is_told_in_order_and_each_change_once(open_shop: ShopServer) -> None:
    """Three devices: one answers, one is silent until its lease ends, one owes past the due time."""
    shop = open_shop
    stream_id = await stream(
        shop,
        events_requested=[
            f"{URI}revocation-{k}" for k in ("accepted", "enforced", "overdue", "erased", "completed")
        ],
    )
    devices = [await FakeDevice(shop, n).enrol() for n in range(2)]
    assert all(device.lease() for device in devices)
    made = (await shop.revoke("alice", ["personalization"])).body
    turn(shop)
    assert await kinds_of(shop, (await poll(shop, stream_id))["sets"]) == ["revocation-accepted"]
    devices[0].answer(made, shop.pseudonym("alice"))
    shop.clock.advance(us=2 * DAY_US)  # the other's lease has ended
    turn(shop)
    turn(shop)
    found = (await poll(shop, stream_id))["sets"]
    assert await kinds_of(shop, found) == ["revocation-accepted", "revocation-enforced"]
    enforced = (await claims(shop, found[f"{made['id']}.enforced"]))["events"][f"{URI}revocation-enforced"]
    status = (await shop.call("GET", f"/v1/consent-revocations/{made['id']}")).body
    assert enforced["at"] == status["enforced_at"] < shop.clock.now_us()
    shop.clock.advance(us=40 * DAY_US)
    turn(shop)
    devices[1].answer(made, shop.pseudonym("alice"))
    turn(shop)
    told = await kinds_of(shop, (await poll(shop, stream_id))["sets"])
    assert told == [f"revocation-{k}" for k in ("accepted", "enforced", "overdue", "erased", "completed")]


async def test_a_late_holder_amends_the_completion_once(open_shop: ShopServer) -> None:
    """A device that nobody waited for erases after completion: one event more, with a name of its own."""
    shop = open_shop
    stream_id = await stream(shop)
    late = await FakeDevice(shop, 1).enrol()
    made = (await shop.revoke("alice", ["personalization"])).body
    assert f"{made['id']}.completed" in (await poll(shop, stream_id))["sets"]
    shop.clock.advance(seconds=60)
    late.answer(made, shop.pseudonym("alice"))
    late.answer(made, shop.pseudonym("alice"))
    names = [jti for jti in (await poll(shop, stream_id))["sets"] if "amended" in jti]
    assert names == [f"{made['id']}.amended-1"]


async def test_law_6_an_event_comes_again_until_it_is_acknowledged_and_no_longer(
    open_shop: ShopServer,
) -> None:
    """Poll delivery: the same bytes again, in order, at most as many as asked for; then gone."""
    shop = open_shop
    stream_id = await stream(shop)
    await shop.give("alice")
    await shop.revoke("alice", ["personalization"])
    first = await poll(shop, stream_id, maxEvents=2)
    assert (len(first["sets"]), first["moreAvailable"]) == (2, True)
    assert await poll(shop, stream_id, maxEvents=2) == first
    rest = await poll(shop, stream_id, *first["sets"])
    assert not set(rest["sets"]) & set(first["sets"])
    assert not rest["moreAvailable"]
    assert (await poll(shop, stream_id, *rest["sets"]))["sets"] == {}
    assert (await shop.call("GET", "/v1/events")).body["events"] == 0


async def test_a_set_that_its_receiver_refuses_is_kept_apart_and_said(open_shop: ShopServer) -> None:
    """setErrs: not sent again by itself, listed among the dead, and sent again when asked."""
    shop = open_shop
    stream_id = await stream(shop)
    await shop.give("alice")
    (jti,) = (await poll(shop, stream_id))["sets"]
    error = {jti: {"err": "invalid_key", "description": "alice's key"}}
    assert (await poll(shop, stream_id, setErrs=error))["sets"] == {}
    (letter,) = (await shop.call("GET", "/v1/webhook-deliveries?state=dead")).body["deliveries"]
    assert (letter["event"], letter["error"]) == (jti, "the receiver says: invalid_key")
    shop.app[rooms.EVENTS].keeper.look(shop.clock.now_us())
    assert (await shop.call("GET", "/readyz", token=None)).body["delivery"] == "warning"
    assert (await shop.call("POST", f"/v1/webhook-deliveries/{letter['id']}/retry")).status == 202
    assert list((await poll(shop, stream_id))["sets"]) == [jti]


async def test_a_paused_stream_keeps_and_only_deleting_it_drops(open_shop: ShopServer) -> None:
    """Nothing flows while paused, everything afterwards; `disabled`, which would drop, is refused."""
    shop = open_shop
    stream_id = await stream(shop)
    pause = {"stream_id": stream_id, "status": "paused", "reason": "moving house"}
    assert (await shop.call("POST", "/v1/event-streams/status", pause)).body["status"] == "paused"
    await shop.give("alice")
    assert (await poll(shop, stream_id))["sets"] == {}
    refused = await shop.call("POST", "/v1/event-streams/status", {**pause, "status": "disabled"})
    assert refused.status == 422
    shown = (await shop.call("GET", f"/v1/event-streams/status?stream_id={stream_id}")).body
    assert (shown["waiting"], shown["reason"]) == (1, "moving house")
    await shop.call("POST", "/v1/event-streams/status", {**pause, "status": "enabled"})
    assert len((await poll(shop, stream_id))["sets"]) == 1
    assert (await shop.call("DELETE", f"/v1/event-streams?stream_id={stream_id}")).status == 204
    assert (await shop.call("GET", "/v1/events")).body["events"] == 0


async def test_a_long_poll_wakes_for_a_verification_and_brings_its_state(open_shop: ShopServer) -> None:
    """SSF's canary, through a poll that was waiting."""
    import asyncio

    shop = open_shop
    stream_id = await stream(shop)
    waiting = asyncio.create_task(poll(shop, stream_id, returnImmediately=False))
    asked = await shop.call("POST", "/v1/event-streams/verify", {"stream_id": stream_id, "state": "s-1"})
    assert asked.status == 204
    (token,) = (await asyncio.wait_for(waiting, 20))["sets"].values()
    said = await claims(shop, token)
    assert said["sub_id"] == {"format": "opaque", "id": stream_id}
    assert said["events"] == {
        "https://schemas.openid.net/secevent/ssf/event-type/verification": {"state": "s-1"}
    }


async def test_two_recipients_cannot_join_their_names_and_each_can_learn_its_own(
    open_shop: ShopServer,
) -> None:
    """Pairwise names; who knows a raw id asks for its name, known subject or not."""
    shop = open_shop
    first, second = await stream(shop), await stream(shop)
    await shop.give("alice")
    names = []
    for stream_id in (first, second):
        (token,) = (await poll(shop, stream_id))["sets"].values()
        names.append((await claims(shop, token))["sub_id"]["id"])
        body = {"delivery": stream_id, "subjects": ["alice", "nobody"]}
        asked = (await shop.call("POST", "/v1/event-subjects", body)).body["names"]
        assert asked[0] == names[-1] != asked[1]
    assert names[0] != names[1]


async def test_a_destination_hears_of_its_purposes_only(open_shop: ShopServer) -> None:
    """Neither the event of another purpose nor the name of one."""
    shop = open_shop
    stream_id = await stream(shop, purposes=["measurement"])
    await shop.revoke("alice", ["personalization"])
    await shop.revoke("bob", ["personalization", "measurement"])
    found = [await claims(shop, t) for t in (await poll(shop, stream_id))["sets"].values()]
    purposes = {tuple(body["purposes"]) for c in found for body in c["events"].values()}
    assert purposes == {("measurement",)}


async def test_nothing_is_told_of_a_transaction_that_did_not_stand(open_shop: ShopServer) -> None:
    """The event and what makes it true are one transaction."""
    shop = open_shop
    stream_id = await stream(shop)

    def undone() -> None:
        with shop.store.write("revoke") as tx:
            shop.office.revoke(tx, shop.pseudonym("alice"), ["personalization"], "subject", "")
            assert tx.events.count()["events"] > 0
            raise KeyError

    with pytest.raises(KeyError):
        undone()
    assert (await poll(shop, stream_id))["sets"] == {}


async def test_looking_again_tells_nothing_twice(open_shop: ShopServer) -> None:
    """Whoever notices after a kill may repeat it."""
    shop = open_shop
    await stream(shop)
    made = (await shop.revoke("alice", ["personalization"])).body
    with shop.store.write("again") as tx:
        before = tx.events.count()
        for _ in range(3):
            notice(tx, made["id"], shop.clock.now_us())
        assert tx.events.count() == before


async def test_a_push_stream_is_retried_after_what_the_receiver_asks_and_never_given_up(
    open_shop: ShopServer,
) -> None:
    """RFC 8935: the SET's own media type and header, 503 with Retry-After, then 202."""
    shop = open_shop
    async with failing(1, 503, **{"Retry-After": "120"}) as receiver:
        push = {
            "method": "urn:ietf:rfc:8935",
            "endpoint_url": receiver.url,
            "authorization_header": "Bearer x",
        }
        stream_id = await stream(shop, delivery=push)
        await shop.give("alice")
        first = await receiver.next()
        assert first.headers["Content-Type"] == "application/secevent+jwt"
        assert first.headers["Authorization"] == "Bearer x"

        async def failed() -> bool:
            path = f"/v1/event-streams/status?stream_id={stream_id}"
            return bool((await shop.call("GET", path)).body["error"] == "status 503")

        await until(failed)
        shop.clock.advance(seconds=119)
        shop.app[rooms.EVENTS].bell.ring()
        await shop.call("GET", "/v1/events")
        assert len(receiver.all) == 1
        shop.clock.advance(seconds=2)
        second = await receiver.next()
        assert second.body == first.body

        async def gone() -> bool:
            return bool((await shop.call("GET", "/v1/events")).body["events"] == 0)

        await until(gone)
        shown = await shop.call("GET", f"/v1/event-streams?stream_id={stream_id}")
        assert "Bearer x" not in json.dumps(shown.body)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "redirect"),
        (b"\x00\xff garbage \r\n\r\n", "no proper answer"),
        (b"HTTP/1.1 20", "no proper answer"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "status 404"),
    ],
    ids=["redirecting", "garbage", "dying midway", "refusing"],
)
async def test_what_a_bad_receiver_does_is_said_and_its_letter_dies_after_its_tries(
    tmp_path: Path, reply: bytes, said: str
) -> None:
    """Two tries, each after its wait; then a dead letter, which an operator lets wait again or gives up."""
    limits = {"deliver_to": ("loopback",), "events_look_us": 20_000, "webhook_attempts": 2}
    async with ShopServer(tmp_path / "d", ManualClock(), **limits) as shop, RawReceiver(reply) as receiver:
        hook = await webhook(shop, receiver.url, events=["decision-recorded"])
        await shop.give("alice")

        async def dead() -> bool:
            shop.clock.advance(seconds=3_700)
            return bool((await shop.call("GET", "/v1/events")).body["dead"] == 1)

        await until(dead)
        (letter,) = (await shop.call("GET", "/v1/webhook-deliveries")).body["deliveries"]
        assert letter["attempts"] == 2 == receiver.asked
        assert said in letter["error"]
        assert letter["destination"] == hook
        assert (await shop.call("DELETE", f"/v1/webhook-deliveries/{letter['id']}")).status == 204
        assert (await shop.call("GET", "/v1/events")).body["events"] == 0


async def test_law_11_a_receiver_that_hangs_delays_nobody_else(open_shop: ShopServer) -> None:
    """One never answers; the other has its event at once, and the server stops cleanly with one under way."""
    shop = open_shop
    async with RawReceiver(None) as hanging, taking() as receiver:
        await webhook(shop, hanging.url)
        await webhook(shop, receiver.url)
        await shop.give("alice")
        assert json.loads((await receiver.next()).body)["type"] == f"{URI}decision-recorded"
        await hanging.came.wait()


async def test_law_11_many_webhooks_of_one_slow_host_leave_room_for_another(tmp_path: Path) -> None:
    """Five that hang at one host, places for three requests, two of them for one host: the sixth is told."""
    limits = {"deliver_to": ("loopback",), "deliveries_at_once": 3, "deliveries_per_host": 2}
    async with (
        ShopServer(tmp_path / "d", ManualClock(), **limits) as shop,
        RawReceiver(None) as hanging,
        taking() as receiver,
    ):
        for n in range(5):
            await webhook(shop, f"{hanging.url}/{n}")
        await webhook(shop, receiver.url)
        await shop.give("alice")
        assert json.loads((await receiver.next()).body)["state"] == "given"
        await hanging.came.wait()
        assert hanging.asked <= 2


async def test_a_webhook_is_signed_so_that_its_receiver_can_believe_it(open_shop: ShopServer) -> None:
    """The shipped verifier takes what really arrives, with the keys that the server publishes."""
    from sync_server.receiving import WebhookReceiver

    shop = open_shop
    async with taking(204) as receiver:
        await webhook(shop, receiver.url)
        await shop.give("alice")
        heard: Heard = await receiver.next()
        keys = keys_of((await shop.call("GET", "/.well-known/jwks.json", token=None)).body)
        trusting = WebhookReceiver(keys, receiver.url, lambda: shop.clock.now_us() / 1e6)
        trusting.verify(heard.method, heard.path, heard.headers, heard.body)


async def test_callbacks_go_only_where_the_operator_allows(open_shop: ShopServer) -> None:
    """An origin of a registered webhook is allowed; others, private addresses and plain http are not."""
    shop = open_shop
    key = {"Idempotency-Key": "k1"}
    async with taking() as receiver:
        body = {
            "subject": "alice",
            "purposes": ["personalization"],
            "callback_urls": [f"{receiver.url}/mine"],
        }
        refused = await shop.call("POST", "/v1/consent-revocations", body, headers=key)
        assert (refused.status, refused.body["code"]) == (422, "unreachable_url")
        with shop.store.read() as tx:
            assert tx.revocations(9) == []
        await webhook(shop, receiver.url, events=["revocation-amended"])
        made = await shop.call("POST", "/v1/consent-revocations", body, headers=key)
        assert made.status == 202, made.body
        heard = [json.loads((await receiver.next()).body)["type"] for _ in range(4)]
        told = ("accepted", "enforced", "erased", "completed")
        assert heard == [f"{URI}revocation-{kind}" for kind in told]
        assert {h.path for h in receiver.all} == {"/hooks/mine"}

        async def forgotten() -> bool:
            with shop.store.read() as tx:
                return tx.destinations.find(f"{made.body['id']}.callback-0") is None

        await until(forgotten)


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "https://10.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest"),
        *(
            "https://user:pw@example.com/",
            "https://example.com/#x",
            "ftp://example.com/",
            "https://",
            "https:///x",
        ),
        *("https://[::ffff:127.0.0.1]/", "https://exa mple.com/", "http://localhost:1/", "https://0.0.0.0/"),
    ],
)
async def test_a_url_that_could_reach_a_neighbour_is_refused(shop: ShopServer, url: str) -> None:
    """As the settings come: public https only."""
    refused = await shop.call("POST", "/v1/webhooks", {"url": url})
    assert (refused.status, refused.body["code"]) == (422, "unreachable_url")


async def test_a_name_that_resolves_to_this_machine_is_not_called(tmp_path: Path) -> None:
    """The address is judged at the connection: registered as a name, refused when it leads inside."""
    limits = {"events_look_us": 20_000}
    async with ShopServer(tmp_path / "d", ManualClock(), **limits) as shop, RawReceiver(None) as inside:
        port = inside.server.sockets[0].getsockname()[1]
        await webhook(shop, f"https://localhost:{port}/", events=["decision-recorded"])
        await shop.give("alice")

        async def tried() -> bool:
            (hook,) = (await shop.call("GET", "/v1/webhooks")).body["webhooks"]
            return bool(hook["error"])

        await until(tried)
        assert inside.asked == 0


async def test_a_token_signed_before_the_key_changed_still_verifies(tmp_path: Path) -> None:
    """The key set has the earlier key too; the event comes again under its id, signed by the present one."""
    clock = ManualClock()
    async with ShopServer(tmp_path / "d", clock) as shop:
        stream_id = await stream(shop)
        await shop.give("alice")
        before = (await poll(shop, stream_id))["sets"]
    rotate_key(shop.settings.key_file, system_entropy)
    async with ShopServer(tmp_path / "d", clock) as shop:
        after = (await poll(shop, stream_id))["sets"]
        (jti,) = before
        assert after[jti] != before[jti]
        assert await claims(shop, after[jti]) == await claims(shop, before[jti])


async def test_a_deleted_stream_takes_nothing_from_the_others(open_shop: ShopServer) -> None:
    """An event goes with its last delivery, not with the first stream that is deleted."""
    shop = open_shop
    one, other = await stream(shop), await stream(shop, purposes=["personalization"])
    await shop.give("alice")
    await shop.give("bob", "measurement")
    await shop.call("DELETE", f"/v1/event-streams?stream_id={one}")
    assert rows_of(shop, "events") == 1 == len((await poll(shop, other))["sets"])


async def test_discovery_leads_to_what_is_there(open_shop: ShopServer) -> None:
    """`/.well-known/ssf-configuration`, which needs no token."""
    shop = open_shop
    found = (await shop.call("GET", "/.well-known/ssf-configuration", token=None)).body
    base = found["issuer"]
    for name in ("configuration_endpoint", "jwks_uri"):
        path = found[name].removeprefix(base)
        assert (await shop.call("GET", path)).status == 200
    assert found["delivery_methods_supported"] == ["urn:ietf:rfc:8935", "urn:ietf:rfc:8936"]


def rows_of(shop: ShopServer, table: str) -> int:
    with sqlite3.connect(shop.settings.database) as found:
        return int(found.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_nothing_is_kept_of_events_when_nobody_listens(shop: ShopServer) -> None:
    """No stream, no webhook: no event rows."""
    await shop.give("alice")
    await shop.revoke("alice")
    assert rows_of(shop, "events") == rows_of(shop, "deliveries") == 0


def steps_of(shop: ShopServer, work: Callable[[], object]) -> int:
    """Hundreds of steps that SQLite's machine takes for `work`: the same on every machine."""
    counted = [0]

    def step() -> int:
        counted[0] += 1
        return 0

    store: Any = shop.store
    for connection in (store._writer, store._reader):
        connection.set_progress_handler(step, 100)
    work()
    for connection in (store._writer, store._reader):
        connection.set_progress_handler(None, 0)
    return counted[0]


async def test_law_11_ten_thousand_events_that_nobody_takes_slow_no_revocation_and_no_poll(
    shop: ShopServer,
) -> None:
    """What is owed grows, and the work of a revocation, a look for something to send and a poll do not."""
    stream_id = await stream(shop)
    now_us, numbers = shop.clock.now_us(), iter(range(1_000))

    def work() -> None:
        with shop.store.write("revoke") as tx:
            subject = shop.pseudonym(f"somebody{next(numbers)}")
            shop.office.revoke(tx, subject, ["personalization"], "subject", "")
        with shop.store.read() as reading:
            reading.events.ready(now_us, [], [], 10)
            reading.events.owed(stream_id, 10)
            reading.events.to_look_at(now_us, 10)

    for _ in range(20):
        work()
    before = min(steps_of(shop, work) for _ in range(5))
    with shop.store.write("backlog") as tx:
        for n in range(10_000):
            body = {"purposes": ["personalization"]}
            event = EventRow(0, f"b-{n}", "decision-recorded", None, bytes(16), now_us, now_us, body)
            tx.events.add(event, [stream_id])
    after = min(steps_of(shop, work) for _ in range(5))
    assert after <= before * 1.5, (before, after)
