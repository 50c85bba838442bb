"""Kills inside the writing of a checkpoint: `python -m tests.proof checkpoints` in short."""

import pytest

from tests.proof.in_project import run_in_project


@pytest.mark.training  # as slow to start
def test_a_kill_inside_the_writing_of_a_checkpoint_loses_none():
    [row] = run_in_project("checkpoints", "ieg_fsr", tries=20, seed=1)
    assert row.failures == ()
    assert row.tried == 20
