"""Evaluate a checkpoint on the validation set; mmdetection 2.2's command line.

Yang, Meng, Li, Wu, Cheng, "Learning with Noisy Class Labels for Instance Segmentation", ECCV 2020.

    python tools/test.py configs/shapes/mask_rcnn_tiny_shapes_nl_2.py \
        work_dirs/mask_rcnn_tiny_shapes_nl_2/latest.pth --eval bbox segm

The mask AP is printed at the end, all metrics go to <checkpoint>.metrics.json beside the checkpoint
or into --work-dir.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# the repository: the script runs from any folder
sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from noisy_instseg.run.config import EvaluateFlags
from noisy_instseg.run.device import prepare_environment
from noisy_instseg.run.errors import exit_status, leave
from noisy_instseg.run.flags import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    flags = parse(EvaluateFlags, argv)
    prepare_environment(flags.settings)

    def work() -> None:
        from noisy_instseg.run import evaluation

        runner = evaluation.build(flags)
        evaluation.report(runner.test(), flags)

    return exit_status(work)


if __name__ == "__main__":
    leave(main())
