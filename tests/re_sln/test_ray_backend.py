"""What each of many trainings gets of the machines."""

import pytest

from re_sln.search.ray_backend import Share, share_out


@pytest.mark.parametrize(
    ("nodes", "jobs", "device", "at_once", "share"),
    [
        ([{"CPU": 8}], 4, "auto", None, Share(4, 2, 0)),
        ([{"CPU": 1}, {"CPU": 1}], 4, "auto", None, Share(2, 1, 0)),
        ([{"CPU": 1}, {"CPU": 5}], 4, "cpu", 2, Share(2, 2, 0)),
        ([{}, {"CPU": 4}], 18, "auto", None, Share(4, 1, 0)),
        ([{"CPU": 16, "GPU": 1}], 4, "auto", None, Share(1, 16, 1)),
        ([{"CPU": 16, "GPU": 1}], 4, "cuda", 4, Share(4, 4, 0.25)),
        ([{"CPU": 4, "GPU": 2}, {"CPU": 8}], 4, "auto", None, Share(2, 2, 1)),
        ([{"CPU": 8, "GPU": 2}], 4, "cpu", None, Share(4, 2, 0)),
    ],
)
def test_what_each_trial_gets(nodes, jobs, device, at_once, share) -> None:
    assert share_out(nodes, jobs, device, at_once) == share
