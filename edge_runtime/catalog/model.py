"""What a catalog declares, as frozen records. `load.py` makes and checks them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

from edge_runtime.wire.printing import prints_only

Basis = Literal[
    "consent",
    "contract",
    "legal_obligation",
    "vital_interest",
    "public_task",
    "legitimate_interest",
]
Source = Literal["server", "session", "request"]
Tier = Literal["hot", "warm", "cold"]
Use = Literal["sale", "share", "targeting"]
"""What a purpose does that a subject may opt out of by a signal (`Sec-GPC`)."""
MetricKind = Literal["count", "sum", "mean", "histogram", "quantile"]
MetricMode = Literal["local", "curator"]
"""`local`: each subject's answer is noised. `curator`: a kiosk adds noise over its own subjects' sums."""
MetricRead = Literal["value", "status", "age"]
Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Purpose:
    """What personal data may be used for, and for how long. Durations in microseconds."""

    name: str
    title: str
    legal_basis: Basis
    terminal_access: Literal["consent", "strictly_necessary"]
    lease_us: int
    retention_us: int | None
    """None for `retention = "session"`: held in memory only, never on disk."""
    keep_events_us: int
    """How long the journal keeps events, for backfill."""
    description: str | None = None
    """What is done, in a sentence that a subject understands (GDPR Art. 13(1)(c))."""
    data_categories: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    """Who else receives the data (Art. 13(1)(e), 30(1)(d))."""
    transfers: tuple[str, ...] = ()
    """Third countries, each with its safeguard (Art. 13(1)(f), 30(1)(e))."""
    uses: tuple[Use, ...] = ()
    dpv: str | None = None
    """IRI of the purpose in the W3C Data Privacy Vocabulary."""

    @property
    def asks(self) -> bool:
        """Whether the subject's consent is needed: by the basis, or for storing on the terminal."""
        return self.legal_basis == "consent" or self.terminal_access == "consent"

    @property
    def portable(self) -> bool:
        """Whether a subject may take its data along: it rests on consent or a contract (Art. 20(1)(a))."""
        return self.legal_basis in ("consent", "contract")

    @property
    def on_disk(self) -> bool:
        """Whether anything of this purpose may rest on disk."""
        return self.retention_us is not None


@dataclass(frozen=True, slots=True)
class Notice:
    """A text that was shown: which purposes, in which language, with which content hash."""

    version: str
    purposes: tuple[str, ...]
    language: str | None
    content_hash: str | None
    """`sha256:` and 64 hex digits of the text."""
    title: str | None = None
    url: str | None = None
    effective: str | None = None
    """The day from which on it is shown, `2026-11-30`."""


@dataclass(frozen=True, slots=True)
class Controller:
    """Who answers for the processing (GDPR Art. 13(1)(a)(b), 30(1)(a))."""

    name: str
    contact: str | None
    dpo: str | None
    """How to reach the data protection officer."""
    address: str | None = None
    jurisdiction: str | None = None
    """Under whose law it processes, as it names that."""


@prints_only("signed_us")
@dataclass(frozen=True, slots=True)
class Signature:
    """The privacy team's word on a catalog's privacy part; see `signed.py`."""

    key: bytes
    """Ed25519 public key, 32 bytes."""
    signed_us: int
    """Which of two signed parts is the newer one."""
    signature: bytes


@dataclass(frozen=True, slots=True)
class EntityType:
    """A kind of thing with ids; `personal` makes it a data subject."""

    name: str
    personal: bool


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event: the entities it must name and the typed properties it may carry."""

    name: str
    entities: tuple[str, ...]
    properties: Mapping[str, DType]


@dataclass(frozen=True, slots=True)
class DType:
    """A value's type. `float32[16]` is kind float32 with size 16; lists and maps have an item."""

    kind: Literal["bool", "int64", "float32", "float64", "string", "time", "list", "map"]
    item: DType | None = None
    size: int | None = None

    def __str__(self) -> str:
        if self.kind == "list":
            return f"list<{self.item}>"
        if self.kind == "map":
            return f"map<string,{self.item}>"
        return self.kind if self.size is None else f"{self.kind}[{self.size}]"

    @property
    def numeric(self) -> bool:
        """Whether one value is one number that a service takes without an encoding."""
        return self.size is None and self.kind in ("bool", "int64", "float32", "float64")


@dataclass(frozen=True, slots=True)
class Where:
    """One condition on a property; all of a feature's conditions must hold."""

    property: str
    test: Literal["eq", "ne", "gt", "ge", "lt", "le", "in"]
    operand: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a value becomes numbers: `one_hot hash log1p zscore clip bucketize`, with its arguments."""

    kind: Literal["one_hot", "hash", "log1p", "zscore", "clip", "bucketize"]
    buckets: int | None = None
    """hash: number of buckets."""
    mean: float = 0.0
    std: float = 1.0
    low: float | None = None
    high: float | None = None
    edges: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionFeature:
    """A feature computed on the device from events. Fields that an operator does not take are None."""

    name: str
    op: str
    events: tuple[str, ...]
    value: str | None = None
    """A property, or an entity type whose id is the value."""
    by: str | None = None
    window_us: int | None = None
    """None: all time within retention."""
    gap_us: int | None = None
    half_life_us: int | None = None
    n: int | None = None
    cap: int = 2048
    max_keys: int = 256
    where: tuple[Where, ...] = ()
    embedding: str | None = None
    dtype: DType = field(default_factory=lambda: DType("float64"))
    """The result's type, known from the operator and its input."""
    default: Scalar | None = None
    """Stands in when there is no usable value; only for results that are one scalar."""

    @property
    def hop_us(self) -> int | None:
        """Tile length: window / 60 rounded up to a whole second; None without a window."""
        if self.window_us is None:
            return None
        return -(-self.window_us // 60_000_000) * 1_000_000

    @property
    def tiles(self) -> int | None:
        """Number of tiles that cover the window: window / hop rounded up."""
        return None if self.window_us is None or self.hop_us is None else -(-self.window_us // self.hop_us)


@dataclass(frozen=True, slots=True)
class DerivedFeature:
    """A feature of a session view worked out at the read from other features of that view, NULL from NULL."""

    name: str
    op: Literal["ratio", "log1p", "zscore", "clip", "bucketize"]
    of: tuple[str, ...]
    """The features that it is made of, in order: for `ratio` numerator and denominator, else one."""
    encoding: Encoding | None = None
    """The arguments of every op but `ratio`."""
    dtype: DType = field(default_factory=lambda: DType("float64"))
    default: Scalar | None = None


@dataclass(frozen=True, slots=True)
class FieldFeature:
    """A feature that is given: pushed by the server, or passed at the read (`source = "request"`)."""

    name: str
    dtype: DType
    values: tuple[Scalar, ...] | None = None
    range: tuple[float, float] | None = None
    default: Scalar | None = None


Feature = SessionFeature | DerivedFeature | FieldFeature


@dataclass(frozen=True, slots=True)
class View:
    """A named, versioned group of features of one entity (type or composite key)."""

    name: str
    version: int
    entity: tuple[str, ...]
    """Entity types of the key; empty for request views."""
    source: Source
    purpose: str | None
    ttl_us: int
    """0: for ever."""
    owner: str
    tier: Tier
    allowed_lateness_us: int
    dedup_horizon_us: int
    features: Mapping[str, Feature]

    @property
    def key(self) -> str:
        """`name@version`, the name of this very version."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Ref:
    """A feature of one view version."""

    view: str
    """The view's key, `name@version`."""
    feature: str

    def __str__(self) -> str:
        return f"{self.view}:{self.feature}"


@dataclass(frozen=True, slots=True)
class PlainColumn:
    """A feature as it is, or through an encoding; `width` numbers."""

    name: str
    ref: Ref
    encoding: Encoding | None
    width: int
    default: float | None


@dataclass(frozen=True, slots=True)
class LookupColumn:
    """The value of a map feature at the id of entity `key`; a key not in the map is 0, PRESENT."""

    name: str
    ref: Ref
    key: str
    default: float | None
    width: int = 1


@dataclass(frozen=True, slots=True)
class SumLookupColumn:
    """Sum of map feature `ref` of each id in list feature `keys`, at the id of entity `key`."""

    name: str
    ref: Ref
    keys: Ref
    key: str
    default: float | None
    width: int = 1


@dataclass(frozen=True, slots=True)
class DotColumn:
    """The inner product of two vector features."""

    name: str
    left: Ref
    right: Ref
    default: float | None
    width: int = 1


Column = PlainColumn | LookupColumn | SumLookupColumn | DotColumn


@dataclass(frozen=True, slots=True)
class Service:
    """A model's contract: its columns in order. `names` has one entry for each number."""

    name: str
    version: int
    columns: tuple[Column, ...]
    names: tuple[str, ...]

    @property
    def width(self) -> int:
        """Number of float32 values in one row."""
        return len(self.names)


@dataclass(frozen=True, slots=True)
class Metric:
    """A declared aggregate."""

    name: str
    purpose: str
    kind: MetricKind
    of: Ref
    epsilon: float
    min_subjects: int
    window_us: int
    """Budget window: what is spent in it counts against the device's ceiling."""
    values: tuple[str, ...] | None = None
    """histogram of a string: the categories."""
    edges: tuple[float, ...] | None = None
    """histogram of a number: k edges make k + 1 buckets, `bisect_right`."""
    low: float | None = None
    high: float | None = None
    """sum, mean and quantile: a value outside low … high counts as the nearer of them."""
    read: MetricRead = "value"
    """What is read of the feature: its value, its status, or the age of its value in seconds."""
    where: tuple[Where, ...] = ()
    """count: conditions on what is read (the property is "value"); all must hold. None: that it is there."""
    quantiles: tuple[float, ...] = ()
    """quantile: which, rising, each inside 0 … 1."""
    leaves: int = 0
    """quantile: number of equal buckets between the bounds on the finest level of the tree."""
    mode: MetricMode = "local"
    mechanism: str | None = None
    """The author's choice; None: the one with the least expected error."""
    reference: tuple[float, ...] | None = None
    """histogram: the shares that a model was trained on, in the order of the categories, for drift."""
    drift_alarm: float | None = None
    """Population stability index above which drift is an alarm."""
    experiment: str | None = None
    """The experiment whose cells the categories are; None for any other metric."""
    assignment: str | None = None
    """Of an experiment's metric: by which salt, arms and weights its arms are chosen."""
    absent: str | float | None = None
    """What a subject without a value answers: a category of a histogram, else a number. None: nothing, and
    then who takes part tells who has a value."""

    def __hash__(self) -> int:
        """By name: what is worked out once of a metric is found for every report, and may have 256 edges."""
        return hash(self.name)

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of a histogram's categories, in order; that of `absent` last if it is one more."""
        named = self.values if self.values is not None else _buckets(self.edges or ())
        own = isinstance(self.absent, str) and self.absent not in named
        return (*named, str(self.absent)) if own else named

    @property
    def all_answer(self) -> bool:
        """Whether who takes part depends on nobody's value; see `aggregates/reading.py`."""
        answers = self.absent is not None or self.experiment is not None
        return answers or self.kind == "count" or self.read == "status"


def _buckets(edges: tuple[float, ...]) -> tuple[str, ...]:
    """Names of the buckets between edges; as short as tells two edges apart."""
    short = [f"{edge:g}" for edge in edges]
    told = [text if float(text) == edge else repr(edge) for text, edge in zip(short, edges, strict=True)]
    return tuple(f"[{a}, {b})" for a, b in pairwise(["-inf", *told, "inf"]))


UNEXPOSED: Final = "unexposed"
"""The cell of whoever did not see an arm."""


def cells_of(arms: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """What one subject can answer to an experiment: `unexposed`, then `ARM/no` and `ARM/yes` of each arm."""
    return (UNEXPOSED, *(f"{arm}/{answer}" for arm, _ in arms for answer in ("no", "yes")))


@prints_only("name", "purpose", "unit", "arms", "outcome", "since_exposure", "traffic")
@dataclass(frozen=True, slots=True)
class Experiment:
    """Arms that subjects are given by a hash, and what is asked of those who saw theirs."""

    name: str
    """That of its metric as well."""
    purpose: str
    """Under whose permission exposures are recorded, and outcomes declared in place."""
    unit: str
    """The personal entity whose subjects are assigned."""
    arms: tuple[tuple[str, int], ...]
    """(name, weight) in order; the first is the control."""
    outcome: Ref
    since_exposure: bool
    """`outcome` is seconds since the last such event: a success is one at or after the exposure. Else the
    value tells: positive or true."""
    salt: str
    """The name unless declared: two experiments of one salt and the same weights choose alike."""
    traffic: float = 1.0
    """Share of the subjects who take part; all others get the control and are not exposed."""

    @property
    def control(self) -> str:
        """The arm that the others are compared to, and which everybody gets who does not take part."""
        return self.arms[0][0]

    @property
    def event(self) -> str:
        """The type of the event that records an exposure."""
        return f"exposure.{self.name}"

    @property
    def assignment(self) -> str:
        """16 hex digits that change with the salt, an arm or a weight: then the experiment begins anew."""
        told = [self.unit, self.salt, self.arms]
        content = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
        return hashlib.blake2b(content, digest_size=8, person=b"edge-arms").hexdigest()

    @property
    def exposure(self) -> Ref:
        """The feature that holds the arm to which a subject was first exposed."""
        return Ref(f"exposures.{self.name}@{int(self.assignment, 16) % (2**31 - 1) + 1}", "arm")

    @property
    def cells(self) -> tuple[str, ...]:
        """What one subject can answer; see `cells_of`."""
        return cells_of(self.arms)


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """All of the above, every reference resolved. Views are keyed by `name@version`; see `Catalog.view`."""

    name: str
    version: int
    purposes: Mapping[str, Purpose]
    notices: Mapping[str, Notice]
    entities: Mapping[str, EntityType]
    events: Mapping[str, EventType]
    views: Mapping[str, View]
    services: Mapping[str, Service]
    """By `name@version`."""
    metrics: Mapping[str, Metric]
    """With those of experiments."""
    experiments: Mapping[str, Experiment] = field(default_factory=dict)
    controller: Controller | None = None
    signature: Signature | None = field(default=None, compare=False)
    """It travels with the catalog, and is no part of what the catalog means."""

    def purposes_of(self, metric: Metric) -> tuple[str, ...]:
        """The metric's purpose, then its source's (an experiment's: its outcome's): an answer needs both."""
        source = self.views[metric.of.view].purpose
        return (metric.purpose,) if source in (None, metric.purpose) else (metric.purpose, source)
