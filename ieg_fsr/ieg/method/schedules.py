"""Learning rates and when a run is evaluated, as pure functions of the iteration.

So a resumed run needs no counters. A step s counts updates that are done; training iteration
i = s + 1 uses the rate of s.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

SCHEDULES = ("cosine", "custom_step", "cosine_warmup", "exponential", "cosine_one")
EXPONENTIAL_RATE = 0.9  # of every `decay_steps` steps; the published code has it as a constant
EPOCHLY = 500  # the value of --eval_freq that stands for once per epoch


@dataclass(frozen=True)
class Plan:
    """When what happens in a run."""

    iter_epoch: int  # steps of an epoch
    max_iteration: int  # the last one
    learning_rate: Callable[[int], float]  # of the steps done
    evaluations: Collection[int]  # iterations after which the run is evaluated and saved

    @property
    def judged_from(self) -> int:
        """Steps done before those whose weights judge the samples.

        These are the last third, or the last two passes where that is more: so every sample is met.
        """
        two_passes = 2 * (self.iter_epoch + 1)
        return max(0, self.max_iteration - max(-(-self.max_iteration // 3), two_passes))


def learning_rate(
    name: str,
    base: float,
    *,
    iter_epoch: int,
    max_iteration: int,
    decay_steps: Sequence[int],
    decay_rate: float = 0.1,
    t_mul: float = 1.5,
    m_mul: float = 0.9,
    warmup_epochs: int = 0,
) -> Callable[[int], float]:
    """The learning rate as a function of the step s >= 0.

    name: one of SCHEDULES; decay_steps: iterations, rising.
    """
    if name == "custom_step":
        return lambda step: (
            base * decay_rate ** sum(step + 1 >= boundary for boundary in decay_steps)
        )
    if name == "exponential":
        return lambda step: base * EXPONENTIAL_RATE ** (step // decay_steps[0])
    if name == "cosine_one":
        return lambda step: (
            base * 0.5 * (1.0 + math.cos(math.pi * min(step, max_iteration) / max_iteration))
        )
    warm_up = iter_epoch * warmup_epochs
    # `cosine` restarts after whole epochs whatever --decay_steps says, as published.
    first = iter_epoch if name == "cosine" else decay_steps[0]

    def cosine(step: int) -> float:
        if step < warm_up:
            return base * step / warm_up
        return base * cosine_restarts(step - warm_up, first, t_mul, m_mul)

    return cosine


def cosine_restarts(step: int, first: int, t_mul: float, m_mul: float) -> float:
    """SGDR (Loshchilov & Hutter, ICLR 2017): half a cosine from 1 to 0 in `first` steps, repeated.

    Every cycle is t_mul times longer than the one before and starts m_mul times lower.
    """
    done = step / first
    if t_mul == 1.0:
        cycle = math.floor(done)
        fraction = done - cycle
    else:
        passed = math.log(1.0 - done * (1.0 - t_mul)) / math.log(t_mul)
        cycle = math.floor(passed + 1e-9)  # a step right at a restart counts as restarted
        begun = (1.0 - t_mul**cycle) / (1.0 - t_mul)
        fraction = (done - begun) / t_mul**cycle
    return m_mul**cycle * 0.5 * (1.0 + math.cos(math.pi * fraction))


# DEVIATION(ieg_fsr): ends of cosine cycles follow from the iteration, so a resumed run is evaluated
# at them as well; the original's counters start again.
def cycle_ends(iter_epoch: int, t_mul: float, warm_up: int, last: int) -> Iterator[int]:
    """Iterations up to `last` at which a cycle of the cosine schedule ends, and the very first."""
    total, length = 1, iter_epoch
    while (iteration := warm_up + max(1, total - 1)) <= last:
        yield iteration
        total += length
        length = max(1, round(length * t_mul))


def evaluations(
    max_iteration: int,
    *,
    eval_freq: int,
    iter_epoch: int,
    schedule: str,
    t_mul: float,
    warmup_epochs: int,
) -> list[int]:
    """Every iteration after which the run is evaluated and saved, ascending.

    These are the first, the last, the regular ones and the ends of cycles.
    """
    # DEVIATION(ieg_fsr): the last iteration is always evaluated and saved; in the original, what
    # follows the last regular evaluation is lost.
    every = iter_epoch if eval_freq == EPOCHLY else eval_freq
    due = {1, max_iteration, *range(every, max_iteration + 1, every)}
    if schedule == "cosine":
        due.update(cycle_ends(iter_epoch, t_mul, iter_epoch * warmup_epochs, max_iteration))
    return sorted(due)
