"""What is wrong with one device, why, and what to do about it. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sync_server.settings import Settings
from sync_server.store.records import ChannelHead, DeviceRow
from sync_server.sync.presence import Standing

DO: Mapping[str, str] = {
    "channel_forbidden": "give the device a pattern for it at enrolment, or a ticket",
    "ticket_invalid": "let the app's backend issue a ticket for this device, subject and purpose",
    "ticket_expired": "let the app ask its backend for a new ticket",
    "no_permission": "nothing: the subject's consent does not stand",
}
"""What helps against the code with which a channel was refused."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, or may not stay so."""

    code: str
    text: str
    do: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one device. Times in microseconds by the server's clock."""

    device: DeviceRow
    standing: Standing | None
    heads: Mapping[str, ChannelHead]
    """Of the shared channels in `standing`."""
    lane_head: int
    now_us: int
    settings: Settings

    @property
    def connected(self) -> bool:
        """Whether a session lives."""
        return self.standing is not None and self.standing.until_us is None


def findings(facts: Facts) -> list[Finding]:
    """Everything that a person should know, the gravest first; empty when all is well."""
    return [*_of_the_device(facts), *_of_the_session(facts)]


def _of_the_device(facts: Facts) -> Iterator[Finding]:
    device, now_us = facts.device, facts.now_us
    if device.revoked:
        yield Finding("revoked", "the device was shut out", "enrol it anew if that was a mistake")
        return
    if device.contact_us is None:
        yield Finding(
            "never_seen",
            "it enrolled and never opened a session",
            "look at its log: can it reach this server's url, and is the app running?",
        )
        return
    if not facts.connected:
        lease_us = device.lease_until_us - now_us
        if device.lease_until_us and lease_us <= 0:
            yield Finding(
                "locked",
                f"no session, and its lease ended {_ago(-lease_us)}: consented features are locked there",
                "bring it online; it unlocks by itself at its next session",
            )
        elif device.lease_until_us and lease_us < facts.settings.lease_us // 4:
            yield Finding(
                "locks_soon",
                f"no session, and its lease ends in {_span(lease_us)}",
                "bring it online before that, or its consented features lock",
            )
        else:
            yield Finding("offline", f"no session; last contact {_ago(now_us - device.contact_us)}", "wait")
    if device.lane_acked < facts.lane_head:
        yield Finding(
            "lane_behind",
            f"{facts.lane_head - device.lane_acked} decisions were not acknowledged",
            "it gets no lease until it has; seconds are normal, more means that its disk or app is stuck"
            if facts.connected
            else "revocations wait for it until its lease ends, or it comes back",
        )


def _of_the_session(facts: Facts) -> Iterator[Finding]:
    standing = facts.standing
    if standing is None:
        return
    if facts.connected and standing.stage == "guest":
        yield Finding(
            "no_rows",
            "this node is full: the session carries decisions, lease and receipts, no rows",
            "add a node, or raise `sessions` and the admission rates",
        )
    for channel, times in sorted(standing.mismatched.items()):
        yield Finding(
            "digest_differs",
            f"{_named(channel)}: its digest differed {times} times in this session",
            "it repairs itself; when this goes on, its copy is damaged: drop the channel there",
        )
    for channel, code in sorted(standing.refused.items()):
        yield Finding("channel_refused", f"{_named(channel)}: {code}", DO.get(code, "see the code"))
    for channel, how in sorted(standing.snapshots.items()) if facts.connected else ():
        if how == "waiting":
            yield Finding(
                "snapshot_waits",
                f"{_named(channel)}: its snapshot waits for a slot",
                "wait; `snapshots` is the number that flow at once",
            )
    if facts.connected:
        yield from _behind(facts, standing)


def _behind(facts: Facts, standing: Standing) -> Iterator[Finding]:
    for channel, cursor in sorted(standing.cursors.items()):
        head = facts.heads.get(channel)
        if head is not None and cursor < head.seq and channel not in standing.snapshots:
            yield Finding(
                "channel_behind",
                f"{channel}: {head.seq - cursor} changes behind",
                "moments are normal; more means a slow link, or a reader that stalls",
            )


def _named(channel: str) -> str:
    """A personal channel is not named: it stands for a person."""
    return "a personal channel" if channel.startswith("~") else channel


def _ago(us: int) -> str:
    return f"{_span(us)} ago"


def _span(us: int) -> str:
    """A duration in its largest unit.

    >>> _span(90_000_000), _span(5_000_000)
    ('1 min', '5 s')
    """
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if us >= size * 1_000_000:
            return f"{us // (size * 1_000_000)} {unit}"
    return f"{max(us, 0) // 1_000_000} s"
