"""Pictures of a finished run: how right the retrieved labels are, how test labels emerge.

    python plot.py runs/LRA-diffusion_SimCLR_digits-1-0.35_2026-11-21_08-30-47

Writes retrieval.png (where the clean labels are known) and trajectories.png into the run folder, or
into --out. Data and weights are where the run found them; flags name places that changed since.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# The repository: the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from lra_diffusion.run.errors import exit_status
from lra_diffusion.run.tool_config import parse_plot


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""

    def work() -> None:
        run, out, moved = parse_plot(argv)

        from lra_diffusion.analysis.pictures import draw
        from lra_diffusion.run.launch import alone_only

        alone_only("it draws")
        draw(run, out, moved)

    return exit_status(work, trains=False)


if __name__ == "__main__":
    sys.exit(main())
