"""`python -m tests.proof` in short: kills inside the writing of a checkpoint, damaged files."""

import pytest

from tests.proof.in_project import run_in_project


@pytest.mark.training
@pytest.mark.parametrize(("part", "tries"), [("checkpoints", 20), ("corruption", 1)])
def test_nothing_is_lost(part, tries):
    rows = list(run_in_project(part, "instancegm", tries, seed=1))
    assert [failure for row in rows for failure in row.failures] == []
    assert {row.tried for row in rows} == {tries}
