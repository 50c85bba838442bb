"""`python -m tests.proof` in short: kills within a checkpoint and elsewhere, damaged files."""

import pytest

from tests.proof.in_project import run_in_project


@pytest.mark.training
@pytest.mark.parametrize(
    ("part", "tries"), [("checkpoints", 20), ("corruption", 1), ("kills", 1), ("ranks", 1)]
)
def test_nothing_is_lost(part, tries):
    rows = list(run_in_project(part, "re_sln", tries, seed=1))
    assert [failure for row in rows for failure in row.failures] == []
    assert {row.tried for row in rows} == {tries}
