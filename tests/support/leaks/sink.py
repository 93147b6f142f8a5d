"""Where hooks report to: the collector of the run, or a private one while a test plants leaks of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.leaks.collector import Collector

_stack: list[Collector] = []


def sink() -> Collector:
    """The collector that hears now."""
    return _stack[-1]


@contextmanager
def keys_from_a_seed() -> Iterator[None]:
    """Within the block keys are no secrets: what is a key in one run from a seed is a nonce in another."""
    heard = _stack[-1:]
    before = [collector.takes_keys for collector in heard]
    for collector in heard:
        collector.takes_keys = False
    try:
        yield
    finally:
        for collector, took in zip(heard, before, strict=True):
            collector.takes_keys = took


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
