"""Where hooks report to: the collector of the run, or a private one while a test plants leaks of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.support.leaks.collector import Collector

_stack: list[Collector] = []


def sink() -> Collector:
    """The collector that hears now."""
    return _stack[-1]


def keys_from_a_seed() -> AbstractContextManager[None]:
    """Within the block keys are no secrets: what is a key in one run from a seed is a nonce in another."""
    return _without("takes_keys")


def subjects_by_chance() -> AbstractContextManager[None]:
    """Within the block subjects are nobody's: a generator tries any word, those of the product too."""
    return _without("takes_subjects")


@contextmanager
def _without(name: str) -> Iterator[None]:
    heard = _stack[-1:]
    before = [getattr(collector, name) for collector in heard]
    for collector in heard:
        setattr(collector, name, False)
    try:
        yield
    finally:
        for collector, took in zip(heard, before, strict=True):
            setattr(collector, name, took)


def begin(collector: Collector) -> None:
    """Let `collector` be the run's own."""
    _stack.append(collector)


@contextmanager
def private(collector: Collector) -> Iterator[Collector]:
    """Within the block everything is reported to `collector` alone."""
    _stack.append(collector)
    try:
        yield collector
    finally:
        _stack.remove(collector)
