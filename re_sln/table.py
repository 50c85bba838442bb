"""The paper's table: {CIFAR-10, CIFAR-100} x {sym, asym, dependent} x {CE, SLN, SLN+MO, SLN+MO+LC}.

Chen, Chen, Ye, Zhao, Heng, "Noise against noise: stochastic label noise helps combat inherent label
noise", ICLR 2021; noise rate 0.4.

    python table.py                              # the 24 cells, 18 trainings of 300 epochs
    python table.py --dataset_name digits --n_epochs 20 --output_dir runs/table_digits  # 3 minutes

Re-running the command resumes what is unfinished, after a kill too. The grid is in
search/paper_grid.py.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))  # the script runs from any folder

from re_sln import train_cifar
from re_sln.run.config import parse_table
from re_sln.run.errors import exit_status
from re_sln.run.settings import Config


def train(config: Config, report: Callable[[dict[str, Any]], None]) -> None:
    """One training, or what is left of it; what it prints goes to log.txt in its folder."""
    assert config.output_dir is not None
    config.output_dir.mkdir(parents=True, exist_ok=True)
    with (
        open(config.output_dir / "log.txt", "a", buffering=1) as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        last = train_cifar.train(config).rows[-1]
    report({name: last[name] for name in ("accuracy_test_base", "accuracy_test_ema")})


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work; 3 for a loss that is not finite; 130 Ctrl-C."""
    config = parse_table(argv)

    def work() -> int:
        from re_sln.run.launch import alone_only
        from re_sln.search.paper_grid import fill

        alone_only("Ray spreads its trainings over the GPUs")
        return fill(config, train)

    return exit_status(work, trains=False)


if __name__ == "__main__":
    sys.exit(main())
