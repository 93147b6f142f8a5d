"""Which arm of an experiment a subject gets: a hash of the salt and the typed id, and nothing else. Pure.

So the same subject gets the same arm on every device, after a reinstall and under every version of the
catalog that keeps the salt, arms and weights; and a backend gets the same in three lines:

    >>> import hashlib
    >>> digest = hashlib.blake2b(b"user:alice", key=b"new_ranker", person=b"edge-arm", digest_size=8).digest()
    >>> point = int.from_bytes(digest, "big") * 2 >> 64  # of 2, the sum of the weights

The arm is the first whose weight, added to those before it, lies above `point`. Whether a subject takes part
at all (`traffic`) is another hash (`person=b"edge-traffic"`), so widening the traffic moves nobody from one
arm to another. Integers only: thresholds are exact, and off a weight's share by less than 2^-44.
"""

from __future__ import annotations

import hashlib
from fractions import Fraction

from edge_runtime.catalog.model import Experiment

_SPACE = 1 << 64


def arm_of(experiment: Experiment, subject: str) -> str:
    """The arm of a typed subject (`user:alice`), whether or not it takes part.

    >>> from edge_runtime.catalog.model import Ref
    >>> ranker = Experiment("new_ranker", "p", "user", (("old", 3), ("new", 1)), Ref("v@1", "f"), False, "s")
    >>> arm_of(ranker, "user:alice") in ("old", "new")
    True
    """
    total = sum(weight for _, weight in experiment.arms)
    point = _hash(experiment, subject, b"edge-arm") * total >> 64
    for arm, weight in experiment.arms:
        point -= weight
        if point < 0:
            return arm
    raise AssertionError("a point lies below the sum of the weights")


def takes_part(experiment: Experiment, subject: str) -> bool:
    """Whether a typed subject is in the experiment's share of the traffic."""
    if experiment.traffic == 1:
        return True
    share = Fraction(repr(experiment.traffic))
    return _hash(experiment, subject, b"edge-traffic") * share.denominator < share.numerator * _SPACE


def _hash(experiment: Experiment, subject: str, person: bytes) -> int:
    key = experiment.salt.encode()
    return int.from_bytes(
        hashlib.blake2b(subject.encode(), key=key, person=person, digest_size=8).digest(), "big"
    )
