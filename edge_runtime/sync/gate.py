"""May this enter? Decisions about what the server sent, each with its reason; nothing is fetched or stored.

One table: `entry` says whether a message may come in a state of the conversation (which is the conversation's
own table) and what is then asked of it (`CHECKS`); the checks themselves stand below. Nothing is refused with
a code that is not in the table. What is refused raises `WireFailure` and leaves everything as it was.

A row that may not be kept is not an error: it becomes a stub (its hash without its values), so that the
channel's digest still adds up (`ROWS`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NoReturn

from edge_runtime.catalog.declared import in_range, listed
from edge_runtime.catalog.dtype import fits
from edge_runtime.catalog.model import CatalogModel, FieldFeature, View
from edge_runtime.wire import codec, digest, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import TABLE, Side, State
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.printing import prints_only

# ---- the table ---------------------------------------------------------------------------------------


class Ends(StrEnum):
    """What a refusal ends."""

    SESSION = "the session"
    CHANNEL = "the channel"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is asked of a message, and what it means when the answer is no."""

    code: str
    why: str
    """When it is refused so."""
    fault: str
    """`server`, `device`, `nobody`; whoever stands between is blamed as the server."""
    again: str
    """When what was refused may come again."""
    ends: Ends


_NEXT = "in the next session, after the backoff"
_SIGNATURE = "another key signed it, or somebody changed it on the way"
_LANE = Check("lane_behind", "its epoch is beyond our lane", "server", _NEXT, Ends.SESSION)
_ORDER = Check("malformed", "rows out of order or beyond its end", "server", _NEXT, Ends.SESSION)
_PERMISSION = Check(
    *("no_permission", "no key or live permission, or a row that may never stand in this channel", "nobody"),
    *("when a channel of that name opens again", Ends.CHANNEL),
)


def _signed(why: str = _SIGNATURE) -> Check:
    return Check("bad_signature", why, "server", _NEXT, Ends.SESSION)


CHECKS: Final[Mapping[type[m.Message], tuple[Check, ...]]] = {
    m.Challenge: (
        Check(
            *("unsupported_version", "no version of the protocol is spoken by both", "nobody"),
            *("when one of the two was updated: after `unsupported_us`", Ends.SESSION),
        ),
    ),
    m.Welcome: (
        Check("bad_nonce", "it answers another Hello", "server", _NEXT, Ends.SESSION),
        _signed("no chain of keys leads from ours to the one that signed, or somebody changed it on the way"),
        Check("rolled_back", "its lane is shorter than ours", "server", _NEXT, Ends.SESSION),
    ),
    m.Revoked: (_signed(),),
    m.KeyChanged: (Check("malformed", "it names a key that we did not", "server", _NEXT, Ends.SESSION),),
    m.Lane: (
        Check("stale_delta", "it does not go on where the frame before ended", "server", _NEXT, Ends.SESSION),
        Check("malformed", "entries out of order or beyond its end", "server", _NEXT, Ends.SESSION),
    ),
    m.Lease: (
        Check("bad_nonce", "it answers none of our requests", "server", _NEXT, Ends.SESSION),
        _signed(),
        Check("lane_behind", "it stands for less of the lane than we had", "server", _NEXT, Ends.SESSION),
    ),
    m.Delta: (
        _PERMISSION,
        _LANE,
        Check(
            *("stale_delta", "it does not begin at our cursor", "server"),
            *("at once, from our cursor; at the ninth time in the next session", Ends.NOTHING),
        ),
        _ORDER,
        Check("malformed", "its channel's name is none", "server", _NEXT, Ends.SESSION),
    ),
    m.Patch: (
        _PERMISSION,
        _LANE,
        Check("stale_delta", "it does not go on where the patch before ended", "server", _NEXT, Ends.SESSION),
        Check("malformed", "rows out of order, or of another sub-range", "server", _NEXT, Ends.SESSION),
    ),
    m.Fetched: (
        Check(
            *("out_of_turn", "it answers nothing that we asked for", "server"),
            *("never; the ninth ends the session", Ends.NOTHING),
        ),
        Check(
            *("no_permission", "no live permission any more, or a row that may never stand here", "nobody"),
            *("when its rows are asked for again", Ends.NOTHING),
        ),
        _LANE,
        Check("malformed", "a row that was not asked for, or twice the same", "server", _NEXT, Ends.SESSION),
    ),
    m.Checkpoint: (
        _signed(),
        Check(
            *("digest_mismatch", "the channel still differs after as many repairs as an hour has", "nobody"),
            *("after an hour", Ends.CHANNEL),
        ),
    ),
    m.Refusal: (_signed("its time is signed by another key, or for another session"),),
}
"""Message -> what is asked of it, in order. Of a message that is not here nothing is asked but its turn."""

ROWS: Final[Mapping[str, str]] = {
    "another grant": "stub: a personal row of another grant than the live one",
    "unknown view": "stub: the catalog has no such view from a server",
    "does not fit": "kept without the features that the catalog does not know, or whose dtype, range or "
    "allowed values it breaks; of those reads say NULL, or their default",
    "deleted": "deleted here too",
}
"""Reason -> what becomes of a row that is not simply kept."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Whether a message may come now."""

    after: State | None
    """The state after it; None: refused."""
    code: str
    reason: str
    checks: tuple[Check, ...]
    """What is still asked of it."""


def entry(state: State, kind: type[m.Message]) -> Entry:
    """What a message of the server means in `state`.

    >>> entry(State.GREETED, m.Delta).code
    'out_of_turn'
    """
    after = TABLE.get((Side.SERVER, state, kind))
    if after is None:
        return Entry(None, "out_of_turn", f"the server may not say {kind.__name__} while {state}", ())
    return Entry(after, "", "", CHECKS.get(kind, ()))


def _refuse(kind: type[m.Message], code: str, reason: str) -> NoReturn:
    """Refuse as the table says; a code that is not in it is a programmer's mistake."""
    assert any(check.code == code for check in CHECKS[kind]), (kind, code)
    raise WireFailure(code, reason)


# ---- channels and their names ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plain:
    """A channel of rows about nobody: `all`, `segment:<name>`."""

    name: str


@dataclass(frozen=True, slots=True)
class Personal:
    """The channel of one subject and purpose."""

    name: str
    subject: bytes
    """16-byte pseudonym."""
    purpose: str

    @property
    def token(self) -> str:
        """The subject as it stands in rows."""
        return self.name.partition("/")[0]


Channel = Plain | Personal


def channel_of(name: str) -> Channel:
    """What kind of channel `name` is; `WireFailure("malformed")` for a personal name that is not one."""
    if not name.startswith("~"):
        return Plain(name)
    token, slash, purpose = name.partition("/")
    if not slash or not purpose:
        raise WireFailure("malformed", "expected <token>/<purpose>")
    return Personal(name, seal.token_subject(token), purpose)


# ---- opening -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """What a verified Welcome says about the two memories that meet."""

    rolled_back: bool
    """The server has seen a higher root counter: this device was restored from an older image."""
    restored: bool
    """The server speaks from another incarnation than last time: cursors start over."""
    server_key: bytes
    """The key that signed: the pinned one, or its successor."""


def version(speaks: Collection[int], spoken: Collection[int]) -> int:
    """The newest version of the protocol that both speak; raises `WireFailure("unsupported_version")`.

    >>> version([1, 2, 3], (1, 2))
    2
    """
    both = set(speaks) & set(spoken)
    if not both:
        who = "app" if max(speaks) > max(spoken) else "server"
        _refuse(
            m.Challenge, "unsupported_version", f"no version is spoken by both: the {who} must be updated"
        )
    return max(both)


def successor(pinned: bytes, succession: Sequence[m.Succession]) -> bytes:
    """The last key of a chain from `pinned` on; raises `WireFailure("bad_signature")` at a bad link."""
    key = pinned
    for link in succession:
        seal.verify(key, seal.SUCCESSION, seal.succession_bytes(key, link.public_key), link.signature)
        key = link.public_key
    return key


def check_welcome(
    welcome: m.Welcome, challenge: m.Challenge, hello: m.Hello, server_key: bytes, incarnation: bytes | None
) -> Standing:
    """Judge a Welcome to our `hello`, or raise `WireFailure`.

    Args:
        server_key: the Ed25519 key pinned at enrolment.
        incarnation: the one remembered from the last session; None before the first.

    Raises `bad_nonce` for the answer to another Hello (yesterday's), `bad_signature` for another key, and
    `rolled_back` when the server's lane is shorter than ours: a restored server never lowers the epoch.
    """
    if welcome.nonce != hello.nonce:
        _refuse(m.Welcome, "bad_nonce", "expected the answer to this session's nonce")
    key = successor(server_key, welcome.succession)
    seal.verify(key, seal.WELCOME, seal.welcome_bytes(hello.device_id, challenge, welcome), welcome.signature)
    if welcome.lane_head < hello.lane:
        _refuse(
            m.Welcome, "rolled_back", f"expected a lane of at least {hello.lane}, got {welcome.lane_head}"
        )
    return Standing(
        rolled_back=welcome.counter > hello.counter,
        restored=incarnation is not None and incarnation != challenge.incarnation,
        server_key=key,
    )


def check_revoked(revoked: m.Revoked, hello: m.Hello, server_key: bytes) -> None:
    """Raise `WireFailure("bad_signature")` unless the server itself ends this device, in this session."""
    body = seal.revoked_bytes(hello.device_id, hello.nonce)
    seal.verify(server_key, seal.REVOKED, body, revoked.signature)


def server_time(refusal: m.Refusal, hello: m.Hello, server_key: bytes) -> int | None:
    """The server's clock in a refusal for time; None when it is not signed, and so is not believed.

    Raises `WireFailure("bad_signature")` for a signature that is another's.
    """
    if not refusal.signature:
        return None
    body = seal.refusal_bytes(hello.device_id, hello.nonce, refusal)
    seal.verify(server_key, seal.REFUSAL, body, refusal.signature)
    return refusal.server_time_us


def check_lane(lane: m.Lane, at: int) -> None:
    """Raise `WireFailure` unless `lane` goes on, in order, where the frame before ended.

    Args:
        at: where that was; this device's position when no drain is under way.

    Raises `stale_delta` when a frame is missing or came again, `malformed` for any other disorder.
    """
    if lane.base != at:
        _refuse(m.Lane, "stale_delta", f"expected the lane after {at}, got {lane.base}; nothing changed")
    last = at
    for entry in lane.entries:
        if entry.seq <= last:
            _refuse(m.Lane, "malformed", f"expected a lane entry after {last}, got {entry.seq}")
        last = entry.seq
    if lane.upto < last or (lane.more and not at < lane.upto == last):
        _refuse(m.Lane, "malformed", f"expected a lane up to {last} or later, got {lane.upto}")


# ---- channels ----------------------------------------------------------------------------------------


def check_delta(delta: m.Delta, cursor: int, lane: int) -> None:
    """Raise `WireFailure` unless `delta` may be applied at `cursor` by a device whose lane stands at `lane`.

    A replacing delta starts at 0 whatever the cursor is; any other starts exactly at the cursor.
    """
    if delta.epoch > lane:
        _refuse(m.Delta, "lane_behind", f"expected an epoch of at most {lane}, got {delta.epoch}")
    expected = 0 if delta.replacing else cursor
    if delta.base != expected:
        _refuse(m.Delta, "stale_delta", f"expected cursor {expected}, got {delta.base}; nothing changed")
    last = delta.base
    for row in delta.rows:
        if not last < row.seq <= delta.upto:
            _refuse(m.Delta, "malformed", f"expected a row in {last + 1}..{delta.upto}, got {row.seq}")
        last = row.seq
    if delta.upto < delta.base:
        _refuse(m.Delta, "malformed", f"expected an end at {delta.base} or later, got {delta.upto}")


def check_patch(patch: m.Patch, base: int, lane: int, digest_key: bytes) -> None:
    """Raise `WireFailure` unless `patch` goes on at `base` with rows of its sub-range, in order.

    Args:
        base: how far patches of this sub-range came; 0 before the first.
        lane: where this device's lane stands.
    """
    if patch.epoch > lane:
        _refuse(m.Patch, "lane_behind", f"expected an epoch of at most {lane}, got {patch.epoch}")
    if patch.base != base:
        _refuse(m.Patch, "stale_delta", f"expected a patch from {base}, got {patch.base}; nothing changed")
    last = base
    for row in patch.rows:
        if not last < row.seq <= patch.upto:
            _refuse(m.Patch, "malformed", f"expected a row in {last + 1}..{patch.upto}, got {row.seq}")
        if digest.range_of(digest_key, row.entity, row.view, row.version) != patch.range:
            _refuse(m.Patch, "malformed", f"a row of another sub-range than {patch.range}")
        last = row.seq
    if patch.more and patch.upto <= base:
        _refuse(m.Patch, "malformed", f"expected an end after {base}, got {patch.upto}")


def check_fetched(fetched: m.Fetched, view: View, waited: Collection[str], lane: int) -> None:
    """Raise `WireFailure` unless `fetched` may be taken by a device whose lane stands at `lane`.

    Args:
        view: the view that was asked for.
        waited: entities asked for that no answer named yet.
    """
    if fetched.epoch > lane:
        _refuse(m.Fetched, "lane_behind", f"expected an epoch of at most {lane}, got {fetched.epoch}")
    named = [row.entity for row in fetched.rows]
    asked = all((row.view, row.version) == (view.name, view.version) for row in fetched.rows)
    if not asked or len(set(named)) < len(named) or not set(named).issubset(waited):
        _refuse(m.Fetched, "malformed", "expected each row that was asked for at most once, and no other")


class Action(StrEnum):
    """What becomes of one row."""

    KEEP = "keep"
    STUB = "stub"
    """Remember its hash for the digest, nothing of what it says."""
    DELETE = "delete"


@prints_only("action", "reason")
@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one row, and why. `values` is what to keep: only features that fit the catalog."""

    action: Action
    values: bytes
    reason: str


def judge(row: m.Row, channel: Channel, catalog: CatalogModel, grant: int) -> Verdict:
    """Decide about one row of `channel`, whose permission was asked before.

    Args:
        grant: ledger seq of the live grant of a personal channel's key; 0 for a shared channel, or for a key
            that the ledger has not numbered yet.

    Raises `WireFailure("no_permission")` for a row that must never stand in this channel: personal data in a
    shared one, another subject's, or another purpose's. The whole delta is then refused.
    """
    view = catalog.views.get(f"{row.view}@{row.version}")
    if isinstance(channel, Personal):
        _check_personal(row, channel, view)
        if grant == 0 or row.grant != grant:  # law 2: what an older grant let in stays out
            return Verdict(Action.STUB, b"", "another grant")
    else:
        _check_plain(row, catalog, view)
    if row.deleted:
        return Verdict(Action.DELETE, b"", "deleted")
    if view is None or view.source != "server":
        return Verdict(Action.STUB, b"", "unknown view")
    values, dropped = kept_values(view, row.values)
    return Verdict(Action.KEEP, values, "does not fit" if dropped else "")


def _check_personal(row: m.Row, channel: Personal, view: View | None) -> None:
    if channel.token not in row.entity.split("|"):
        _refuse(m.Delta, "no_permission", "a row of another subject in a personal channel")
    if view is not None and view.purpose != channel.purpose:
        _refuse(m.Delta, "no_permission", "a row of another purpose in a personal channel")


def _check_plain(row: m.Row, catalog: CatalogModel, view: View | None) -> None:
    kind = row.entity.partition(":")[0]
    types = (kind,) if view is None else (kind, *view.entity)
    personal = any(t in catalog.entities and catalog.entities[t].personal for t in types)
    if row.entity.startswith("~") or row.grant != 0 or personal:
        _refuse(m.Delta, "no_permission", "a personal row in a shared channel")


def kept_values(view: View, raw: bytes) -> tuple[bytes, int]:
    """The part of a row's values that fits `view`, and how many features were dropped.

    A feature fits by its dtype, its range and its allowed values, as it does at the server's door: a row of
    another catalog may break any of them.

    >>> from edge_runtime.catalog.model import DType
    >>> features = {"age": FieldFeature("age", DType("int64"))}
    >>> view = View("p", 1, ("item",), "server", None, 0, "me", "hot", 0, 0, features)
    >>> kept_values(view, codec.pack({"age": "seven"}))
    (b'\\x80', 1)
    """
    try:
        values = codec.unpack(raw, codec.FRAME_LIMIT_BYTES)
    except WireFailure:
        return codec.pack({}), 1
    if not isinstance(values, dict):
        return codec.pack({}), 1
    kept = {name: value for name, value in values.items() if _value_fits(view, name, value)}
    dropped = len(values) - len(kept)
    return (raw if dropped == 0 else codec.pack(kept)), dropped


def _value_fits(view: View, name: str, value: object) -> bool:
    feature = view.features.get(name)
    if not isinstance(feature, FieldFeature):
        return False
    return value is None or (
        fits(feature.dtype, value) and listed(feature, value) and in_range(feature, value)
    )


# ---- checkpoints -------------------------------------------------------------------------------------


class Match(StrEnum):
    """How a checkpoint compares with what is held here."""

    EQUAL = "equal"
    ELSEWHERE = "elsewhere"
    """It speaks of another seq than our cursor: it says nothing about us."""
    DIFFERENT = "different"


def check_checkpoint(checkpoint: m.Checkpoint, server_key: bytes, cursor: int, total: int) -> Match:
    """Compare a signed checkpoint with our digest at `cursor`; raises `WireFailure("bad_signature")`."""
    body = seal.checkpoint_bytes(checkpoint)
    seal.verify(server_key, seal.CHECKPOINT, body, checkpoint.signature)
    if checkpoint.seq != cursor:
        return Match.ELSEWHERE
    same = checkpoint.digest == digest.to_bytes(total)
    return Match.EQUAL if same else Match.DIFFERENT


def may_repair(repairs_us: Mapping[str, list[int]], channel: str, now_us: int, per_hour: int) -> bool:
    """Whether `channel` may be repaired once more: fewer than `per_hour` repairs in the last hour."""
    recent = [at for at in repairs_us.get(channel, ()) if now_us - at < 3_600_000_000]
    return len(recent) < per_hour
