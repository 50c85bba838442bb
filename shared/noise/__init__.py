"""Label noise as pure functions of arrays and a seed; `recipe` makes noise files of them."""

from shared.noise.generators import (
    ASYMMETRIC_MAPS,
    GENERATOR,
    asymmetric,
    confidence_dependent,
    pair_flip,
    part_dependent,
    part_dependent_probabilities,
    symmetric,
    transition_matrix,
)
from shared.noise.transitions import by_transitions

__all__ = [
    "ASYMMETRIC_MAPS",
    "GENERATOR",
    "asymmetric",
    "by_transitions",
    "confidence_dependent",
    "pair_flip",
    "part_dependent",
    "part_dependent_probabilities",
    "symmetric",
    "transition_matrix",
]
