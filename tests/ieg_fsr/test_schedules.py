"""Learning rates and evaluations, against loops that count what the formulas leap over."""

import math

import pytest

from ieg.method import schedules

COMMON = {"iter_epoch": 10, "max_iteration": 100, "decay_steps": [7]}


def restarts_by_counting(first, t_mul, m_mul, steps):
    """Half cosines one after another; `position` counts steps inside the present one."""
    length, height, position, found = float(first), 1.0, 0.0, []
    for _ in range(steps):
        if position >= length - 1e-6:
            position -= length
            length, height = length * t_mul, height * m_mul
        found.append(height * (1 + math.cos(math.pi * position / length)) / 2)
        position += 1
    return found


@pytest.mark.parametrize(
    ("first", "t_mul", "m_mul"),
    [(10, 1.5, 0.9), (10, 2.0, 0.9), (7, 1.0, 0.8), (490, 1.5, 0.9), (3, 1.2, 1.0)],
)
def test_warm_restarts_equal_a_loop(first, t_mul, m_mul):
    expected = restarts_by_counting(first, t_mul, m_mul, 40 * first if first < 100 else 5 * first)
    found = [schedules.cosine_restarts(step, first, t_mul, m_mul) for step in range(len(expected))]
    assert found == pytest.approx(expected, abs=1e-6)


def test_cosine_restarts_after_whole_epochs_whatever_decay_steps_say():
    rate = schedules.learning_rate("cosine", 0.1, **COMMON, t_mul=2.0, m_mul=0.5)
    found = [rate(step) for step in (0, 5, 10, 20, 30, 70)]
    assert found == pytest.approx([0.1, 0.05, 0.05, 0.025, 0.025, 0.0125])


def test_cosine_warmup_restarts_after_the_first_decay_step():
    rate = schedules.learning_rate("cosine_warmup", 0.1, **COMMON, t_mul=1.0, m_mul=0.5)
    assert [rate(step) for step in (0, 7, 14)] == pytest.approx([0.1, 0.05, 0.025])


@pytest.mark.parametrize(("name", "first"), [("cosine", 10), ("cosine_warmup", 7)])
def test_warm_up_rises_from_0_and_shifts_the_cosine(name, first):
    rate = schedules.learning_rate(name, 0.2, **COMMON, t_mul=1.5, m_mul=0.9, warmup_epochs=3)
    plain = schedules.learning_rate(name, 0.2, **COMMON, t_mul=1.5, m_mul=0.9)
    assert [rate(step) for step in range(30)] == pytest.approx(
        [0.2 * step / 30 for step in range(30)]
    )
    assert [rate(30 + step) for step in range(3 * first)] == pytest.approx(
        [plain(step) for step in range(3 * first)]
    )


@pytest.mark.parametrize("name", ["custom_step", "exponential", "cosine_one"])
def test_the_other_schedules_know_no_warm_up(name):
    with_it, without = (
        schedules.learning_rate(name, 0.1, **COMMON, warmup_epochs=epochs) for epochs in (5, 0)
    )
    assert [with_it(step) for step in range(100)] == [without(step) for step in range(100)]


def test_custom_step_falls_in_the_iteration_that_is_named():
    rate = schedules.learning_rate(
        "custom_step", 1.0, **{**COMMON, "decay_steps": [3, 6]}, decay_rate=0.5
    )
    base, expected = 1.0, []
    for iteration in range(1, 9):  # as published: counted from 1, changed before the iteration runs
        base = {3: 0.5, 6: 0.25}.get(iteration, base)
        expected.append(base)
    assert [rate(iteration - 1) for iteration in range(1, 9)] == expected


def test_the_long_tail_script_trains_at_three_rates():
    """CIFAR-10 at factor 0.02: 13,996 images in batches of 128.

    Epochs 160 and 180 of 200, --decay_rate=0.01.
    """
    iter_epoch = 13_996 // 128
    rate = schedules.learning_rate(
        "custom_step",
        0.1,
        iter_epoch=iter_epoch,
        max_iteration=200 * iter_epoch,
        decay_steps=[160 * iter_epoch, 180 * iter_epoch],
        decay_rate=0.01,
    )
    for epoch, before, after in ((160, 0.1, 1e-3), (180, 1e-3, 1e-5)):
        iteration = epoch * iter_epoch
        assert rate(iteration - 2) == pytest.approx(before)
        assert rate(iteration - 1) == pytest.approx(after)
    assert (rate(0), rate(200 * iter_epoch - 1)) == pytest.approx((0.1, 1e-5))


def test_exponential_falls_by_a_tenth_every_decay_steps():
    rate = schedules.learning_rate("exponential", 0.1, **COMMON, decay_rate=0.5)
    assert [rate(step) for step in (0, 6, 7, 13, 14, 70)] == pytest.approx(
        [0.1, 0.1, 0.09, 0.09, 0.081, 0.1 * 0.9**10]
    )


def test_cosine_one_reaches_0_at_the_end_and_stays_there():
    rate = schedules.learning_rate("cosine_one", 0.1, **COMMON)
    found = [rate(step) for step in (0, 50, 100, 150)]
    assert found == pytest.approx([0.1, 0.05, 0.0, 0.0], abs=1e-12)
    assert rate(25) == pytest.approx(0.05 * (1 + math.sqrt(0.5)))


def evaluations(max_iteration, **changed):
    flags = {
        "eval_freq": 1000,
        "iter_epoch": 4,
        "schedule": "cosine",
        "t_mul": 1.5,
        "warmup_epochs": 0,
    }
    return schedules.evaluations(max_iteration, **{**flags, **changed})


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        # Cycles of 4, 6, 9, 14 (13.5 to the even neighbour), 21 steps end at 4, 10, 19, 33, 54.
        ({}, [1, 4, 10, 19, 33, 54, 60]),
        ({"t_mul": 2.0}, [1, 4, 12, 28, 60]),
        ({"t_mul": 1.0, "iter_epoch": 25}, [1, 25, 50, 60]),
        ({"iter_epoch": 5}, [1, 5, 13, 25, 43, 60]),  # 5, 8 (7.5), 12, 18, 27
        # The first step after the warm-up, then as above, 8 later.
        ({"warmup_epochs": 2}, [1, 9, 12, 18, 27, 41, 60]),
        ({"schedule": "cosine_one"}, [1, 60]),
        ({"schedule": "custom_step", "eval_freq": 20}, [1, 20, 40, 60]),
        ({"eval_freq": 25}, [1, 4, 10, 19, 25, 33, 50, 54, 60]),
        # 500 is once per epoch.
        ({"schedule": "exponential", "eval_freq": 500, "iter_epoch": 24}, [1, 24, 48, 60]),
    ],
    ids=str,
)
def test_evaluations_of_60_steps(flags, expected):
    assert evaluations(60, **flags) == expected


def test_a_short_run_is_evaluated_at_its_first_and_last_step():
    assert evaluations(1) == [1]
    assert evaluations(3) == [1, 3]


def test_evaluations_as_published_by_counting():
    """The two counters of the published loop, step after step."""
    for iter_epoch, t_mul, warmup_epochs in ((7, 1.5, 0), (3, 2.0, 1), (10, 1.2, 3)):
        total, length, expected = 1, iter_epoch, set()
        for iteration in range(1, 301):
            if iteration - iter_epoch * warmup_epochs == max(1, total - 1):
                expected.add(iteration)
                total += length
                length = max(1, round(length * t_mul))
        found = evaluations(300, iter_epoch=iter_epoch, t_mul=t_mul, warmup_epochs=warmup_epochs)
        assert found == sorted(expected | {1, 300}), (iter_epoch, t_mul)
