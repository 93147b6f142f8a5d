"""An experiment's report and its plan as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.wire.time_text import time_text
from sync_server.aggregates.experiments.plan import ExperimentPlan
from sync_server.aggregates.experiments.report import ExperimentReport
from sync_server.aggregates.experiments.uplift import ArmRate, Comparison, Uplift
from sync_server.cli.printable import shown

_VERDICTS = {"up": "UP", "down": "DOWN", "no_difference_shown": "no difference shown"}


def report_text(report: ExperimentReport) -> str:
    """One look at an experiment."""
    head = f"{shown(report.experiment)}   {report.status.upper()} {time_text(report.closed_at_us)}"
    noise = f"  noise   {report.mechanism}, epsilon {report.epsilon:g}; round {report.round}"
    if report.result is None:
        return "\n".join([head, "", f"  No number: {report.reason}.", noise])
    return "\n".join([head, "", *_result(report.result), "", *_meaning(report.result), noise])


def _result(result: Uplift) -> Iterator[str]:
    width = max(len(shown(arm.arm)) for arm in result.arms)
    for arm in result.arms:
        yield f"  {shown(arm.arm):<{width}}  {_arm(arm)}"
    yield ""
    for one in result.comparisons:
        yield f"  {shown(one.arm):<{width}}  {_comparison(one, result.control)}"


def _arm(arm: ArmRate) -> str:
    exposed = f"exposed {_percent(arm.exposed)}"
    if arm.rate is None or arm.interval is None:
        return f"{exposed}: too few to tell its rate"
    return f"rate {_percent(arm.rate)} {_range(arm.interval)}, {exposed}"


def _comparison(one: Comparison, control: str) -> str:
    if one.uplift is None or one.interval is None:
        return "no difference shown: too few were exposed to tell"
    relative = ""
    if one.relative is not None and one.relative_interval is not None:
        relative = f"; relative {one.relative * 100:+.1f} % {_range(one.relative_interval, signed=True)}"
    absolute = f"{one.uplift * 100:+.2f} points {_range(one.interval, signed=True)}"
    return f"{_VERDICTS[one.verdict]}: {absolute} against {shown(control)}{relative}"


def _meaning(result: Uplift) -> Iterator[str]:
    ratio = result.sample_ratio
    if ratio.alarm:
        yield f"  ALARM: the arms were not exposed as their weights say (p = {ratio.p_value:.2g}): something"
        yield "  is broken, believe no uplift of this round."
    looks, pairs = _many(result.looks, "look"), _many(len(result.comparisons), "comparison")
    together = f"{(1 - result.alpha) * 100:.4g} %"
    yield f"  intervals of {result.level * 100:.4g} %, so that all hold together in {together};"
    yield f"  {pairs}, {looks} planned. They count noise and sampling both."
    yield f"  from    {result.n:,} subjects, {_percent(result.unexposed)} of them not exposed"


def plan_text(plan: ExperimentPlan) -> str:
    """A plan in words."""
    control = f"a baseline of {plan.baseline * 100:.4g} %"
    return "\n".join(
        [
            f"{plan.subjects:,} subjects show an uplift of {plan.uplift * 100:+.3g} points over {control}",
            f"  with power {plan.power:.0%} at alpha {plan.alpha:g}, {_many(plan.looks, 'look')} planned",
            f"  {plan.arms} arms, {plan.exposed * 100:.4g} % of the subjects exposed",
            f"  noise   {plan.mechanism}, epsilon {plan.epsilon}",
            f"  without noise {plan.in_the_clear:,} would do: privacy asks for {plan.price:.3g} times that",
        ]
    )


def _many(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _percent(value: float) -> str:
    return f"{value * 100:.2f} %"


def _range(interval: tuple[float, ...], *, signed: bool = False) -> str:
    low, high = (value * 100 for value in interval)
    return f"[{low:+.2f} … {high:+.2f}]" if signed else f"[{low:.2f} … {high:.2f} %]"
