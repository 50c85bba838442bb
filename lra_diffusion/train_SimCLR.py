"""SimCLR pre-training of the encoder f_p on a dataset's 32-pixel images, without labels.

Chen, Kornblith, Norouzi & Hinton, "A simple framework for contrastive learning of visual
representations", ICML 2020.

    python train_SimCLR.py --dataset cifar10    # the usual recipe, 500 epochs: for a GPU
    python train_SimCLR.py --dataset digits     # about a minute on two CPU cores, no download

Writes model/SimCLR_128_<dataset>.pt, where the other scripts look for it. The original has no such
script: it ships weights for CIFAR, and how they were made is not known. The loop is in
encoders/simclr.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# The repository: the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from lra_diffusion.run.errors import exit_status
from lra_diffusion.run.tool_config import parse_simclr


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 2 for input that cannot work, 3 for a loss that is not finite."""

    def work() -> None:
        config = parse_simclr(argv)

        from lra_diffusion.encoders.simclr import train
        from lra_diffusion.run.launch import alone_only
        from lra_diffusion.run.pretraining import build

        alone_only("its loss compares all images of a batch")
        with build(config) as run:
            run.print_start()
            first, judge = run.folder.next_epoch, run.knn_accuracy
            rows = train(run.learner, run.images, run.augment, run.settings, judge, first)
            for row in run.folder.progress(rows, config.nepoch):
                run.record(row)
            run.finish()

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
