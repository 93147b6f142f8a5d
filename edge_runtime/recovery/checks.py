"""What a doctor says to what was found: one function a check, from plain facts to state and advice. Pure.

A *fault* keeps the cache from opening, or from telling the truth; a *warning* is worth knowing, and the cache
works; all else is *ok*. Nothing personal, and no id, is in any text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.signed import check
from edge_runtime.errors import CatalogError

State = Literal["ok", "warn", "fault"]

REPAIR: Final = (
    "run `edge-runtime doctor --repair`, or open with recover='rebuild': the file is set aside, and another "
    "one made of all that can still be read"
)
DISCARD: Final = (
    "put the right one back from a backup of this device, or open with recover='discard': every personal row "
    "goes, and an enrolled device must enrol again"
)
LOG_BYTES: Final = 64 << 20
"""A log that is longer was not moved into the file for long: usually it stays below 8 MiB."""
FREE_BYTES: Final = 32 << 20
"""With less free space on its volume a cache cannot be sure to commit, and never to be rebuilt."""


class Check(NamedTuple):
    """One check: what it is about, how it stands, what was found, and what to do about it."""

    name: str
    state: State
    found: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        """JSON-able."""
        return dict(self._asdict())


class KeystoreFacts(NamedTuple):
    """The keystore, as the root slot opens it."""

    subjects: int
    keys: int
    denials: int
    unsent: int
    """Denials that the server does not have yet."""
    size_bytes: int
    waste_bytes: int
    """Of these, what a compaction gives back."""


class Sampled(NamedTuple):
    """Sealed rows that were opened under their keys."""

    keys: int
    opened: int
    bad: Mapping[str, int]
    """Table -> rows that do not open."""
    orphans: int
    """Handles with rows and no key."""
    whole: bool
    """Whether all were opened, or some of each table and key."""


class ChannelFacts(NamedTuple):
    """Channels that are followed."""

    shared: int
    personal: int
    fresh: int
    """Of these, channels at cursor 0: the server sends them anew."""
    wrong: int
    """Of these, channels whose rows do not add up to the digest beside their cursor."""
    rows: int


class Sizes(NamedTuple):
    """Bytes."""

    file: int
    spare: int | None
    """Of the file, pages that hold nothing; None where that cannot be read."""
    log: int
    keystore: int
    free_on_volume: int


def worst(checks: Sequence[Check]) -> State:
    """How all of them stand together."""
    states = {check.state for check in checks}
    return "fault" if "fault" in states else "warn" if "warn" in states else "ok"


def slot(assurance: str, counter: int, *, fresh: bool) -> Check:
    """The root slot opens."""
    found = f"there, key epoch {counter}, assurance: {assurance}"
    if fresh:
        return Check("key", "warn", f"{found}; nothing was made under it yet", "open the cache once")
    return Check("key", "ok", found)


def slot_unreadable(why: str) -> Check:
    """The root slot does not open, or others could read it."""
    advice = (
        "put the key of this cache back, in a file of mode 0600 if it is in one: without it nothing in the "
        "cache can ever be read"
    )
    return Check("key", "fault", why.partition(";")[0], advice)


def registry(catalog: Catalog, registry_key: bytes | None) -> Check:
    """What the privacy part of a catalog rests on."""
    if registry_key is None:
        word = "unsigned" if catalog.signature is None else "signed"
        return Check("registry", "ok", f"{word}; no registry key is pinned here, so nobody asks")
    try:
        check(catalog, registry_key)
    except CatalogError as error:
        advice = "open with a catalog that the privacy team signed: this one is refused"
        return Check("registry", "fault", error.faults[0].reason, advice)
    return Check("registry", "ok", "signed by the pinned registry key")


def keystore(facts: KeystoreFacts) -> Check:
    """The keystore opens."""
    size = f"{mib(facts.size_bytes)}, {mib(facts.waste_bytes)} of it waste"
    found = f"{facts.keys} keys of {facts.subjects} subjects, {facts.denials} denials, {size}"
    if facts.unsent:
        advice = "start the app's sync: a withdrawal is enforced here, and the server must hear of it"
        return Check("keystore", "warn", f"{found}; {facts.unsent} not told to the server yet", advice)
    return Check("keystore", "ok", found)


def keystore_unreadable(why: str) -> Check:
    """The keystore is missing, old, foreign or damaged."""
    return Check("keystore", "fault", why.split(". ")[0], DISCARD)


def pages(faults: Sequence[str], *, deep: bool) -> Check:
    """Every page was read once."""
    if faults:
        first = faults[0].partition(" error code")[0].rstrip(".")
        places = "one place" if len(faults) == 1 else f"{len(faults)} places or more"
        return Check("pages", "fault", f"damaged in {places} (first: {first})", REPAIR)
    return Check("pages", "ok", f"every page reads{', and every index fits its table' if deep else ''}")


def log(frames: int, commits_behind: int) -> Check:
    """The write-ahead log."""
    if commits_behind:
        found = f"damaged: at least {commits_behind} acknowledged commits lie behind the damage"
        return Check("log", "fault", found, REPAIR)
    return Check("log", "ok", f"{frames} pages wait in it" if frames else "empty")


class Count(NamedTuple):
    """What a root slot counts, or a database has noted of it."""

    epoch: int
    opening: int


def counters(slot: Count, noted: Count, *, cut_short: bool) -> Check:
    """Database and root slot are of one time, or one of them is an old copy.

    Args:
        cut_short: an erasure or rotation is under way, which the database notes before the slot counts it.
    """
    name = "counters"
    here = f"key epoch {slot.epoch}, opened {slot.opening} times"
    seen = f"the root slot counts {here}; the database has seen epoch {noted.epoch}, opening {noted.opening}"
    if noted.epoch < slot.epoch or noted.opening < slot.opening:
        advice = (
            "nothing to do: the next opening erases again what was erased since; a server must then be heard"
        )
        return Check(name, "warn", f"{seen}: it is an older copy, or new", advice)
    if noted.epoch == slot.epoch:
        return Check(name, "ok", f"{here}, in the root slot and the database")
    if cut_short and noted.epoch == slot.epoch + 1:
        advice = "open the cache once: it finishes that"
        return Check(name, "warn", f"{seen}: an erasure or rotation was cut short", advice)
    return Check(name, "fault", f"{seen}: the root slot is an older copy", DISCARD)


def sealed(facts: Sampled) -> Check:
    """Rows open under the keys that the keystore has for them."""
    name = "sealed rows"
    if facts.bad:
        bad = ", ".join(f"{count} of {table}" for table, count in sorted(facts.bad.items()))
        return Check(name, "fault", f"do not open under their keys: {bad}", REPAIR)
    which = "all" if facts.whole else "a sample of"
    found = f"{which} {facts.opened} rows of {facts.keys} keys open"
    if facts.orphans:
        advice = "nothing to do: no key opens them, and they go when an erasure or a rebuild is finished"
        return Check(
            name, "warn", f"{found}; rows of {facts.orphans} keys that are gone still lie there", advice
        )
    return Check(name, "ok", found)


def lane(position: int, entries: int, *, enrolled: bool) -> Check:
    """How far the decisions of the ledger were heard."""
    if not enrolled:
        return Check("decision lane", "ok", "none: this runtime is its own authority")
    if not position:
        advice = "start the app's sync: consented features stay closed until the lane was told"
        return Check("decision lane", "warn", f"at its start, {entries} entries known", advice)
    return Check("decision lane", "ok", f"heard up to {position}, {entries} entries")


def channels(facts: ChannelFacts) -> Check:
    """Cursors, and digests made anew from the rows."""
    found = f"{facts.shared} shared with {facts.rows} rows, {facts.personal} of subjects"
    if facts.wrong:
        advice = "start the app's sync: the server compares too, and sends what differs"
        found = f"{found}; the rows of {facts.wrong} do not add up to their digest"
        return Check("channels", "fault", found, advice)
    if facts.fresh:
        advice = "start the app's sync"
        return Check("channels", "warn", f"{found}; {facts.fresh} wait to be sent anew", advice)
    return Check("channels", "ok", found)


def ledger(size: int | None, begun_anew: int, conflict: str | None) -> Check:
    """The server's ledger, as its heads told of it."""
    if conflict is not None:
        advice = (
            "the server signed two ledgers, and one does not go on from the other: show `edge-runtime doctor "
            "--json` to whoever audits it. Both heads are kept here as evidence, and told to nobody"
        )
        return Check("ledger", "fault", f"{conflict}: two heads contradict each other", advice)
    if size is None:
        return Check("ledger", "ok", "no head was told yet")
    again = f", taken on anew {begun_anew} times after a restore of the server" * bool(begun_anew)
    return Check("ledger", "ok", f"its head at {size} decisions is kept{again}")


def outbox(waiting: Mapping[str, int]) -> Check:
    """What the server has not acknowledged."""
    if not waiting:
        return Check("outbox", "ok", "empty")
    found = ", ".join(f"{count} {kind}s" for kind, count in sorted(waiting.items()))
    return Check("outbox", "ok", f"{found} wait for the server")


def erasures(known: int, unfinished: int) -> Check:
    """Erasures."""
    if unfinished:
        advice = "open the cache once: it finishes them before anything can be used"
        return Check("erasures", "warn", f"{unfinished} of {known} are not finished", advice)
    return Check("erasures", "ok", f"{known} known, all finished")


def budget(rows: int, newest_day: int | None, unsure_day: int | None, today: int) -> Check:
    """The ledger of spent privacy budget."""
    found = f"{rows} debits"
    if newest_day is not None and newest_day > today:
        advice = "set the clock: no window opens again before that day"
        return Check("budget", "warn", f"{found}; the newest lies {newest_day - today} days ahead", advice)
    if unsure_day is not None and today - unsure_day <= 31:
        found = f"{found}; damage took others {today - unsure_day} days ago"
        return Check("budget", "warn", found, "nothing to do: no report is made until their window is over")
    return Check("budget", "ok", found)


def aggregates(counts: Mapping[str, int]) -> Check:
    """What became of this device's aggregate reports."""
    told = [f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count]
    found = ", ".join(told) or "no report, and no offer that was not believed"
    if counts.get("bad_signature"):
        advice = "somebody offers rounds that this device's server did not sign: look at what is in between"
        return Check("aggregates", "warn", found, advice)
    return Check("aggregates", "ok", found)


def sizes(facts: Sizes) -> Check:
    """Bytes on the disk."""
    spare = f" ({mib(facts.spare)} of it free)" if facts.spare else ""
    found = f"database {mib(facts.file)}{spare}, log {mib(facts.log)}, keystore {mib(facts.keystore)}"
    if facts.free_on_volume < FREE_BYTES:
        advice = "make room on the volume: events wait in memory when a commit finds none"
        return Check("sizes", "warn", f"{found}; {mib(facts.free_on_volume)} left on the volume", advice)
    if facts.log > LOG_BYTES:
        return Check("sizes", "warn", found, "open the cache once and close it: that moves the log into it")
    return Check("sizes", "ok", found)


def leftovers(damaged: int, given_up: int, unfinished: Sequence[str], size_bytes: int) -> Check:
    """Files beside the cache that nothing needs."""
    name = "leftovers"
    parts = [
        *([f"damaged databases set aside: {damaged}"] if damaged else []),
        *([f"keystores given up: {given_up}"] if given_up else []),
        *unfinished,
    ]
    if not parts:
        return Check(name, "ok", "none")
    advice = "delete what you do not want to look at any more; all of it is encrypted"
    if unfinished:
        advice = "nothing to do: the next opening uses or removes what was cut short"
    return Check(name, "warn", f"{', '.join(parts)}; together {mib(size_bytes)}", advice)


def mib(size_bytes: int) -> str:
    """A size for people."""
    if size_bytes < 1 << 20:
        return f"{size_bytes / (1 << 10):.0f} KiB"
    return f"{size_bytes / (1 << 20):.1f} MiB"
