"""Jobs as tasks of a Ray that this machine starts."""

import pytest

from compare import ray_backend
from compare.run import failures
from shared.errors import UserError


@pytest.mark.parametrize(
    ("resources", "share"),
    [
        ({"CPU": 16.0, "GPU": 2.0}, {"num_gpus": 1, "num_cpus": 1}),
        ({"CPU": 8.0}, {"num_cpus": 2}),
        ({"CPU": 1.0}, {"num_cpus": 1}),
    ],
)
def test_what_a_task_gets(resources, share):
    assert ray_backend._share(resources) == share


@pytest.mark.training
def test_jobs_run_on_ray_and_a_failed_one_is_told(job):
    jobs = [job("--fail", 1, 1, seed=1), job("--fail", 1, 9, seed=2), job(seed=3)]
    lines = []
    outcomes = ray_backend.run_jobs(jobs, "local", lines.append)
    assert [outcome.status for outcome in outcomes] == [0, 1, 0]
    assert (jobs[0].folder / "starts").read_text() == "xx"
    assert "a reason to fail" in "\n".join(failures(outcomes))
    assert lines[0].startswith("Ray: 3 tasks")
    assert any(line.startswith("[3/3]") for line in lines)


def test_an_address_without_ray_is_refused():
    with pytest.raises(UserError, match=r"no Ray at 127\.0\.0\.1:9 .* leave --ray out"):
        ray_backend.run_jobs([], "127.0.0.1:9")
