"""Images that a run holds out, whose labels it believes: clean ones, where the truth is known.

A run of a comparison is described in the comparison's own words, which its table has, too; any
other one by its config.
"""

from typing import NamedTuple

from compare.methods import METHODS
from compare.plan import differences
from compare.question import read_task
from shared.errors import UserError
from shared.runs.files import number
from shared.runs.methods import IEG, LRA
from shared.runs.reader import Run


class HeldOut(NamedTuple):
    """What a run is told that others are not."""

    text: str
    are_clean: bool  # true labels among noisy ones, which a user may not have


def of_run(run: Run, knows_truth: bool) -> HeldOut | None:
    """None: it holds nothing out. knows_truth: whether the true labels are recorded."""
    key = run.folder.name.partition("-")[0]  # see compare.plan
    if key in METHODS:
        try:
            task = read_task(run.folder.parent)
        except UserError:
            pass  # not in a comparison
        else:
            text = differences(task, [METHODS[key]]).get(key)
            return None if text is None else HeldOut(text, task.noise_file is not None)
    whose = "clean" if knows_truth else "given"
    share = number(run.config.get("probe_dataset_hold_ratio"))
    if run.project == IEG and run.method in ("l2r", "ieg") and share:
        return HeldOut(
            f"trusts {share:.1%} of the images with {whose} labels, held out", knows_truth
        )
    if run.project == LRA and run.config.get("no_validation") is False:
        return HeldOut(f"a part of the images validates, with {whose} labels", knows_truth)
    return None
