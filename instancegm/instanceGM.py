"""InstanceGM: instance-dependent noisy label learning via graphical modelling.

Garg, Nguyen, Felix, Do, Carneiro, WACV 2023, arXiv 2209.00906.

    python instanceGM.py --r 0.5                     # CIFAR-10, the paper's setting
    python instanceGM.py --dataset digits --r 0.4    # three minutes on two CPU cores, no download

The algorithm is in `method/train.py`. What differs from the published code is listed in NOTES.md;
by default the arithmetic of the method is the same.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# The repository, so that the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from instancegm.run.config import parse
from instancegm.run.errors import exit_status, leave


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work; 3 for a loss that is not finite."""
    return run("instanceGM", argv)


def run(script: str, argv: Sequence[str] | None) -> int:
    """What each of the paper's four scripts does, with its own flags and presets."""
    config = parse(sys.argv[1:] if argv is None else argv, script)

    def work() -> None:
        from tqdm import tqdm

        from instancegm.method.signs import SILENT, SignsOfLife
        from instancegm.method.train import train
        from instancegm.run.evaluate import evaluate
        from instancegm.run.experiment import build, device_of
        from instancegm.run.folder import RunFolder
        from instancegm.run.launch import alone_only, joined, start_on
        from instancegm.run.report import export, report

        if config.evaluate:
            alone_only("--evaluate looks at test images once")
            return evaluate(config.evaluate, config, SignsOfLife())
        start_on(config.gpu_devices)
        with joined(device_of(config)) as ranks:
            signs = SignsOfLife() if ranks.is_first else SILENT
            run = build(config, signs, ranks)
            with RunFolder(run) as folder:
                if config.export:
                    return export(run, signs)
                epochs = train(
                    run.peers,
                    run.train_set,
                    run.tests,
                    run.config,
                    run.history,
                    run.next_epoch,
                    signs,
                )
                total, first = run.config.num_epochs + 1, run.next_epoch
                for row in tqdm(epochs, "epochs", total, initial=first, disable=None):
                    folder.record(row)
                report(run, signs)

    return exit_status(work, trains=not (config.evaluate or config.export))


if __name__ == "__main__":
    leave(main())
