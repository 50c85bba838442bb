"""Train Mask R-CNN with noisy class labels; mmdetection 2.2's command line.

Yang, Meng, Li, Wu, Cheng, "Learning with Noisy Class Labels for Instance Segmentation", ECCV 2020.

    python tools/train.py configs/shapes/mask_rcnn_tiny_shapes_nl_1.py
    # stage 2; train_stages.py does both
    python tools/train.py configs/shapes/mask_rcnn_tiny_shapes_nl_2.py \
        --resume-from work_dirs/mask_rcnn_tiny_shapes_nl_1/epoch_6.pth

The paper's loss is in losses.py and named by the config; the loop is mmengine's. What differs from
the published code is listed in NOTES.md.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# the repository: the script runs from any folder
sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from noisy_instseg.run.config import TrainFlags
from noisy_instseg.run.device import prepare_environment
from noisy_instseg.run.errors import exit_status, leave
from noisy_instseg.run.flags import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work; 3 for a loss that is not finite."""
    flags = parse(TrainFlags, argv)
    prepare_environment(flags.settings)

    def work() -> None:
        from noisy_instseg.run import experiment, run_folder, training

        cfg = experiment.load(flags.config, flags.settings, trains=True)
        with run_folder.locked(training.place(cfg, flags)):
            start = training.start_of(cfg, flags)
            if start.is_done:
                return print(f"the run is done: {start.checkpoint}")
            runner = training.build(cfg, start.checkpoint)
            runner.train()
            training.report(cfg)

    again = "the same command with --resume"
    return exit_status(work, f"interrupted; {again} continues after the last whole epoch", again)


if __name__ == "__main__":
    leave(main())
