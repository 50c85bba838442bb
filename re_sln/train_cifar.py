"""SLN, SLN+MO and SLN+MO+LC on noisy labels: stochastic label noise, EMA model, label correction.

Chen, Chen, Ye, Zhao, Heng, "Noise against noise: stochastic label noise helps combat inherent label
noise", ICLR 2021.

    python train_cifar.py --dataset_name digits --noise_mode sym --method sln_mo_lc  # a minute
    python train_cifar.py --dataset_name cifar10 --batch_size 128 --n_epochs 300 --lr 0.001 \
        --noise_mode sym --p 0.4 --sigma 1.0 --mo --lc_n_epoch 250 --seed 123        # re-sln's

    torchrun --nproc_per_node=4 -- train_cifar.py ...                  # on four GPUs together

The algorithm is in method/train.py, its formulas in method/losses.py; NOTES.md lists what differs
from the published code.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))  # the script runs from any folder

from re_sln.run.config import parse
from re_sln.run.errors import exit_status, leave
from re_sln.run.settings import Config

if TYPE_CHECKING:
    from re_sln.run.experiment import Experiment


def train(config: Config) -> "Experiment":
    """Builds or resumes a run, trains it, and reports what it came to; --export only the labels."""
    from re_sln.method.train import epochs
    from re_sln.run.checkpoint import note_last_good
    from re_sln.run.experiment import build
    from re_sln.run.label_quality import export
    from re_sln.run.report import recorder, report

    with build(config) as run:
        if config.export:
            export(run)
            return run
        sets = run.data.train_set, run.data.test_sets
        try:
            with recorder(run) as record:
                for row in epochs(run.learner, *sets, run.settings, run.next_epoch):
                    record(row)
        except FloatingPointError as error:
            note_last_good(error, run.folder)
            raise
        report(run)
    return run


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work; 3 for a loss that is not finite; 130 Ctrl-C."""
    return run("train_cifar", argv)


def run(script: str, argv: Sequence[str] | None) -> int:
    """What train_cifar.py and train_real.py do, each with flags of its own."""
    config = parse(script, argv)

    def work() -> None:
        from re_sln.run.launch import start_on

        start_on(config.gpu_devices)
        train(config)

    return exit_status(work, trains=not config.export)


if __name__ == "__main__":
    leave(main())
