"""How good a feature space f_p is: accuracy of k nearest neighbours with clean labels.

Chen et al., "Label-Retrieval-Augmented Diffusion Models for Learning from Noisy Labels", NeurIPS
2023.

    python KNN_test.py --data cifar10 --fp_encoder SimCLR --k 10    # the original's command line
    python KNN_test.py --data digits --fp_encoder SimCLR            # after train_SimCLR.py

The bank is the training part (CIFAR: the first 45,000 images), the queries are the test images.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# The repository: the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from lra_diffusion.run.errors import exit_status
from lra_diffusion.run.tool_config import parse_knn


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""

    def work() -> None:
        config = parse_knn(argv)

        from lra_diffusion.analysis.feature_space import measure
        from lra_diffusion.run.launch import alone_only

        alone_only("it looks at each image once")
        measure(config)

    return exit_status(work, trains=False)


if __name__ == "__main__":
    sys.exit(main())
