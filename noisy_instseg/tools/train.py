"""Train Mask R-CNN with noisy class labels; mmdetection 2.2's command line.

Yang, Meng, Li, Wu, Cheng, "Learning with Noisy Class Labels for Instance Segmentation", ECCV 2020.

    python tools/train.py configs/shapes/mask_rcnn_tiny_shapes_nl_1.py
    python tools/train.py configs/shapes/mask_rcnn_tiny_shapes_nl_2.py \
        --resume-from work_dirs/mask_rcnn_tiny_shapes_nl_1/epoch_6.pth            # stage 2; train_stages.py does both

What differs from the published code is listed in README.md; the run is in run.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[2])
)  # the repository: the script runs from any folder

from noisy_instseg import options


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message; 3 for a loss that is not
    finite.
    """
    args = options.parse(options.train_parser(), argv)
    options.choose_device(args)
    from noisy_instseg import run  # mmengine; `--help` and wrong flags should not wait for it

    return run.run_and_report(
        lambda: run.train(args),
        "interrupted; the same command with --resume goes on after the last whole epoch",
    )


if __name__ == "__main__":
    sys.exit(main())
