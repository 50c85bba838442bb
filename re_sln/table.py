"""The results table of the paper: {CIFAR-10, CIFAR-100} x {sym, asym, dependent} x {CE, SLN,
SLN+MO, SLN+MO+LC} at rate 0.4.

Chen, Chen, Ye, Zhao, Heng, "Noise against noise: stochastic label noise helps combat inherent label
noise", ICLR 2021.

    python table.py                                                          # the 24 cells, 18 trainings of 300 epochs
    python table.py --dataset_name digits --n_epochs 20 --output_dir runs/table_digits       # three minutes on two cores

A run of SLN+MO logs the network and its momentum model, so it fills the cells of SLN and SLN+MO
both: 18 trainings make the 24 cells. Each is an ordinary run folder of train_cifar.py; the same
command continues what is unfinished, after a kill too.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

from re_sln import checkpoint, options, ray_backend, report, run
from re_sln.experiment import DECIDING_FLAGS, prepare
from re_sln.train import Row
from shared import datasets
from shared.files import write_atomically

RATE = 0.4
TRAININGS = ("ce", "sln_mo", "sln_mo_lc")
NOISES = ("sym", "asym", "dependent")
ROWS = {  # of the table: the training and the figure of its last epoch
    "ce": ("ce", "accuracy_test_base"),
    "sln": ("sln_mo", "accuracy_test_base"),
    "sln_mo": ("sln_mo", "accuracy_test_ema"),
    "sln_mo_lc": ("sln_mo_lc", "accuracy_test_ema"),
}
PAPER: dict[
    tuple[str, str], dict[str, tuple[float, float]]
] = {  # mean and deviation of 5 runs, last epoch
    ("cifar10", "sym"): {
        "ce": (53.16, 1.64),
        "sln": (80.00, 0.61),
        "sln_mo": (84.71, 0.43),
        "sln_mo_lc": (87.00, 0.27),
    },
    ("cifar10", "asym"): {
        "ce": (72.72, 1.35),
        "sln": (80.63, 0.61),
        "sln_mo": (84.80, 0.27),
        "sln_mo_lc": (87.85, 0.41),
    },
    ("cifar10", "dependent"): {
        "ce": (72.33, 0.50),
        "sln": (78.48, 0.28),
        "sln_mo": (80.56, 0.16),
        "sln_mo_lc": (81.76, 0.16),
    },
    ("cifar100", "sym"): {
        "ce": (31.63, 0.83),
        "sln": (50.24, 0.41),
        "sln_mo": (56.57, 0.38),
        "sln_mo_lc": (58.64, 0.37),
    },
    ("cifar100", "asym"): {
        "ce": (36.26, 0.65),
        "sln": (44.43, 0.19),
        "sln_mo": (50.59, 0.35),
        "sln_mo_lc": (63.90, 0.46),
    },
    ("cifar100", "dependent"): {
        "ce": (55.59, 0.43),
        "sln": (57.47, 0.30),
        "sln_mo": (61.24, 0.27),
        "sln_mo_lc": (61.14, 0.39),
    },
}
PASSED_ON = (
    "n_epochs",
    "batch_size",
    "depth",
    "width",
    "limit_train",
    "limit_test",
    "data_path",
    "device",
    "amp",
)


class Cell(NamedTuple):
    """Last-epoch accuracy of each seed that is finished, percent."""

    dataset: str
    noise: str
    method: str
    accuracies: list[float]
    seeds: list[int]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message; 3 for a loss that is not
    finite.
    """
    args = parse(argv)
    try:
        return fill(args)
    except run.BAD_INPUT as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on after the last whole epochs", file=sys.stderr)
        return 130


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="table.py",
        allow_abbrev=False,
        description="Trains the 24 cells of the paper's tables (18 trainings: SLN and SLN+MO "
        "are one) and "
        "prints them beside the paper's numbers.",
    )
    add = parser.add_argument
    add(
        "--dataset_name",
        nargs="+",
        choices=("cifar10", "cifar100", "digits"),
        default=["cifar10", "cifar100"],
    )
    add("--noise_mode", nargs="+", choices=NOISES, help="(sym asym dependent; digits: sym asym)")
    add("--seeds", nargs="+", type=int, default=[123], help="a training for each (123)")
    add(
        "--n_epochs",
        type=int,
        help="epochs (300; digits: 55); label correction starts after five sixths of them",
    )
    add("--batch_size", type=int, help="images a step (128; digits: 64)")
    add("--depth", type=int, help="layers of the network (28; digits: 10)")
    add("--width", type=int, help="its widening factor (2; digits: 1)")
    add("--limit_train", type=int, help="train on that many images")
    add("--limit_test", type=int, help="test on that many images")
    add("--data_path", type=Path, help="where the data are ($DATA_ROOT, else data/)")
    add("--device", default="auto", help="auto, cpu, cuda (auto)")
    add("--amp", choices=("auto", "off", "bf16"), default="auto", help="bfloat16 autocast (auto)")
    add(
        "--output_dir",
        type=Path,
        default=Path("runs/table"),
        help="folder of the run folders (runs/table)",
    )
    ray_backend.add_flags(parser)
    args = parser.parse_args(argv)
    ray_backend.check_flags(parser, args)
    args.data_path = datasets.data_root(
        options.data_path(args)
    )  # $DATA_ROOT may be unknown to a cluster
    if "digits" in args.dataset_name and "dependent" in (args.noise_mode or ()):
        parser.error(
            "--noise_mode dependent comes as files of CIFAR: leave out digits, or give it a "
            "command of its own"
        )
    if args.n_epochs is not None and args.n_epochs < 2:
        parser.error(
            f"--n_epochs {args.n_epochs}: label correction needs an epoch before it, so at least 2"
        )
    return args


def _pairs(args: argparse.Namespace) -> list[tuple[str, str]]:
    """The columns of the table, (dataset, noise); by default all noises that exist for a dataset."""
    return [
        (dataset, noise)
        for dataset in args.dataset_name
        for noise in args.noise_mode or (NOISES[:2] if dataset == "digits" else NOISES)
    ]


def fill(args: argparse.Namespace) -> int:
    """Runs what is missing and prints the table."""
    trainings = _trainings(args)
    left = {name: own for name, own in trainings.items() if not _is_finished(own)}
    cells = len(_pairs(args)) * len(ROWS)
    print(
        f"{len(trainings)} trainings fill {cells} cells, for SLN and SLN+MO are one; "
        f"{len(left)} of them are left. "
        f"What they print goes to log.txt in their folders in {args.output_dir}",
        flush=True,
    )
    _check(args, left)
    failures = {}
    if left:
        failures = ray_backend.run_all(args, left, "training", train, _line)
    for name, failure in failures.items():
        print(f"{name} stopped: {failure.message}", file=sys.stderr)
    cells = collect(args, trainings)
    print(text(cells, args.seeds))
    write_atomically(args.output_dir / "table.csv", as_csv(cells).encode())
    print(f"the same with the paper's deviations: {args.output_dir / 'table.csv'}")
    if any(not _is_finished(own) and name not in failures for name, own in left.items()):
        raise KeyboardInterrupt  # Ray stops its trials itself and comes back
    return max((failure.status for failure in failures.values()), default=0)


def _trainings(args: argparse.Namespace) -> dict[str, argparse.Namespace]:
    """Arguments of each training as train_cifar.py has them, by the name of its folder; refuses
    folders of other settings.
    """
    trainings = {}
    for dataset, noise in _pairs(args):
        for seed in args.seeds:
            for method in TRAININGS:
                folder = args.output_dir / f"{dataset}_{noise}_{method}_seed{seed}"
                trainings[folder.name] = _arguments(args, dataset, noise, method, seed, folder)
    return trainings


def _arguments(
    args: argparse.Namespace, dataset: str, noise: str, method: str, seed: int, folder: Path
) -> argparse.Namespace:
    flags = [
        "--dataset_name",
        dataset,
        "--noise_mode",
        noise,
        "--p",
        str(RATE),
        "--method",
        method,
        "--seed",
        str(seed),
        "--output_dir",
        str(folder),
        "--resume",
    ]
    for name in PASSED_ON:
        if getattr(args, name) is not None:
            flags += [f"--{name}", str(getattr(args, name))]
    if method == "sln_mo_lc" and args.n_epochs is not None:
        usual = options.PRESETS[dataset]
        start = round(args.n_epochs * usual["lc_n_epoch"] / usual["n_epochs"])
        flags += ["--lc_n_epoch", str(min(max(start, 1), args.n_epochs - 1))]
    own = options.parse("train_cifar", flags)
    config = report.read_config(folder)
    if config is not None:
        decide = (*DECIDING_FLAGS, "limit_train", "limit_test")
        checkpoint.refuse_other_run(
            {name: config.get(name) for name in decide},
            {name: getattr(own, name) for name in decide},
        )
    done = len(_rows(folder))
    if done > own.n_epochs:
        raise checkpoint.CheckpointError(
            f"{folder} has done {done} epochs already: --n_epochs {own.n_epochs} cannot shorten it"
        )
    return own


def _check(args: argparse.Namespace, left: dict[str, argparse.Namespace]) -> None:
    """Reads each dataset and noise once, so that what is wrong with them is said before anything is
    trained.
    """
    if args.ray_address is None:
        options.choose_device(args.device)
    for own in {(own.dataset_name, own.noise_mode): own for own in left.values()}.values():
        prepare(argparse.Namespace(**{**vars(own), "device": "cpu", "amp": "off"}))


def train(args: argparse.Namespace, report_figures: Callable[[Row], None]) -> None:
    """One training, or what is left of it; what it prints goes to log.txt in its folder."""
    args.output_dir.mkdir(parents=True, exist_ok=True)
    with (
        open(args.output_dir / "log.txt", "a", buffering=1) as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        last = run.start(args).rows[-1]
    report_figures({name: last[name] for name in ("accuracy_test_base", "accuracy_test_ema")})


def _line(name: str, figures: dict[str, Any]) -> str:
    return (
        f"{name} finished: test accuracy {figures['accuracy_test_base']:.2f} %, momentum model "
        f"{figures['accuracy_test_ema']:.2f} %"
    )


def _rows(folder: Path) -> list[Row]:
    path = folder / "metrics.jsonl"
    return (
        [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        if path.exists()
        else []
    )


def _is_finished(own: argparse.Namespace) -> bool:
    """The models are written last, after the last row."""
    model = "model_ema.pth" if own.mo else "model.pth"
    return len(_rows(own.output_dir)) >= own.n_epochs and (own.output_dir / model).exists()


def collect(args: argparse.Namespace, trainings: dict[str, argparse.Namespace]) -> list[Cell]:
    """All cells asked for, with what is finished of them."""
    cells = []
    for dataset, noise in _pairs(args):
        for method, (training, figure) in ROWS.items():
            known = {
                seed: _rows(own.output_dir)[-1][figure]
                for seed in args.seeds
                if _is_finished(own := trainings[f"{dataset}_{noise}_{training}_seed{seed}"])
            }
            cells.append(Cell(dataset, noise, method, list(known.values()), list(known)))
    return cells


def text(cells: Sequence[Cell], seeds: Sequence[int]) -> str:
    """A block for each dataset: rows are methods, columns noises, the paper's number in brackets."""
    lines = [
        f"test accuracy (%) after the last epoch, mean ± population std over {len(seeds)} "
        f"seed{'s' * (len(seeds) > 1)}; "
        "in brackets the paper's, of 5 runs"
    ]
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        here = [cell for cell in cells if cell.dataset == dataset]
        lines.append(
            f"{dataset:<10}"
            + "".join(f"  {noise:>30}" for noise in dict.fromkeys(cell.noise for cell in here))
        )
        for method in ROWS:
            lines.append(
                f"{method:<10}"
                + "".join(f"  {_shown(cell):>30}" for cell in here if cell.method == method)
            )
    missing = [cell for cell in cells if 0 < len(cell.seeds) < len(seeds)]
    if missing:
        lines.append(
            "fewer seeds than asked for: "
            + ", ".join(
                f"{cell.dataset} {cell.noise} {cell.method} ({len(cell.seeds)})" for cell in missing
            )
        )
    return "\n".join(lines)


def _shown(cell: Cell) -> str:
    ours = (
        f"{np.mean(cell.accuracies):.2f} ± {np.std(cell.accuracies):.2f}"
        if cell.accuracies
        else "not run"
    )
    paper = PAPER.get((cell.dataset, cell.noise), {}).get(cell.method)
    return ours if paper is None else f"{ours} ({paper[0]:.2f} ± {paper[1]:.2f})"


def as_csv(cells: Sequence[Cell]) -> str:
    """A line for each cell; the columns of an accuracy are empty where it is not known."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(
        ["dataset", "noise", "method", "mean", "std", "seeds", "paper_mean", "paper_std"]
    )
    for cell in cells:
        ours = (
            [f"{np.mean(cell.accuracies):.2f}", f"{np.std(cell.accuracies):.2f}"]
            if cell.accuracies
            else ["", ""]
        )
        paper = PAPER.get((cell.dataset, cell.noise), {}).get(cell.method)
        published = ["", ""] if paper is None else [f"{value:.2f}" for value in paper]
        writer.writerow(
            [
                cell.dataset,
                cell.noise,
                cell.method,
                *ours,
                " ".join(map(str, cell.seeds)),
                *published,
            ]
        )
    return table.getvalue()


if __name__ == "__main__":
    sys.exit(main())
