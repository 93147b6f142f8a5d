"""How one subject's value becomes a noised answer. Pure: integers and exact rationals, chance handed in.

Local mechanisms add the noise to each subject's answer, so the claim holds against the server too; a curator
adds it over the sums of the subjects of one device. No float and no division that makes one occurs in this
package; a test reads the syntax trees and says so. Open `mechanism.py` first, then `question.py`.
"""

from edge_runtime.aggregates.mechanisms.answer import answer_bytes
from edge_runtime.aggregates.mechanisms.bounded import STEPS, Bounded, best_bounded, bounded
from edge_runtime.aggregates.mechanisms.choice import best_frequencies, expected_error, frequencies
from edge_runtime.aggregates.mechanisms.curator import SUBJECT_LIMIT, DiscreteLaplace
from edge_runtime.aggregates.mechanisms.duchi import Duchi
from edge_runtime.aggregates.mechanisms.exact import exp_below
from edge_runtime.aggregates.mechanisms.hierarchical import Hierarchical, answer_again, input_again
from edge_runtime.aggregates.mechanisms.inputs import input_of
from edge_runtime.aggregates.mechanisms.laplace import bernoulli_exp, discrete_laplace, laplace_variance
from edge_runtime.aggregates.mechanisms.mechanism import Bits, Curator, Frequencies, Mechanism, Moves, Noised
from edge_runtime.aggregates.mechanisms.piecewise import Piecewise, best_width
from edge_runtime.aggregates.mechanisms.question import (
    BUDGET_CEILING_MICROS,
    DAY_US,
    MICRO,
    NO_YES,
    Question,
    bounded_for,
    budget_window_days,
    cost_micros,
    curator_for,
    definition,
    epsilon_of,
    frequencies_for,
    hierarchical_for,
    mechanism_for,
    micros,
    noised_for,
    question_of,
    same_answers,
)
from edge_runtime.aggregates.mechanisms.response import RandomizedResponse
from edge_runtime.aggregates.mechanisms.subset import SubsetSelection, best_size, risk
from edge_runtime.aggregates.mechanisms.tree import LEAF_LIMIT, Tree
from edge_runtime.aggregates.mechanisms.unary import UnaryEncoding

__all__ = [
    "BUDGET_CEILING_MICROS",
    "DAY_US",
    "LEAF_LIMIT",
    "MICRO",
    "NO_YES",
    "STEPS",
    "SUBJECT_LIMIT",
    "Bits",
    "Bounded",
    "Curator",
    "DiscreteLaplace",
    "Duchi",
    "Frequencies",
    "Hierarchical",
    "Mechanism",
    "Moves",
    "Noised",
    "Piecewise",
    "Question",
    "RandomizedResponse",
    "SubsetSelection",
    "Tree",
    "UnaryEncoding",
    "answer_again",
    "answer_bytes",
    "bernoulli_exp",
    "best_bounded",
    "best_frequencies",
    "best_size",
    "best_width",
    "bounded",
    "bounded_for",
    "budget_window_days",
    "cost_micros",
    "curator_for",
    "definition",
    "discrete_laplace",
    "epsilon_of",
    "exp_below",
    "expected_error",
    "frequencies",
    "frequencies_for",
    "hierarchical_for",
    "input_again",
    "input_of",
    "laplace_variance",
    "mechanism_for",
    "micros",
    "noised_for",
    "question_of",
    "risk",
    "same_answers",
]
