"""Mutated annotations, read by the checks before training: `python -m tests.proof` in short."""

import pytest

from tests.proof.in_project import run_in_project


@pytest.mark.training  # as slow to start
def test_mutated_annotations_are_taken_or_refused_in_little_memory_and_time():
    [row] = run_in_project("annotations", "noisy_instseg", tries=100, seed=1)
    assert row.failures == ()
    assert row.tried == 100
