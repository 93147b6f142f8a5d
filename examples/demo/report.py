"""What the demo found, in the form of `.demo/report.json`, and whether that is a success."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class HitRate:
    """Share of questions whose next purchase was among the 20 items shown."""

    personalized: float
    popularity: float


@dataclass(frozen=True, slots=True)
class Delay:
    """Milliseconds from a publisher's request to a kiosk's cache."""

    p50: float | None
    """None when the replay was too short to time a push."""
    p99: float | None

    @classmethod
    def of(cls, delays_ms: list[float]) -> Delay:
        """Median and 99th percentile."""
        if not delays_ms:
            return cls(None, None)
        p50, p99 = np.percentile(np.array(delays_ms), [50, 99])
        return cls(round(float(p50), 1), round(float(p99), 1))


@dataclass(frozen=True, slots=True)
class Revocation:
    """How one customer's withdrawal went."""

    targets: int
    receipts: int
    """Signed statements that came back, of both kinds: `erased` and `held none`."""
    held_none: int
    enforced_ms: float | None
    """From request until no kiosk uses the customer's data any more; None if it never came to that."""
    erased_ms: float | None
    """From the request until every kiosk's signed receipt is in."""
    plaintext_hits: int
    """Plain values of the customer found in the kiosks' files afterwards."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The released histogram beside what was true."""

    metric: str
    truth: dict[str, float]
    """Category -> share of the customers, as the kiosks' own books have it (only the demo knows)."""
    estimate: dict[str, float]
    ci95: dict[str, list[float]]
    """Category -> low and high end."""
    subjects: int


@dataclass(frozen=True, slots=True)
class Report:
    """`.demo/report.json`."""

    events: int
    kiosks: int
    hit_rate_at_20: HitRate
    delta_ms: Delay
    revocation: Revocation
    aggregate: Aggregate

    def to_json(self) -> dict[str, object]:
        """The report as plain data."""
        return asdict(self)

    def failures(self) -> list[str]:
        """What went wrong, in words; empty when the demo showed what it promises."""
        found = self.revocation
        checks = {
            f"{found.receipts} receipts for {found.targets} kiosks": found.receipts == found.targets > 0,
            f"{found.plaintext_hits} plain values of the customer on disk": found.plaintext_hits == 0,
            "personal ranking no better than popularity": (
                self.hit_rate_at_20.personalized > self.hit_rate_at_20.popularity
            ),
        }
        return [words for words, good in checks.items() if not good]
