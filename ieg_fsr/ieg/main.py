"""IEG, FSR, L2R and plain cross-entropy on noisy labels and imbalanced classes.

Zhang, Zhang, Arik, Lee, Pfister, "Distilling Effective Supervision from Severe Label Noise", CVPR
2020 (IEG). Zhang, Pfister, "Learning Fast Sample Re-weighting Without Reward Data", ICCV 2021
(FSR). Ren, Zeng, Yang, Urtasun, "Learning to Reweight Examples for Robust Deep Learning", ICML 2018
(L2R).

    cd ieg_fsr
    python -m ieg.main --dataset=cifar100_uniform_0.4 --network_name=wrn28-10 --checkpoint_path=runs
    python -m ieg.main --dataset=digits_uniform_0.6 --network_name=wrn10-1 --method=l2r --max_iteration=400

The second command needs no download. What differs from the published code is listed in NOTES.md;
the loop is in method/train.py, the update rules are in method/step_*.py.
"""  # noqa: E501

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

# Where the package is, to be run by path from anywhere.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))
# TensorFlow is verbose; its errors come as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow takes oneDNN's convolutions by itself only where the CPU has AVX512-VNNI, and they are
# faster on others too (NOTES.md, Speed).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from ieg.run.errors import exit_status, importing


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work; 3 for a loss that is not finite."""
    return exit_status(partial(work, argv))


def work(argv: Sequence[str] | None) -> None:
    """Build, train, report."""
    with importing():
        from ieg.run.config import parse

    config = parse(argv)  # TensorFlow takes seconds to import, and --help should not wait for it

    with importing():
        from ieg.method.train import train
        from ieg.run.devices import plain_errors
        from ieg.run.experiment import build
        from ieg.run.label_quality import export
        from ieg.run.recording import Recording
        from ieg.run.report import print_end, print_evaluation, print_start

    with plain_errors():
        run = build(config)
        if config.mode == "evaluation":
            return print_evaluation(run, run.restore_to_evaluate())
        with run.alone():
            if config.export is not None:
                return export(run)
            done = run.resume()
            print_start(run, done)
            with Recording(run, done) as recording:
                for progress in train(
                    run.trainer,
                    run.batches(done),
                    run.plan,
                    run.evaluate,
                    done=done,
                    queue_order=run.queue_order(),
                ):
                    recording.record(progress)
                recording.finish()
            print_end(run)


if __name__ == "__main__":
    sys.exit(main())
