"""Is the data of a config all there? Says what is missing or wrong and how to fix it.

    python tools/check_data.py configs/cityscapes/mask_rcnn_r50_fpn_1x_cityscapes_nl_1.py \
        --data_root data/cityscapes

train.py makes the same checks, which are in run/data_checks.py, before it starts.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# the repository: the script runs from any folder
sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from noisy_instseg.run.config import CheckDataFlags
from noisy_instseg.run.errors import exit_status
from noisy_instseg.run.flags import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for data that cannot work, with a message."""
    flags = parse(CheckDataFlags, argv)

    def work() -> None:
        from noisy_instseg.run import datasets, experiment

        cfg = experiment.load(flags.config, flags.settings)
        for part in datasets.parts_of(cfg, ("train", "val")):
            print(f"{part.name}: {part.annotations} and its images are as the config expects them")

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
