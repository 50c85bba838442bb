"""Train both stages with one command: cross-entropy, then NewCombinationLoss from its checkpoint.

Yang, Meng, Li, Wu, Cheng, "Learning with Noisy Class Labels for Instance Segmentation", ECCV 2020.

    python tools/train_stages.py configs/shapes/mask_rcnn_tiny_shapes_nl_1.py \
        configs/shapes/mask_rcnn_tiny_shapes_nl_2.py

Equal, to the bit, to calling train.py twice; re-running the command resumes it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# the repository: the script runs from any folder
sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from noisy_instseg.run.config import StagesFlags
from noisy_instseg.run.device import prepare_environment
from noisy_instseg.run.errors import exit_status, leave
from noisy_instseg.run.flags import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work; 3 for a loss that is not finite."""
    flags = parse(StagesFlags, argv)
    prepare_environment(flags.settings)

    def work() -> None:
        from noisy_instseg.run import training

        with training.stages_of(flags) as stages:
            for cfg, checkpoint in stages:
                training.build(cfg, checkpoint).train()
                training.report(cfg)

    return exit_status(work, "interrupted; the same command continues after the last whole epoch")


if __name__ == "__main__":
    leave(main())
