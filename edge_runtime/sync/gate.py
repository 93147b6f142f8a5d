"""May this enter? Decisions about what the server sent, each with its reason; nothing is fetched or stored.

One table: `entry` says whether a message may come in a state of the conversation (which is the conversation's
own table) and what is then asked of it (`CHECKS`); the checks themselves stand below. Nothing is refused with
a code that is not in the table. What is refused raises `WireFailure` and leaves everything as it was.

What becomes of each row that a frame brings is judged in `row_gate`, whose words are at hand here too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NoReturn

from edge_runtime.catalog.model import View
from edge_runtime.sync.channel_name import Channel as Channel
from edge_runtime.sync.channel_name import Personal as Personal
from edge_runtime.sync.channel_name import Plain as Plain
from edge_runtime.sync.channel_name import channel_of as channel_of
from edge_runtime.sync.row_gate import ROWS as ROWS
from edge_runtime.sync.row_gate import Action as Action
from edge_runtime.sync.row_gate import Verdict as Verdict
from edge_runtime.sync.row_gate import judge as judge
from edge_runtime.sync.row_gate import kept_values as kept_values
from edge_runtime.wire import digest, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import TABLE, Side, State
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.restores import kept_by_both, latest_us

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
        Check(
            *("older_incarnation", "we met a server that was restored later", "server"),
            *("when it is that one again", Ends.SESSION),
        ),
        Check("rolled_back", "its lane is shorter than ours", "server", _NEXT, Ends.SESSION),
    ),
    m.Revoked: (_signed(),),
    m.KeyChanged: (Check("malformed", "it names a key that we did not", "server", _NEXT, Ends.SESSION),),
    m.Lane: (
        Check("stale_delta", "it does not go on where the frame before ended", "server", _NEXT, Ends.SESSION),
        Check("malformed", "entries out of order or beyond its end", "server", _NEXT, Ends.SESSION),
    ),
    m.Recall: (
        Check(
            *(
                "malformed",
                "it asks from where our ledgers do not part, or before its Welcome said so",
                "server",
            ),
            *(_NEXT, Ends.SESSION),
        ),
    ),
    m.Restated: (
        Check(
            *("malformed", "it answers nothing, or names what was not asked or is not kept", "server"),
            *(_NEXT, Ends.SESSION),
        ),
    ),
    m.Lease: (
        Check("bad_nonce", "it answers none of our requests", "server", _NEXT, Ends.SESSION),
        _signed(),
        Check("lane_behind", "it stands for less of the lane than we had", "server", _NEXT, Ends.SESSION),
        Check(
            *("ledger_shorter", "its ledger ends before the head kept here, or before the lane", "server"),
            *("with the next lease", Ends.NOTHING),
        ),
        Check(
            *("ledger_forked", "its ledger does not go on from the head kept here", "server"),
            *("with the next lease", Ends.NOTHING),
        ),
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


# ---- opening -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """What a verified Welcome says about the two memories that meet."""

    rolled_back: bool
    """The server has seen a higher root counter: this device was restored from an older image."""
    restored: bool
    """The server speaks from another incarnation than last time: cursors start over."""
    kept: int | None
    """How many ledger steps both incarnations have; None when it is the same one, or the first we meet."""
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
    welcome: m.Welcome,
    challenge: m.Challenge,
    hello: m.Hello,
    server_key: bytes,
    incarnation: bytes | None,
    restores: Sequence[m.Restore] = (),
) -> Standing:
    """Judge a Welcome to our `hello`, or raise `WireFailure`.

    Args:
        server_key: the Ed25519 key pinned at enrolment.
        incarnation: the one remembered from the last session; None before the first.
        restores: those that led to it, as that session told them.

    Raises `bad_nonce` for the answer to another Hello (yesterday's), `bad_signature` for another key,
    `older_incarnation` for a server that is over since another one was restored, and `rolled_back` when the
    server's lane is shorter than ours: a restored server never lowers the epoch.
    """
    if welcome.nonce != hello.nonce:
        _refuse(m.Welcome, "bad_nonce", "expected the answer to this session's nonce")
    key = successor(server_key, welcome.succession)
    seal.verify(key, seal.WELCOME, seal.welcome_bytes(hello.device_id, challenge, welcome), welcome.signature)
    restored = incarnation is not None and incarnation != challenge.incarnation
    if restored and 0 < latest_us(restores) >= latest_us(welcome.restores):
        _refuse(m.Welcome, "older_incarnation", "expected the server that was restored last")
    if welcome.lane_head < hello.lane:
        _refuse(
            m.Welcome, "rolled_back", f"expected a lane of at least {hello.lane}, got {welcome.lane_head}"
        )
    return Standing(
        rolled_back=welcome.counter > hello.counter,
        restored=restored,
        kept=(kept_by_both(restores, welcome.restores) or 0) if restored else None,
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


def check_recall(recall: m.Recall, welcome: m.Welcome) -> None:
    """Raise `WireFailure("malformed")` unless the server lost what it asks for, as its Welcome says."""
    kept = welcome.restores[-1].kept if welcome.restores else -1
    if recall.kept != kept or recall.since > recall.kept:
        _refuse(m.Recall, "malformed", f"expected a recall of what came after {kept}")


def check_restated(restated: m.Restated, asked: Collection[tuple[bytes, str]], kept: int) -> None:
    """Raise `WireFailure("malformed")` unless it speaks of pairs that we named, once each, as they were kept.

    Args:
        asked: (pseudonym, purpose) of the pairs that our Recalled named.
        kept: how many steps of the ledger the restored server has from before.
    """
    named = [(entry.subject, entry.purpose) for entry in restated.entries]
    if len(set(named)) != len(named) or not set(named) <= set(asked):
        _refuse(m.Restated, "malformed", "expected pairs that were recalled, each once")
    if any(max(entry.seq, entry.denial, entry.grant) > kept for entry in restated.entries):
        _refuse(m.Restated, "malformed", f"expected what was decided up to {kept}")


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
    """Whether `channel` may be repaired once more: fewer than `per_hour` repairs in the last hour.

    Times ahead of now are of a boot clock that went back since, and tell nothing.
    """
    recent = [at for at in repairs_us.get(channel, ()) if 0 <= now_us - at < 3_600_000_000]
    return len(recent) < per_hour
