"""One example of every message, and how a message is written down in the golden vectors."""

from __future__ import annotations

import msgspec

from edge_runtime.wire import messages as m

NONCE = bytes(range(32))
SUBJECT = bytes(range(16))
SIGNATURE = bytes(range(64))
TOKEN = "~aaaqeayeaudaocajbifqydiob4"

EXAMPLES: dict[str, m.Message] = {
    "challenge": m.Challenge(
        nonce=NONCE, incarnation=SUBJECT, server_time_us=1_700_000_000_000_000, speaks=[1, 2]
    ),
    "hello": m.Hello(
        device_id="dev-1",
        nonce=NONCE,
        pinned=NONCE,
        lane=7,
        counter=2,
        catalog="shop@3",
        cursors={"all": 120, "segment:gold": 0},
        signature=SIGNATURE,
    ),
    "welcome": m.Welcome(
        nonce=NONCE,
        lane_head=9,
        counter=2,
        ping_us=20_000_000,
        server_time_us=1_700_000_000_000_001,
        succession=[m.Succession(NONCE, SIGNATURE)],
        restores=[m.Restore(SUBJECT, 7, 1_700_000_000_000_000)],
        signature=SIGNATURE,
    ),
    "revoked": m.Revoked(signature=SIGNATURE),
    "key_change": m.KeyChange(public_key=NONCE, signature=SIGNATURE, new_signature=SIGNATURE),
    "key_changed": m.KeyChanged(public_key=NONCE),
    "lane": m.Lane(
        base=7,
        entries=[
            m.LaneEntry(8, SUBJECT, "personalization", "withdrawn", 0, 8, NONCE[:16]),
            m.LaneEntry(9, SUBJECT, "measurement", "given", 9, 0),
        ],
        upto=9,
        more=True,
    ),
    "lane_empty": m.Lane(base=0, entries=[], upto=0, more=False),
    "lane_ack": m.LaneAck(upto=9),
    "recall": m.Recall(kept=7, since=5),
    "recalled": m.Recalled(
        entries=[m.LaneEntry(8, SUBJECT, "personalization", "withdrawn", 0, 8)], upto=9, more=True
    ),
    "restated": m.Restated(entries=[m.LaneEntry(3, SUBJECT, "personalization", "given", 3, 0)]),
    "lease_request": m.LeaseRequest(id=SUBJECT, upto=9, ledger=7, cold_start="lease"),
    "lease": m.Lease(
        id=SUBJECT,
        duration_us=86_400_000_000,
        upto=9,
        ledger=m.LedgerHead(
            size=9, root=NONCE, time_us=1_700_000_000_000_002, incarnation=SUBJECT, signature=SIGNATURE
        ),
        consistency=[NONCE, NONCE],
        limits={"measurement": 3_600_000_000},
        signature=SIGNATURE,
    ),
    "follow": m.Follow(channel=f"{TOKEN}/personalization", cursor=0, ticket=b"ticket"),
    "follow_without_ticket": m.Follow(channel="all", cursor=2**62),
    "unfollow": m.Unfollow(channel="all"),
    "drop": m.Drop(channel="segment:gold"),
    "delta": m.Delta(
        channel="all",
        base=120,
        upto=122,
        epoch=9,
        replacing=False,
        more=True,
        rows=[
            m.Row(
                121,
                "item:85123A",
                "item_stats",
                1,
                -1,
                2,
                0,
                False,
                b"\x81\xaapopularity\xcb?\xe0" + bytes(6),
            ),
            m.Row(122, "item:é\x00|x", "item_stats", 1, 3, 4, 0, True, b""),
        ],
    ),
    "delta_personal": m.Delta(
        channel=f"{TOKEN}/personalization",
        base=0,
        upto=5,
        epoch=9,
        replacing=True,
        more=False,
        rows=[m.Row(5, TOKEN, "profile", 1, 3, 4, 9, False, b"\x81\xa7country\xa2DE")],
    ),
    "checkpoint": m.Checkpoint(channel="all", seq=122, digest=SUBJECT, whole=True, signature=SIGNATURE),
    "repair": m.Repair(channel="all", seq=122, digests=SUBJECT * m.RANGES),
    "patch": m.Patch(
        channel="all",
        range=63,
        base=0,
        upto=121,
        epoch=9,
        more=True,
        rows=[m.Row(121, "item:85123A", "item_stats", 1, -1, 2, 0, False, b"\x80")],
    ),
    "fetch": m.Fetch(id=SUBJECT, view="item_vec", version=2, entities=["item:85123A", TOKEN]),
    "fetched": m.Fetched(
        id=SUBJECT,
        epoch=9,
        more=False,
        rows=[m.Row(121, "item:85123A", "item_vec", 2, -1, 2, 0, False, b"\x80")],
    ),
    "decisions": m.Decisions(
        decisions=[
            m.Decision(
                *(SUBJECT, SUBJECT, "personalization", "given", "2026-11", 7, 1_700_000_000_000_000),
                ("gpc",),
                after=NONCE[16:],
            )
        ]
    ),
    "decision_ack": m.DecisionAck(id=SUBJECT, seq=10, outcome="recorded", grant=10),
    "receipt": m.ReceiptNote(receipt=b"\x80", signature=SIGNATURE),
    "receipt_ack": m.ReceiptAck(id=SUBJECT),
    "round_offer": m.RoundOffer(
        round_id=SUBJECT,
        metric="visits_band",
        definition=SUBJECT,
        closes_at_us=1_700_000_600_000_000,
        collector=NONCE,
        signature=SIGNATURE,
    ),
    "ticket_request": m.TicketRequest(round_id=SUBJECT, subjects=[SUBJECT]),
    "tickets": m.Tickets(round_id=SUBJECT, granted=[m.TicketGrant(SUBJECT, SUBJECT)]),
    "report": m.Report(round_id=SUBJECT, sealed=[b"\x01\x02"]),
    "report_ack": m.ReportAck(round_id=SUBJECT, reports=[SUBJECT]),
    "refusal": m.Refusal(code="overloaded", about="all", retry_after_us=5_000_000),
    "refusal_for_time": m.Refusal(
        code="ticket_expired", about="all", server_time_us=1_700_000_000_000_000, signature=SIGNATURE
    ),
}
"""Vector name -> message. Every message type is among them (tested)."""


def written(message: m.Message) -> object:
    """The JSON form of a message in the vectors: bytes as `hex:...`."""
    return _plain(msgspec.to_builtins(message, builtin_types=(bytes,)))


def _plain(value: object) -> object:
    match value:
        case bytes():
            return f"hex:{value.hex()}"
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _:
            return value
