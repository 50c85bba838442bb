"""Evaluate a checkpoint on the validation set; mmdetection 2.2's command line.

Yang, Meng, Li, Wu, Cheng, "Learning with Noisy Class Labels for Instance Segmentation", ECCV 2020.

    python tools/test.py configs/shapes/mask_rcnn_tiny_shapes_nl_2.py work_dirs/mask_rcnn_tiny_shapes_nl_2/latest.pth \
        --eval bbox segm

The mask AP is printed at the end, all metrics go to <checkpoint>.metrics.json beside the checkpoint
or into --work-dir.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[2])
)  # the repository: the script runs from any folder

from noisy_instseg import options


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    args = options.parse(options.test_parser(), argv)
    options.choose_device(args)
    from noisy_instseg import (  # mmengine; `--help` and wrong flags should not wait for it
        evaluate,
        run,
    )

    return run.run_and_report(lambda: evaluate.evaluate(args))


if __name__ == "__main__":
    sys.exit(main())
