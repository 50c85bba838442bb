"""Train both stages with one command: cross-entropy first, NewCombinationLoss from its last
checkpoint on.

Yang, Meng, Li, Wu, Cheng, "Learning with Noisy Class Labels for Instance Segmentation", ECCV 2020.

    python tools/train_stages.py configs/shapes/mask_rcnn_tiny_shapes_nl_1.py configs/shapes/mask_rcnn_tiny_shapes_nl_2.py

Equal, to the bit, to calling train.py twice; the same command again goes on where it was.
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
    args = options.parse(options.stages_parser(), argv)
    options.choose_device(args)
    from noisy_instseg import run  # mmengine; `--help` and wrong flags should not wait for it

    return run.run_and_report(
        lambda: run.train_stages(args),
        "interrupted; the same command goes on after the last whole epoch",
    )


if __name__ == "__main__":
    sys.exit(main())
