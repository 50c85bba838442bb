"""Poly-Margin-Diminishing (PMD) noise: wrong labels where a teacher hesitates between its two
likeliest classes.

Zhang et al., "Learning with Feature-Dependent Label Noise: A Progressive Approach" (PLC), ICLR
2021; the noise of LRA-diffusion's CIFAR experiments. A teacher learns the clean labels; its outputs
of the last epoch, eta, decide each label, together with type, factor and seed (`shared.noise.pmd`).

    python make_pmd.py --dataset cifar10 --noise_factor 1.43 --epochs 25 --noise_type 1 --gpus 0    # PLC's command line
    python make_pmd.py --dataset cifar10 --rate 0.7 --eta noise_label/eta_cifar10_25ep_seed123.npy  # seconds, no training
    python make_pmd.py --dataset digits --rate 0.35 --uniform 0.3              # 20 s on one CPU core, no download

Writes noise_label/<dataset>-<type>-<realised PMD rate>[_U_<rate>|_A_<rate>].npy as published, the
same as .npz with what made it, eta, and the teacher, whose training --resume continues. On digits
and folders, whose validation images are scattered, the labels are an .npz only.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

from lra_diffusion import pmd_teacher
from lra_diffusion.command_line import (
    UsageError,
    add_flags,
    choose_device,
    configure_torch,
    report_errors,
)
from shared import datasets
from shared.datasets.image_data import ImageData
from shared.files import write_atomically
from shared.formats.external import encode_any, format_of, read_any
from shared.formats.noise_file import NoiseFile, NoiseFileError, make
from shared.labels import Labels
from shared.noise import transition_matrix
from shared.noise.on_top import OnTop, add
from shared.noise.pmd import ON_TOP_SEED, TYPES
from shared.noise.recipe import Recipe, generate

FOLDER = Path("noise_label")  # where LRA-diffusion looks for labels
DEFAULT_FACTOR = 1.2
DATASETS = ("cifar10", "cifar100", "digits", "folder")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description="Make PMD label noise from a teacher trained on the clean labels.",
        epilog="Example: python make_pmd.py --dataset digits --rate 0.35",
    )
    flag = parser.add_argument
    flag(
        "--noise_factor",
        type=float,
        help="divides the probability of the likeliest class; more is noisier (1.2)",
    )
    flag("--noise_type", type=int, choices=TYPES, default=1, help="type I, II or III (1)")
    flag("--dataset", choices=DATASETS, default="cifar10", help="whose training labels (cifar10)")
    flag(
        "--network",
        choices=tuple(pmd_teacher.NETWORKS),
        help="the teacher (preact_resnet34, another name of resnet34; digits: resnet18)",
    )
    flag(
        "--gpus",
        metavar="NUMBER",
        help="the GPU, as PLC names it; the same as --device cuda:NUMBER",
    )
    add_flags(parser, "--seed")
    flag(
        "--epochs",
        type=int,
        help="epochs of the teacher; after fewer it hesitates more (25; digits: 5)",
    )
    added = parser.add_argument_group("added here")
    flag = added.add_argument
    flag(
        "--rate",
        type=float,
        help="share of wrong labels to reach, by bisection; instead of --noise_factor",
    )
    top = added.add_mutually_exclusive_group()
    top.add_argument(
        "--uniform",
        type=float,
        metavar="RATE",
        help="further uniform noise on top, as in _U_ files",
    )
    top.add_argument(
        "--asymmetric",
        type=float,
        metavar="RATE",
        help="further asymmetric noise on top, as in _A_ files",
    )
    flag(
        "--on_top_seed",
        type=int,
        default=ON_TOP_SEED,
        help=f"seed of the noise on top ({ON_TOP_SEED}, as published)",
    )
    flag(
        "--eta",
        type=Path,
        metavar="FILE.npy",
        help="class probabilities (N, C) of the training images; trains nothing",
    )
    flag("--lr", type=float, help="learning rate of the teacher, constant (0.001; digits: 0.005)")
    flag(
        "--out",
        type=Path,
        metavar="FILE",
        help="the one label file to write; .npz keeps what made the labels",
    )
    add_flags(
        added,
        "--output_dir",
        "--data_path",
        "--limit_train",
        "--device",
        "--amp",
        "--resume",
        "--deterministic",
    )
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Flags as a namespace, everything checked that needs no data; exits with a message if
    something is wrong.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.rate is not None and args.noise_factor is not None:
        parser.error("--rate looks for the factor that --noise_factor gives: leave one of them out")
    if args.gpus is not None and args.device != "auto":
        parser.error("--gpus and --device both say where to compute: leave one of them out")
    idle = [
        f"--{name}"
        for name in ("network", "epochs", "lr", "gpus")
        if args.eta and getattr(args, name) is not None
    ]
    if idle:
        parser.error(
            f"{', '.join(idle)} of the teacher and --eta, which needs none: leave out one or "
            "the other"
        )
    for name, least in (("epochs", 1), ("limit_train", 2), ("seed", 0)):
        if getattr(args, name) is not None and getattr(args, name) < least:
            parser.error(f"--{name} {getattr(args, name)}: must be at least {least}")
    if args.lr is not None and not 0 < args.lr < float("inf"):
        parser.error(f"--lr {args.lr}: must be above 0")
    if args.rate is None and args.noise_factor is None:
        args.noise_factor = DEFAULT_FACTOR
    args.output_dir = args.output_dir or (args.out.parent if args.out else FOLDER)
    try:
        recipe_of(args), on_top_of(args), _check_out(args)
    except ValueError as error:
        parser.error(str(error))
    return args


def recipe_of(args: argparse.Namespace) -> Recipe:
    return Recipe("pmd", args.rate, args.seed, pmd_type=args.noise_type, factor=args.noise_factor)


def on_top_of(args: argparse.Namespace) -> OnTop | None:
    for kind, rate in (("uniform", args.uniform), ("asymmetric", args.asymmetric)):
        if rate is not None:
            return OnTop(kind, rate, args.on_top_seed)
    return None


def _check_out(args: argparse.Namespace) -> None:
    if args.out is None:
        return
    if format_of(args.out) not in _formats(args):
        raise UsageError(
            f"--out {args.out}: such a file cannot say which training images the labels belong "
            "to; write "
            f".{' or .'.join(_formats(args))}"
        )
    if args.out.exists() and not args.resume:
        raise UsageError(f"--out {args.out} exists: choose another name, or delete it")


def _formats(args: argparse.Namespace) -> tuple[str, ...]:
    """What can hold the labels: a plain list of 45,000 is known to be of the first 45,000 images,
    and of no others.
    """
    return ("npy", "npz") if args.dataset.startswith("cifar") and not args.limit_train else ("npz",)


def choose(args: argparse.Namespace) -> torch.device:
    """The device of --device, or of PLC's --gpus: its first GPU, on a machine without CUDA whatever
    there is.
    """
    if args.gpus is None:
        return choose_device(args.device)
    first = args.gpus.split(",")[0].strip()
    if not first.isdecimal():
        raise UsageError(f"--gpus {args.gpus}: give the number of a GPU, as in --gpus 0")
    if not torch.cuda.is_available():
        print("note: this machine has no CUDA GPU, --gpus has no effect")
        return choose_device("auto")
    if first != args.gpus.strip():
        print(f"note: the teacher trains on one GPU, number {first}")
    return choose_device(f"cuda:{first}")


def noisy_labels(
    args: argparse.Namespace, part: ImageData, rows: NDArray[np.int64], eta: NDArray[Any]
) -> tuple[NoiseFile, float]:
    """The labels of the training part, (N,), with their rows in the whole set, and the realised
    rate of the PMD noise.

    part: N images; rows: (N,); eta: (N, C). Raises UsageError for a rate that the teacher cannot
    reach.
    """
    try:
        noise = generate(recipe_of(args), part, eta=eta)
    except ValueError as error:
        raise UsageError(str(error)) from error
    pmd_rate = noise.header.measured_rate
    assert pmd_rate is not None  # the clean labels are known
    if (top := on_top_of(args)) is not None:
        noise = add(noise, top)
    computed = ("version", "measured_rate", "clean_labels_sha256")
    known = {name: value for name, value in asdict(noise.header).items() if name not in computed}
    return make(
        noise.noisy_labels, clean_labels=noise.clean_labels, indices=rows, **known
    ), pmd_rate


def published_name(args: argparse.Namespace, pmd_rate: float) -> str:
    """Name without ending: dataset, type, realised rate of the PMD noise, what is on top, and how
    few images.
    """
    top = on_top_of(args)
    words = [f"{args.dataset}-{args.noise_type}-{pmd_rate:.2f}"]
    words += [f"{top.kind[0].upper()}_{top.rate:g}"] if top else []
    return "_".join(words + ([f"n{args.limit_train}"] if args.limit_train else []))


def write_labels(args: argparse.Namespace, noise: NoiseFile, name: str) -> list[Path]:
    """Writes --out, or the published file and ours; all or, where other labels are in the way,
    none.
    """
    files = (
        [args.out]
        if args.out
        else [args.output_dir / f"{name}.{ending}" for ending in _formats(args)]
    )
    contents = {path: encode_any(noise, format_of(path)) for path in files}
    # DEVIATION(lra_diffusion): a label file is never replaced by another one of its name; PLC's
    # generator writes over it, though the name tells neither seed nor teacher.
    for path in contents:
        if path.exists() and not _has_labels(path, noise):
            raise UsageError(
                f"{path} holds other labels: choose another --output_dir, or --out (the teacher "
                "is kept)"
            )
    for path, content in contents.items():
        write_atomically(path, content)
    return files


def _has_labels(path: Path, noise: NoiseFile) -> bool:
    try:
        found = read_any(path)
    except NoiseFileError:
        return False
    return np.array_equal(found.noisy_labels, noise.noisy_labels)


def confusions(
    noisy: Labels, clean: Labels, num_classes: int, count: int = 5
) -> list[tuple[int, int, float]]:
    """The largest P(noisy = b | clean = a), b other than a, as (a, b, P).

    noisy, clean: (N,) in [0, C).
    """
    matrix = transition_matrix(clean, noisy, num_classes).copy()
    np.fill_diagonal(matrix, 0)
    largest = np.argsort(-matrix, axis=None, kind="stable")[:count].tolist()
    return [
        (*divmod(cell, num_classes), float(matrix.flat[cell]))
        for cell in largest
        if matrix.flat[cell] > 0
    ]


def print_facts(noise: NoiseFile, pmd_rate: float, part: ImageData, eta: NDArray[Any]) -> None:
    """What the specification's table of the published files has, and the teacher's own error."""
    noisy, clean, known = noise.noisy_labels, part.train_labels, noise.header
    print(f"{known.generator}")
    print(
        f"wrong labels: {known.measured_rate:.4f} of {len(noisy):,}; of the PMD noise alone "
        f"{pmd_rate:.4f}; the teacher's "
        f"own mistakes {(eta.argmax(axis=1) != clean).mean():.4f}"
    )
    kept = transition_matrix(clean, noisy, part.num_classes).diagonal()[np.unique(clean)]
    print(f"labels kept, by class: {kept.min():.3f} to {kept.max():.3f}")
    names = part.class_names
    print(
        "top confusions: "
        + ", ".join(
            f"{names[a]} -> {names[b]} {share:.3f}"
            for a, b, share in confusions(noisy, clean, part.num_classes)
        )
    )


def work(args: argparse.Namespace) -> None:
    device = choose(args)
    configure_torch(args.deterministic, device)
    part, rows = pmd_teacher.training_part(
        datasets.load(args.dataset, args.data_path), args.limit_train
    )
    if part.num_classes < 2:
        raise UsageError(f"{args.dataset} has a single class, so that no label can be wrong")
    # DEVIATION(lra_diffusion): two classes have no formula of their own; PLC's generator has one
    # for them, in which only one class is ever mislabelled.
    eta = (
        pmd_teacher.read_posteriors(args.eta, part)
        if args.eta
        else pmd_teacher.posteriors(args, part, device)
    )
    noise, pmd_rate = noisy_labels(args, part, rows, eta)
    files = write_labels(args, noise, published_name(args, pmd_rate))
    print_facts(noise, pmd_rate, part, eta)
    print(f"wrote {' and '.join(map(str, files))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message; 3 for a teacher that diverges."""
    return report_errors(work, parse(argv))


if __name__ == "__main__":
    sys.exit(main())
