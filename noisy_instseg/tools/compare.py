"""A table of the mask AP of several runs, and a picture of their curves.

    python tools/compare.py work_dirs/mask_rcnn_tiny_shapes_ce \
        work_dirs/mask_rcnn_tiny_shapes_nl_2 --plot comparison.png

A WORK_DIR is a run folder of tools/train.py or train_stages.py, or of another project here, or a
folder that holds such. See analysis/run_table.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# the repository: the script runs from any folder
sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from noisy_instseg.analysis.config import CompareFlags
from noisy_instseg.run.errors import exit_status
from noisy_instseg.run.flags import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    flags = parse(CompareFlags, argv)

    def work() -> None:
        from noisy_instseg.analysis import run_table

        run_table.report(flags.runs, flags.plot)

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
