"""`/v1/recipients`: to whom data went on, and what each did about a revocation (GDPR Art. 19)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from aiohttp import web

from edge_runtime.wire.printing import prints_only
from sync_server.api.body import into
from sync_server.api.caller import check_delivery, check_recipient
from sync_server.api.destinations import check_purposes
from sync_server.api.replies import body_of, json_reply, subject_of
from sync_server.api.rooms import AUTHORITY, CLOCK, SETTINGS, STORE
from sync_server.api.route import Route
from sync_server.errors import Problem
from sync_server.events import recipients as room
from sync_server.events.pairwise import pairwise_name
from sync_server.store.recipients import RecipientAnswer, RecipientRow

PATH = "/v1/recipients"
ANSWERS = "/v1/consent-revocations/{id}/recipients"
Text = Annotated[str, msgspec.Meta(max_length=512)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class NewRecipient(msgspec.Struct, forbid_unknown_fields=True):
    """A system to which data goes on, and the webhook or stream by which it is told."""

    name: Name
    delivery: Annotated[str, msgspec.Meta(max_length=128)]
    purposes: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=1000)] | None = None


class Recipient(msgspec.Struct):
    """A recipient as it stands. `purposes` null is all of them."""

    name: str
    delivery: str
    purposes: list[str] | None
    created_at: int


class RecipientList(msgspec.Struct):
    """Every recipient, by name."""

    recipients: list[Recipient]


class RecipientWord(msgspec.Struct, forbid_unknown_fields=True):
    """What a recipient did: erased, held nothing, or why it cannot erase."""

    outcome: Literal["erased", "held_none", "cannot"]
    reason: Text = ""


class RecipientStanding(msgspec.Struct):
    """How it stands with one recipient of a revocation. `outcome` is null until it answered."""

    name: str
    told_at: int | None
    answered_at: int | None
    outcome: str | None
    reason: str
    overdue: bool


class RecipientStandings(msgspec.Struct):
    """The recipients of a revocation, by name."""

    id: str
    recipients: list[RecipientStanding]


@prints_only("delivery")
class SubjectsAsked(msgspec.Struct, forbid_unknown_fields=True):
    """Subjects of whom a receiver wants to know under which names its events speak of them."""

    delivery: Annotated[str, msgspec.Meta(max_length=128)]
    subjects: Annotated[list[str], msgspec.Meta(min_length=1, max_length=10_000)]


class SubjectNames(msgspec.Struct):
    """The `id` of each subject's identifier (RFC 9493 `opaque`), in the order in which they were asked."""

    names: list[str]


async def register(request: web.Request) -> web.Response:
    """Register a recipient; it is asked about every revocation from now on."""
    _, parsed = await body_of(request)
    wanted = into(parsed, NewRecipient)
    row = RecipientRow(
        wanted.name, check_purposes(wanted.purposes), wanted.delivery, request.app[CLOCK].now_us()
    )
    with request.app[STORE].write("recipient") as tx:
        room.register(tx, row, request.app[SETTINGS].recipients)
    return json_reply(_recipient(row), 201)


async def listing(request: web.Request) -> web.Response:
    """Every recipient."""
    with request.app[STORE].read() as tx:
        return json_reply(RecipientList([_recipient(row) for row in tx.recipients.all()]))


async def remove(request: web.Request) -> web.Response:
    """Remove a recipient. Answers that it owes are closed as `removed`, and receipts say so by name."""
    now_us = request.app[CLOCK].now_us()
    with request.app[STORE].write("recipient_removed") as tx:
        room.remove(tx, request.match_info["name"], now_us)
    return web.Response(status=204)


async def answer(request: web.Request) -> web.Response:
    """Take a recipient's word; the same again changes nothing."""
    _, parsed = await body_of(request)
    word = into(parsed, RecipientWord)
    if (word.outcome == "cannot") != bool(word.reason):
        raise Problem("invalid_request", "expected a reason with `cannot`, and only there - at `$.reason`")
    now_us, name = request.app[CLOCK].now_us(), request.match_info["name"]
    check_recipient(name)
    with request.app[STORE].write("recipient_answer") as tx:
        row = tx.revocation(request.match_info["id"])
        if row is None:
            raise Problem("not_found")
        found = room.answer(tx, row.id, name, word.outcome, word.reason, now_us)
        document = _standing(found, row.due_us, now_us)
    return json_reply(document)


async def answers(request: web.Request) -> web.Response:
    """How it stands with each recipient of a revocation."""
    now_us = request.app[CLOCK].now_us()
    with request.app[STORE].read() as tx:
        row = tx.revocation(request.match_info["id"])
        if row is None:
            raise Problem("not_found")
        held = [_standing(a, row.due_us, now_us) for a in tx.recipients.answers(row.id)]
    return json_reply(RecipientStandings(row.id, held))


async def names(request: web.Request) -> web.Response:
    """Compute names; nothing is looked up about the subjects, and nothing kept."""
    _, parsed = await body_of(request)
    asked = into(parsed, SubjectsAsked)
    if len(asked.subjects) > request.app[SETTINGS].event_subjects:
        raise Problem("invalid_request", f"expected at most {request.app[SETTINGS].event_subjects} subjects")
    with request.app[STORE].read() as tx:
        check_delivery(tx, asked.delivery)
        row = tx.destinations.find(asked.delivery)
    if row is None:
        raise Problem("not_found")
    key = request.app[AUTHORITY].tag_key
    made = [pairwise_name(key, row.id, subject_of(request, subject)) for subject in asked.subjects]
    return json_reply(SubjectNames(made))


def _recipient(row: RecipientRow) -> Recipient:
    purposes = None if row.purposes is None else list(row.purposes)
    return Recipient(row.name, row.destination, purposes, row.created_us)


def _standing(row: RecipientAnswer, due_us: int, now_us: int) -> RecipientStanding:
    overdue = row.answered_us is None and due_us <= now_us
    return RecipientStanding(*(row.recipient, row.told_us, row.answered_us, row.outcome, row.reason, overdue))


ROUTES = (
    Route(
        "POST",
        PATH,
        register,
        "Register a system to which data goes on: a revocation completes only with its answer.",
        "events",
        scope="operator",
        body=NewRecipient,
        example={"name": "warehouse", "delivery": "wh-abc", "purposes": ["personalization"]},
        replies={201: "the recipient"},
        returns={201: Recipient},
        problems=("unknown_delivery", "recipient_exists", "too_many_destinations"),
    ),
    Route(
        "GET",
        PATH,
        listing,
        "Every onward recipient.",
        "events",
        scope="operator",
        replies={200: "`recipients`"},
        returns={200: RecipientList},
    ),
    Route(
        "DELETE",
        PATH + "/{name}",
        remove,
        "Remove a recipient. What it still owes is closed as `removed`.",
        "events",
        scope="operator",
        replies={204: "gone"},
        problems=("not_found",),
    ),
    Route(
        "GET",
        ANSWERS,
        answers,
        "How it stands with each onward recipient of a revocation.",
        "consent",
        scope="consent",
        replies={200: "`recipients`, by name"},
        returns={200: RecipientStandings},
        problems=("not_found",),
    ),
    Route(
        "POST",
        ANSWERS + "/{name}",
        answer,
        "A recipient says what it did about a revocation.",
        "consent",
        scope="consent",
        receivers=True,
        body=RecipientWord,
        example={"outcome": "erased"},
        replies={200: "how it stands with the recipient now"},
        returns={200: RecipientStanding},
        problems=("not_found", "already_answered"),
    ),
    Route(
        "POST",
        "/v1/event-subjects",
        names,
        "Under which names a stream's or webhook's events speak of subjects.",
        "events",
        scope="consent",
        receivers=True,
        body=SubjectsAsked,
        example={"delivery": "wh-abc", "subjects": ["alice"]},
        replies={200: "`names`, in the order of `subjects`"},
        returns={200: SubjectNames},
        problems=("not_found", "invalid_id", "no_catalog"),
    ),
)
