"""`/v1/tokens`: API tokens are made, listed, rotated and revoked. A secret is told once and kept nowhere."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from edge_runtime.wire.printing import prints_only
from sync_server.access import tokens
from sync_server.access.audit import about, present_caller
from sync_server.access.tokens import NewSecret, new_id, new_secret
from sync_server.api.body import into
from sync_server.api.replies import body_of, json_reply
from sync_server.api.rooms import ACCESS, CLOCK, ENTROPY, SETTINGS, STORE
from sync_server.api.route import Link, Query, Route, Scope, Told
from sync_server.errors import Problem
from sync_server.store.access import ApiToken
from sync_server.store.protocol import ReadTx, WriteTx

PATH = "/v1/tokens"
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Team = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Destination = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=10 * 366 * 86_400)]


class CreateToken(msgspec.Struct, forbid_unknown_fields=True):
    """Whom the token is for and what for. It may be no more than the token that makes it."""

    name: Name
    """For people: which job, machine or person bears it."""
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1, max_length=5)]
    teams: Annotated[list[Team], msgspec.Meta(min_length=1, max_length=100)] | None = None
    """Owners of the views that it may publish to and read; left out: any view."""
    destinations: Annotated[list[Destination], msgspec.Meta(min_length=1, max_length=100)] | None = None
    """Recipients by name, streams and webhooks by id: a receiver's token, of the scope consent alone. It may
    poll their events, answer for the recipients and ask under which names events speak; left out: unbound."""
    ttl_s: Seconds | None = None
    """Seconds that it lives; left out: until it is revoked."""
    per_s: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    """Requests a second; left out: the server's setting."""
    burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    """Requests at once; left out: the server's setting."""


class RotateToken(msgspec.Struct, forbid_unknown_fields=True):
    """How long the secrets of before stay good; 0: they end now."""

    grace_s: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Seconds; left out: the server's setting."""


@prints_only("id", "name")
class ToldToken(msgspec.Struct):
    """An API token. Null: never, or as the server's settings say."""

    id: str
    name: str
    scopes: list[str]
    teams: list[str] | None
    destinations: list[str] | None
    per_s: int | None
    burst: int | None
    created_at: int
    created_by: str
    """Who made it, as the audit log names them."""
    expires_at: int | None
    revoked_at: int | None
    used_at: int | None
    """Its last use, some time behind."""
    secrets: int
    """How many are good: one, and for a while those before it."""


@prints_only("id", "earlier_until")
class MadeApiToken(msgspec.Struct):
    """The secret of a token, told this once."""

    id: str
    token: str
    """What goes into `Authorization: Bearer`."""
    earlier_until: int | None = None
    """Until when the secrets of before are good; null: there are none."""


class TokenList(msgspec.Struct):
    """A page of API tokens, by id."""

    tokens: list[ToldToken]
    after: str | None
    """For the next page; null: this is the last."""


async def create(request: web.Request) -> web.Response:
    """Make a token. Its secret is in this reply and nowhere else."""
    _, parsed = await body_of(request)
    wanted, now_us = into(parsed, CreateToken), request.app[CLOCK].now_us()
    _check_own(wanted.scopes, wanted.teams)
    secret = new_secret(new_id(request.app[ENTROPY]), request.app[ENTROPY])
    made = ApiToken(
        id=secret.id,
        name=wanted.name,
        scopes=tuple(dict.fromkeys(wanted.scopes)),
        teams=None if wanted.teams is None else tuple(dict.fromkeys(wanted.teams)),
        destinations=None if wanted.destinations is None else tuple(dict.fromkeys(wanted.destinations)),
        per_s=wanted.per_s,
        burst=wanted.burst,
        created_us=now_us,
        created_by=present_caller().actor,
        expires_us=None if wanted.ttl_s is None else now_us + wanted.ttl_s * 1_000_000,
        revoked_us=None,
        used_us=None,
    )
    limit = request.app[SETTINGS].api_tokens
    with request.app[STORE].write("token") as tx:
        _check_destinations(tx, made)
        if tx.access.count_tokens() >= limit:
            raise Problem("too_many_tokens", f"expected at most {limit}")
        about(made.id)
        tokens.create(tx, made, secret)
    request.app[ACCESS].book.refresh()
    reply = MadeApiToken(made.id, secret.text)
    return json_reply(reply, 201, {"Location": f"{PATH}/{made.id}", "Cache-Control": "no-store"})


async def listing(request: web.Request) -> web.Response:
    """A page of tokens."""
    limit = request.app[SETTINGS].page_rows
    with request.app[STORE].read() as tx:
        page = tx.access.tokens(request.query.get("after", ""), limit)
        told = [_told(tx, token, request.app[CLOCK].now_us()) for token in page]
    return json_reply(TokenList(told, page[-1].id if len(page) == limit else None))


async def one(request: web.Request) -> web.Response:
    """One token."""
    with request.app[STORE].read() as tx:
        return json_reply(_told(tx, _found(tx, request), request.app[CLOCK].now_us()))


async def rotate(request: web.Request) -> web.Response:
    """Give a token another secret. Those before it stay good for a while, so that nobody is locked out."""
    raw, parsed = await body_of(request) if request.can_read_body else (b"", {})
    wanted, settings = into(parsed if raw else {}, RotateToken), request.app[SETTINGS]
    grace_us = settings.token_grace_us if wanted.grace_s is None else wanted.grace_s * 1_000_000
    if grace_us > settings.token_grace_longest_us:
        raise Problem(
            "invalid_request", f"expected grace_s of at most {settings.token_grace_longest_us // 10**6}"
        )
    now_us = request.app[CLOCK].now_us()
    with request.app[STORE].write("token") as tx:
        token = _found(tx, request)
        _check_own(token.scopes, token.teams)
        if token.revoked_us is not None or (token.expires_us is not None and token.expires_us <= now_us):
            raise Problem("token_ended", "expected one that is still good; make another")
        secret: NewSecret = new_secret(token.id, request.app[ENTROPY])
        tokens.rotate(tx, secret, now_us, grace_us)
    request.app[ACCESS].book.refresh()
    reply = MadeApiToken(token.id, secret.text, now_us + grace_us)
    return json_reply(reply, headers={"Cache-Control": "no-store"})


async def revoke(request: web.Request) -> web.Response:
    """End a token, at once and for good."""
    now_us = request.app[CLOCK].now_us()
    with request.app[STORE].write("token") as tx:
        if _found(tx, request).revoked_us is None:
            tokens.revoke(tx, request.match_info["id"], now_us)
        told = _told(tx, _found(tx, request), now_us)
    request.app[ACCESS].book.refresh()
    return json_reply(told)


def _check_own(scopes: list[Scope] | tuple[str, ...], teams: list[str] | tuple[str, ...] | None) -> None:
    """Who learns a secret must have all that it opens."""
    if not present_caller().may_give(frozenset(scopes), None if teams is None else frozenset(teams)):
        raise Problem("beyond_own", "expected scopes and teams that your own token has")


def _check_destinations(tx: WriteTx, token: ApiToken) -> None:
    """A receiver's token has no other work, and what it is bound to is there."""
    if token.destinations is None:
        return
    if token.scopes != ("consent",):
        raise Problem("invalid_request", "expected the scope consent alone with destinations - at `$.scopes`")
    for n, name in enumerate(token.destinations):
        if tx.recipients.find(name) is None and tx.destinations.find(name) is None:
            place = f"- at `$.destinations[{n}]`"
            raise Problem(
                "unknown_delivery", f"expected a recipient's name, or the id of a stream or webhook {place}"
            )


def _found(tx: ReadTx, request: web.Request) -> ApiToken:
    token = tx.access.token(request.match_info["id"])
    if token is None:
        raise Problem("not_found", "there is no such token")
    return token


def _told(tx: ReadTx, token: ApiToken, now_us: int) -> ToldToken:
    secrets = tx.access.secrets(token.id)
    return ToldToken(
        id=token.id,
        name=token.name,
        scopes=list(token.scopes),
        teams=None if token.teams is None else list(token.teams),
        destinations=None if token.destinations is None else list(token.destinations),
        per_s=token.per_s,
        burst=token.burst,
        created_at=token.created_us,
        created_by=token.created_by,
        expires_at=token.expires_us,
        revoked_at=token.revoked_us,
        used_at=token.used_us,
        secrets=sum(one.until_us is None or now_us < one.until_us for one in secrets),
    )


_ONCE = Told("Cache-Control", "`no-store`: the reply holds a secret.")
_MADE = (Told("Location", "The token, without its secret."), _ONCE)
_PLACES = {"id": Annotated[str, msgspec.Meta(pattern="^tok-[a-z2-7]{16}$")]}

ROUTES = (
    Route(
        "POST",
        PATH,
        create,
        "Make an API token. It may be no more than the token that makes it.",
        "access",
        scope="operator",
        body=CreateToken,
        example={"name": "warehouse", "scopes": ["publish"], "ttl_s": 86_400},
        replies={201: "the token, told this once"},
        returns={201: MadeApiToken},
        tells={201: _MADE},
        links={201: (Link("GET", PATH + "/{id}", "id", "$response.body#/id"),)},
        problems=("beyond_own", "too_many_tokens", "unknown_delivery"),
    ),
    Route(
        "GET",
        PATH,
        listing,
        "API tokens, those too that ended of late. No secrets.",
        "access",
        scope="operator",
        query=(Query("after", "the last id of the page before"),),
        replies={200: "a page of tokens"},
        returns={200: TokenList},
    ),
    Route(
        "GET",
        PATH + "/{id}",
        one,
        "One API token. No secret.",
        "access",
        scope="operator",
        places=_PLACES,
        replies={200: "the token"},
        returns={200: ToldToken},
        problems=("not_found",),
    ),
    Route(
        "POST",
        PATH + "/{id}/rotate",
        rotate,
        "Give an API token another secret; those before it stay good for a while.",
        "access",
        scope="operator",
        places=_PLACES,
        body=RotateToken,
        example={"grace_s": 3600},
        body_needed=False,
        replies={200: "the new secret, told this once"},
        returns={200: MadeApiToken},
        tells={200: (_ONCE,)},
        problems=("not_found", "token_ended", "beyond_own"),
    ),
    Route(
        "DELETE",
        PATH + "/{id}",
        revoke,
        "End an API token, at once and for good.",
        "access",
        scope="operator",
        places=_PLACES,
        replies={200: "the token as it stands now"},
        returns={200: ToldToken},
        problems=("not_found",),
    ),
)
