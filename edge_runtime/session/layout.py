"""Which state a view's features need, and where each piece lies: features that can share a piece do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edge_runtime.catalog.model import SessionFeature, View
from edge_runtime.errors import CatalogError, Fault
from edge_runtime.session.operators.decayed import Decay
from edge_runtime.session.operators.keyed import Keyed
from edge_runtime.session.operators.recent import Newest, Recent
from edge_runtime.session.operators.runs import Runs
from edge_runtime.session.operators.statistic import Frame, Statistic, Stream
from edge_runtime.session.operators.tally import Tally

VECTOR_ITEMS = 32
"""`n` of a decayed_mean_vector that declares none."""


@dataclass(frozen=True)
class Placed:
    """A statistic and its place: first slot, and the slot of its frame (-1 without one)."""

    statistic: Statistic
    base: int
    frame_slot: int


@dataclass
class Layout:
    """The slots of one view: one for each frame, then the statistics."""

    frames: dict[Frame, int] = field(default_factory=dict)
    placed: list[Placed] = field(default_factory=list)
    reads: dict[str, str] = field(default_factory=dict)
    """For each feature an expression over `s` (the slots), `t` (time of the read) and `resolve`."""
    width: int = 0


def lay_out(view: View) -> Layout:
    """The layout of a session view.

    Raises:
        CatalogError: a feature of an operator that is not built, or without what its operator needs.
    """
    features = [f for f in view.features.values() if isinstance(f, SessionFeature)]
    wanted = {f.name: _statistic(view, f) for f in features}
    merged = _widest(list(wanted.values()))
    layout = Layout()
    for frame in dict.fromkeys(s.frame for s in merged if s.frame is not None):
        layout.frames[frame] = layout.width
        layout.width += 1
    for statistic in merged:
        frame_slot = -1 if statistic.frame is None else layout.frames[statistic.frame]
        layout.placed.append(Placed(statistic, layout.width, frame_slot))
        layout.width += len(statistic.fresh())
    for feature in features:
        placed = next(p for p in layout.placed if _serves(p.statistic, wanted[feature.name]))
        layout.reads[feature.name] = _READS[feature.op](feature, placed)
    return layout


def _widest(wanted: list[Statistic]) -> list[Statistic]:
    """Equal statistics once; of the newest values of one stream only the longest list."""
    longest: dict[Stream, int] = {}
    for s in wanted:
        if isinstance(s, Recent):
            longest[s.stream] = max(s.n, longest.get(s.stream, 0))
    return list(
        dict.fromkeys(Recent(s.stream, longest[s.stream]) if isinstance(s, Recent) else s for s in wanted)
    )


def _serves(have: Statistic, wanted: Statistic) -> bool:
    if isinstance(have, Recent) and isinstance(wanted, Recent):
        return have.stream == wanted.stream
    return have == wanted


def _statistic(view: View, f: SessionFeature) -> Statistic:
    stream = Stream(f.events, f.where, f.value)
    frame = None if f.window_us is None else Frame(f.hop_us or 0, f.tiles or 0)
    match f.op:
        case "count":
            return Tally(stream._replace(value=None), frame, needs_units=False)
        case "sum":
            return Tally(_with_value(view, f, stream), frame, needs_units=True)
        case "last":
            return Recent(_with_value(view, f, stream), 1)
        case "last_n":
            return Recent(_with_value(view, f, stream), _needed(view, f, "n", f.n))
        case "decayed_mean_vector":
            return Recent(_with_value(view, f, stream), f.n or VECTOR_ITEMS)
        case "since_last":
            return Newest(stream._replace(value=None))
        case "decayed_count":
            return Decay(stream._replace(value=None), _needed(view, f, "half_life", f.half_life_us))
        case "session_count":
            gap_us = _needed(view, f, "gap", f.gap_us)
            return Runs(stream._replace(value=None), gap_us, view.allowed_lateness_us)
        case "count_by" if f.by is not None:
            return Keyed(Stream(f.events, f.where, f.by), frame, f.max_keys)
        case "count_by":
            raise _fault(view, f, "by", "expected a property or an entity type, got nothing")
    raise _fault(view, f, "op", f"expected one of {', '.join(sorted(_READS))}, got {f.op}")


def _with_value(view: View, f: SessionFeature, stream: Stream) -> Stream:
    if stream.value is None:
        raise _fault(view, f, "value", "expected a property or an entity type, got nothing")
    return stream


def _needed(view: View, f: SessionFeature, key: str, value: int | None) -> int:
    if value is None or value <= 0:
        raise _fault(view, f, key, "expected more than 0")
    return value


def _fault(view: View, f: SessionFeature, key: str, reason: str) -> CatalogError:
    return CatalogError([Fault(f"views.{view.name}.features.{f.name}.{key}", reason)])


def _read_count(f: SessionFeature, p: Placed) -> str:
    assert isinstance(p.statistic, Tally)
    return p.statistic.read(p.base, p.frame_slot)


def _read_sum(f: SessionFeature, p: Placed) -> str:
    return f"{_read_count(f, p)} / UNIT"


def _read_last(f: SessionFeature, p: Placed) -> str:
    assert isinstance(p.statistic, Recent)
    return p.statistic.read_last(p.base)


def _read_last_n(f: SessionFeature, p: Placed) -> str:
    assert isinstance(p.statistic, Recent)
    return p.statistic.read_n(p.base, f.n or 0)


def _read_vector(f: SessionFeature, p: Placed) -> str:
    entries = f"tail(s[{p.base}], {f.n or VECTOR_ITEMS})"
    return f"decayed_mean({entries}, {f.half_life_us}, resolve)"


def _read_since(f: SessionFeature, p: Placed) -> str:
    assert isinstance(p.statistic, Newest)
    return p.statistic.read_since(p.base)


def _read_decay(f: SessionFeature, p: Placed) -> str:
    assert isinstance(p.statistic, Decay)
    return p.statistic.read(p.base)


def _read_session(f: SessionFeature, p: Placed) -> str:
    assert isinstance(p.statistic, Runs)
    return p.statistic.read(p.base)


def _read_keyed(f: SessionFeature, p: Placed) -> str:
    assert isinstance(p.statistic, Keyed)
    return p.statistic.read(p.base, p.frame_slot)


_READS: dict[str, Callable[[SessionFeature, Placed], str]] = {
    "count": _read_count,
    "sum": _read_sum,
    "last": _read_last,
    "last_n": _read_last_n,
    "since_last": _read_since,
    "decayed_count": _read_decay,
    "session_count": _read_session,
    "count_by": _read_keyed,
    "decayed_mean_vector": _read_vector,
}
"""Every operator that is built, and how its value is read."""
