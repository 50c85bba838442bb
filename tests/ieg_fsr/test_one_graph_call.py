"""A step of training is one call of a graph, and its figures are read every ten steps.

So a GPU never waits for the program between two steps.
"""

from dataclasses import replace

import pytest
from conftest import METHODS, TINY
from tensorflow.python.framework import op_callbacks, ops  # what runs; there is no public way

from ieg.method.train import READ_EVERY, train
from ieg.run.config import parse
from ieg.run.experiment import build
from ieg.run.recording import Recording

STEPS = 2 * READ_EVERY + 5  # two epochs and a half
STEP, FETCH = "a step", "a fetch"
BATCH = ["IteratorGetNext"]
# FSR draws from the ids in its queue, a variable of the host.
BETWEEN = dict.fromkeys(METHODS, BATCH) | {"fsr": [*BATCH, "ReadVariableOp", "Identity", FETCH]}

pytestmark = pytest.mark.training


@pytest.fixture
def happenings(monkeypatch):
    """What happens outside of graphs, in order: operations by name, and FETCH for a wait."""
    found = []

    def note(kind, inputs, attrs, outputs, op_name=None, graph=None):
        if graph is None:
            found.append(kind.decode() if isinstance(kind, bytes) else kind)

    fetched = ops._EagerTensorBase._numpy
    monkeypatch.setattr(
        ops._EagerTensorBase, "_numpy", lambda tensor: found.append(FETCH) or fetched(tensor)
    )
    op_callbacks.add_op_callback(note)
    yield found
    op_callbacks.remove_op_callback(note)


@pytest.mark.parametrize("method", METHODS)
def test_between_two_steps_there_is_the_next_batch_and_nothing_else(
    method, happenings, monkeypatch, tmp_path
):
    flags = [*TINY, f"--method={method}", f"--max_iteration={STEPS}", f"--output_dir={tmp_path}"]
    run = build(parse([*flags, "--verbose_finer_log"]))
    step = run.trainer.step
    monkeypatch.setattr(run.trainer, "step", lambda *args: happenings.append(STEP) or step(*args))
    with Recording(run, 0) as recording:
        for progress in train(
            run.trainer,
            run.batches(0),
            replace(run.plan, evaluations=set()),
            run.evaluate,
            done=0,
            queue_order=run.queue_order(),
        ):
            recording.record(progress)
    assert step.experimental_get_tracing_count() == 1
    after = split(happenings)
    assert len(after) == STEPS
    for iteration, found in enumerate(after[:-1], 1):
        [compiled] = [name for name in found if name.startswith("__inference__step")]
        if iteration == 1 or iteration % READ_EVERY == 0:
            assert FETCH in found
        elif run.trainer.weight_counts is not None and iteration == run.plan.judged_from:
            assert FETCH not in found  # the counts start anew, which is some operations
        else:
            assert sorted(found) == sorted([compiled, *BETWEEN[method]]), iteration


def split(happenings):
    """What happens after each step began, until the next one begins."""
    begins = [place for place, name in enumerate(happenings) if name == STEP]
    return [happenings[start + 1 : end] for start, end in zip(begins, [*begins[1:], None])]
