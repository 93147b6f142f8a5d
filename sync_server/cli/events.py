"""Who is told of events: `edge-sync events|webhooks|recipients`."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from typing import Any

from sync_server.cli.command import client, command
from sync_server.client import path_of
from sync_server.settings import Settings

PUSH, POLL = "urn:ietf:rfc:8935", "urn:ietf:rfc:8936"
_OURS = "urn:edge-sync:event:"


def serving_options(parser: argparse.ArgumentParser) -> None:
    """What `edge-sync serve` is told about where events go, and under which name."""
    parser.add_argument("--public-url", default="", help="how others reach this server: the issuer of events")
    parser.add_argument(
        "--deliver-to",
        action="append",
        default=[],
        choices=("loopback", "private"),
        help="send events there too, not only to public https addresses; repeatable",
    )
    parser.add_argument(
        "--callback-origin",
        action="append",
        default=[],
        help="origin to which callback_urls may point, e.g. https://crm.example; repeatable",
    )


def reached(settings: Settings, args: argparse.Namespace) -> Settings:
    """The settings with those options; raises ValueError for what is no URL."""
    named = [("--callback-origin", url) for url in args.callback_origin]
    for option, url in [*named, *([("--public-url", args.public_url)] if args.public_url else [])]:
        if not re.fullmatch(r"https?://[^/\s]+(/[^\s]*)?", url):
            raise ValueError(f"expected {option} to be like https://sync.example")
    return replace(
        settings,
        public_url=args.public_url,
        deliver_to=tuple(args.deliver_to),
        callback_origins=tuple(args.callback_origin),
    )


def event_commands(commands: Any) -> None:
    """Hang the commands under `commands`."""
    parser = commands.add_parser("events", help="streams of Security Event Tokens (docs/events.md)")
    _streams(parser.add_subparsers(required=True))
    parser = commands.add_parser("webhooks", help="signed callbacks, and what could not be delivered")
    _webhooks(parser.add_subparsers(required=True))
    parser = commands.add_parser("recipients", help="to whom data goes on: revocations wait for their word")
    _recipients(parser.add_subparsers(required=True))


def _streams(commands: Any) -> None:
    def streams(args: argparse.Namespace) -> object:
        if args.delete:
            client(args).call("DELETE", path_of("v1", "event-streams", stream_id=args.delete))
            return {"deleted": args.delete}
        if args.pause or args.resume:
            wanted = "paused" if args.pause else "enabled"
            body = {"stream_id": args.pause or args.resume, "status": wanted}
            return client(args).call("POST", "/v1/event-streams/status", body)
        if not args.add:
            return client(args).call("GET", "/v1/event-streams")
        delivery = {"method": PUSH, "endpoint_url": args.push} if args.push else {"method": POLL}
        body = {"delivery": delivery, "description": args.description}
        body |= {"events_requested": [_OURS + kind for kind in args.event]} if args.event else {}
        body |= {"purposes": args.purpose} if args.purpose else {}
        return client(args).call("POST", "/v1/event-streams", body)

    def poll(args: argparse.Namespace) -> object:
        body = {"ack": args.ack or [], "maxEvents": args.most, "returnImmediately": not args.wait}
        return client(args).call("POST", path_of("v1", "event-streams", args.stream, "poll"), body)

    def verify(args: argparse.Namespace) -> object:
        body = {"stream_id": args.stream, **({"state": args.state} if args.state else {})}
        client(args).call("POST", "/v1/event-streams/verify", body)
        return {"stream_id": args.stream, "verification": "on its way"}

    made = command(commands, "streams", streams, "list streams, add one, pause, resume or delete one")
    change = made.add_mutually_exclusive_group()
    change.add_argument("--add", action="store_true", help="make a stream; polled, unless --push")
    change.add_argument("--pause", metavar="STREAM", help="it keeps its events")
    change.add_argument("--resume", metavar="STREAM")
    change.add_argument("--delete", metavar="STREAM", help="and what it has not acknowledged")
    made.add_argument("--push", metavar="URL", help="where the server pushes to")
    _choice(made)
    made = command(commands, "poll", poll, "acknowledge, and take what is owed")
    made.add_argument("stream")
    made.add_argument("--ack", action="append", metavar="JTI")
    made.add_argument("--most", type=int, default=10, help="how many at most (default 10)")
    made.add_argument("--wait", action="store_true", help="wait for something when nothing is owed")
    made = command(commands, "verify", verify, "send a verification event down the stream")
    made.add_argument("stream")
    made.add_argument("--state", help="what it is to bring back")


def _choice(made: argparse.ArgumentParser) -> None:
    """What a stream or webhook is told of; without a word, everything."""
    made.add_argument("--event", action="append", help="a kind, e.g. revocation-accepted; repeatable")
    made.add_argument("--purpose", action="append", help="only of this purpose; repeatable")
    made.add_argument("--description", default="")


def _webhooks(commands: Any) -> None:
    def listing(args: argparse.Namespace) -> object:
        return client(args).call("GET", "/v1/webhooks")

    def add(args: argparse.Namespace) -> object:
        body = {"url": args.address, "description": args.description}
        body |= {"events": args.event} if args.event else {}
        body |= {"purposes": args.purpose} if args.purpose else {}
        return client(args).call("POST", "/v1/webhooks", body)

    def remove(args: argparse.Namespace) -> object:
        client(args).call("DELETE", path_of("v1", "webhooks", args.id))
        return {"removed": args.id}

    def dead(args: argparse.Namespace) -> object:
        return client(args).call("GET", path_of("v1", "webhook-deliveries", state="dead"))

    def retry(args: argparse.Namespace) -> object:
        return client(args).call("POST", path_of("v1", "webhook-deliveries", args.delivery, "retry"))

    command(commands, "list", listing, "every webhook, and what waits for it")
    made = command(commands, "add", add, "register a webhook")
    made.add_argument("address", help="the url to which events are posted")
    _choice(made)
    command(commands, "remove", remove, "delete a webhook and what it is owed").add_argument("id")
    command(commands, "dead", dead, "deliveries that were given up or refused")
    made = command(commands, "retry", retry, "let a dead delivery wait again")
    made.add_argument("delivery", help="its id, as `webhooks dead` says")


def _recipients(commands: Any) -> None:
    def listing(args: argparse.Namespace) -> object:
        return client(args).call("GET", "/v1/recipients")

    def add(args: argparse.Namespace) -> object:
        body = {"name": args.name, "delivery": args.delivery}
        body |= {"purposes": args.purpose} if args.purpose else {}
        return client(args).call("POST", "/v1/recipients", body)

    def remove(args: argparse.Namespace) -> object:
        client(args).call("DELETE", path_of("v1", "recipients", args.name))
        return {"removed": args.name}

    command(commands, "list", listing, "every onward recipient")
    made = command(commands, "add", add, "register a recipient")
    made.add_argument("name")
    made.add_argument("delivery", help="id of the webhook or stream by which it is told")
    made.add_argument("--purpose", action="append", help="only of this purpose; repeatable")
    made = command(commands, "remove", remove, "what it still owes is closed as `removed`")
    made.add_argument("name")
