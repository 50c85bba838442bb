"""Is the data of a config all there? Says what is missing or wrong and how to mend it, or what was
found.

    python tools/check_data.py configs/cityscapes/mask_rcnn_r50_fpn_1x_cityscapes_nl_1.py --data_root data/cityscapes

train.py makes the same checks, which are in data_checks.py, before it starts.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[2])
)  # the repository: the script runs from any folder

from noisy_instseg import experiment
from noisy_instseg.command_line import report_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for data that cannot work, with a message."""
    parser = argparse.ArgumentParser(
        description="Check the images and annotations of a config.", allow_abbrev=False
    )
    parser.add_argument("config", type=Path, help="config file")
    parser.add_argument(
        "--data_root", type=Path, help="folder of the data set, in place of the config's data_root"
    )
    parser.add_argument(
        "--noise_file", type=Path, help="annotations to train on, in place of the config's"
    )
    args = parser.parse_args(argv)

    def check() -> None:
        cfg = experiment.load(args.config, args)
        for name in ("train", "val"):
            for dataset in experiment.datasets_of(cfg[f"{name}_dataloader"].dataset):
                print(
                    f"{name}: {experiment.annotation_file(dataset)} and its images are as the "
                    "config expects them"
                )

    return report_errors(check)


if __name__ == "__main__":
    sys.exit(main())
