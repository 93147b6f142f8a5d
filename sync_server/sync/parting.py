"""What a session is told at its end, and how a door says no before there is a session."""

from __future__ import annotations

from aiohttp import web

from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from sync_server.api.problem import problem_reply
from sync_server.errors import Problem
from sync_server.settings import SECOND_US
from sync_server.sync.admission import Turned
from sync_server.sync.node import Node


def refusal_of(failure: WireFailure) -> m.Refusal:
    """The last word to a session that failed so; one that was turned away hears when to come back."""
    return m.Refusal(code=failure.code, retry_after_us=retry_of(failure))


def retry_of(failure: WireFailure) -> int:
    """Microseconds after which it may come back; 0 when nothing was said of it."""
    return failure.retry_after_us if isinstance(failure, Turned) else 0


def going_away(node: Node, window_us: int) -> m.Refusal:
    """To a session of a node that stops: come back some time within `window_us`."""
    return m.Refusal(code="going_away", retry_after_us=int(node.fraction() * window_us))


def back_within_us(node: Node) -> int:
    """The time that taking in again all who are here needs."""
    return node.admission.spread_us(len(node.admission.visits))


def longest_s(node: Node) -> float:
    """Maximum age of a session, give or take a fifth: those that began together do not end together."""
    return node.settings.session_age_us * (0.8 + 0.4 * node.fraction()) / SECOND_US


def whole_seconds(turned: Turned) -> int:
    """When to come back, as HTTP says it."""
    return max(1, -(-turned.retry_after_us // SECOND_US))


def turned_away(turned: Turned) -> web.Response:
    """503 with `Retry-After`."""
    return problem_reply(Problem("overloaded"), {"Retry-After": str(whole_seconds(turned))})
