"""LRA-diffusion on CIFAR-10, CIFAR-100, digits or your own images with noisy labels.

Chen et al., "Label-Retrieval-Augmented Diffusion Models for Learning from Noisy Labels", NeurIPS
2023.

    python train_CIFAR.py --device cuda:0 --noise_type cifar10-1-0.35 --fp_encoder SimCLR
    python train_CIFAR.py --noise_type digits-1-0.35    # two minutes on two CPU cores

(the latter after make_pmd.py and train_SimCLR.py). The algorithm is in method/train.py; what
differs from the published code is listed in NOTES.md.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# The repository: the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from lra_diffusion.run.config import parse
from lra_diffusion.run.errors import exit_status, leave
from lra_diffusion.run.schema import TrainConfig


# DEVIATION(lra_diffusion): a training script trains; the original's for Food-101N, Clothing1M and
# WebVision load a finished model first and fail without it, and that for Clothing1M then only tests
# it.
def run(script: str, argv: Sequence[str] | None) -> int:
    """Trains, or tests with --eval_only, or exports; the other datasets' scripts call this too."""

    def work() -> int | None:
        config = parse(script, argv)

        from lra_diffusion.run.launch import start_on

        if config.device == "auto":  # which else wins
            start_on(config.gpu_devices)
        if config.eval_only:
            return exit_status(lambda: evaluate(config), trains=False)
        if config.export:
            return exit_status(lambda: export(config), trains=False)

        from lra_diffusion.method.train import train
        from lra_diffusion.run.experiment import build
        from lra_diffusion.run.verdict import judge

        with build(config) as run:
            run.print_start()
            first = run.folder.next_epoch
            rows = train(run.learner, run.train_set, run.test_sets, config, first)
            for row in run.folder.progress(rows, config.nepoch):
                run.record(row)
            run.print_end()
            judge(run)
        return None

    return exit_status(work, trains=script != "test_ILSVRC2012")


def evaluate(config: TrainConfig) -> None:
    from lra_diffusion.run.finished import evaluate_model

    evaluate_model(config)


def export(config: TrainConfig) -> None:
    from lra_diffusion.run import verdict
    from lra_diffusion.run.experiment import build

    with build(config) as run:
        verdict.export(run)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 2 for input that cannot work, 3 for a loss that is not finite."""
    return run("train_CIFAR", argv)


if __name__ == "__main__":
    leave(main())
