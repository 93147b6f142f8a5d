"""How one subject's category becomes a noised answer. Pure: integers and exact rationals, chance handed in.

Every mechanism here is local: the noise is added on the device, so the claim holds against the server too.
No float and no division that makes one occurs in this package; a test reads the syntax trees and says so.
"""

from edge_runtime.aggregates.mechanisms.answer import answer_bytes
from edge_runtime.aggregates.mechanisms.definition import (
    BUDGET_CEILING_MICROS,
    DAY_US,
    budget_window_days,
    cost_micros,
    definition,
    epsilon_of,
    histogram_mechanism,
    mechanism_of,
)
from edge_runtime.aggregates.mechanisms.exact import exp_below
from edge_runtime.aggregates.mechanisms.mechanism import Bits, Mechanism
from edge_runtime.aggregates.mechanisms.response import RandomizedResponse
from edge_runtime.aggregates.mechanisms.subset import SubsetSelection, best_size, risk
from edge_runtime.aggregates.mechanisms.unary import UnaryEncoding

__all__ = [
    "BUDGET_CEILING_MICROS",
    "DAY_US",
    "Bits",
    "Mechanism",
    "RandomizedResponse",
    "SubsetSelection",
    "UnaryEncoding",
    "answer_bytes",
    "best_size",
    "budget_window_days",
    "cost_micros",
    "definition",
    "epsilon_of",
    "exp_below",
    "histogram_mechanism",
    "mechanism_of",
    "risk",
]
