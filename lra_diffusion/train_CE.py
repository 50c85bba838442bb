"""Plain cross-entropy on noisy labels: what a network learns without label retrieval.

Network, batch size, number of epochs and augmentation are those of LRA-diffusion's diffusion
encoder (train_CIFAR.py); the optimizer is the usual one of CIFAR classifiers: SGD from 0.1 along a
cosine, momentum 0.9, weight decay 5e-4.

    python train_CE.py --noise_type cifar10-1-0.35 --device cuda:0
    python train_CE.py --noise_type digits-1-0.35    # two minutes on two CPU cores

The loop is in method/classifier.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# The repository: the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from lra_diffusion.run.config import parse_ce
from lra_diffusion.run.errors import exit_status, leave
from lra_diffusion.run.schema import CEConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 2 for input that cannot work, 3 for a loss that is not finite."""

    def work() -> int | None:
        config = parse_ce(argv)
        if config.export:
            return exit_status(lambda: export(config), trains=False)

        from lra_diffusion.method.classifier import epochs
        from lra_diffusion.run.baseline import build
        from lra_diffusion.run.verdict import judge

        with build(config) as run:
            run.print_start()
            first = run.folder.next_epoch
            rows = epochs(run.learner, run.train_set, run.test_sets, run.settings, first)
            for row in run.folder.progress(rows, config.nepoch):
                run.record(row)
            run.print_end()
            judge(run)
        return None

    return exit_status(work)


def export(config: CEConfig) -> None:
    from lra_diffusion.run import verdict
    from lra_diffusion.run.baseline import build

    with build(config) as run:
        verdict.export(run)


if __name__ == "__main__":
    leave(main())
