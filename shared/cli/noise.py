"""The commands `python -m shared noise make|add|info|convert|compare`."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared import datasets
from shared.cli import coco as coco_noise_cli
from shared.coco import file as coco_file
from shared.coco import noise as coco_noise
from shared.datasets.image_data import ImageData
from shared.files import write_atomically
from shared.formats import external, noise_file, safe_arrays
from shared.formats import report as noise_report
from shared.formats.alignment import labels_for
from shared.formats.noise_file import NoiseFile, NoiseFileError
from shared.noise import on_top as noise_on_top
from shared.noise import pmd
from shared.noise.recipe import KINDS, Recipe, generate, usual_seed

EXAMPLES = """\
examples:
  python -m shared noise make --dataset cifar10 --kind pdn --rate 0.5 --out 0.5_pdn.npz
  python -m shared noise make --dataset digits --kind symmetric --rate 0.4 --exclude_true_class --out sym0.4.npz
  python -m shared noise make --dataset cifar10 --kind open_set --rate 0.4 --out openset0.4.csv
  python -m shared noise add cifar10-1-0.35.npy --dataset cifar10 --kind uniform --rate 0.3 --out cifar10-1-0.35_U_0.3.npy
  python -m shared noise info 0.5_pdn.npz --plot matrix.png
  python -m shared noise info CIFAR-10_human.pt                  (lists its columns with their rates)
  python -m shared noise convert CIFAR-10_human.pt:worse_label worse.csv
  python -m shared noise convert cifar10-1-0.35.npy pmd.npz --dataset cifar10 --data_path data
  python -m shared noise compare sym0.4.npz sym0.4_custom.csv
  python -m shared noise info train_sn20.manifest.json           (what `make --format coco` did)
  python -m shared noise compare instances_train.json train_sn20.json
files: .npz (ours, keeps everything), .pt (InstanceGM, CIFAR-N), .csv (SLN), .npy (PLC, LRA-diffusion),
       .json (DivideMix: a list; COCO annotations and their manifest: an object)
"""
MAKE_EXAMPLES = """\
kinds:
  pdn          part-dependent: the wrong class depends on the image (Xia et al. 2020), as InstanceGM draws it
  symmetric    int(rate N) random samples get a uniformly drawn class
  asymmetric   int(rate N) random samples go to the class theirs is confused with, by a map
  pair_flip    int(rate N) random samples go to the next class
  open_set     int(rate N) random images are replaced by CIFAR-100's and keep their labels; the file (.npz, .csv) flags them
  confidence   the int(rate N) samples with the likeliest wrong class get it (Chen et al. 2021, SLN's "dependent"), by
               --mean_probs of a network trained on the clean labels; nothing is drawn, so --seed has no effect
  pmd          one of the two likeliest classes of a teacher (--eta), the second where they are close (Zhang et al. 2021,
               PLC), as PLC draws it; --rate finds the factor by bisection, --factor gives it. eta of n images labels the
               first n (PLC: 45,000)
  ieg_uniform, ieg_asymmetric
               the labels that IEG and FSR (Zhang et al. 2020, 2021) train on, as they draw them: each sample redrawn from all
               classes, or sent on by the map cifar10, with probability rate; the file leaves out their probe set
               (--probe_ratio) and is .npz, unless the ratio is 0
  long_tail    a long-tailed part of the samples (--imbalance), each redrawn from all classes with probability rate; 0 keeps
               the labels. Class sizes are the papers' (Cui et al. 2019), the images a draw of ours. .npz
maps:
  cifar10                  bird-airplane, cat-dog, deer-horse, dog-cat, truck-automobile (DivideMix, SLN's files)
  cifar10_four_rules       without deer-horse (custom noise of re-sln)
  cifar100                 the next class (SLN, re-sln)
  cifar100_blocks_of_five  the next id within 0-4, 5-9, ... (PLC, LRA-diffusion)
  cifar100_super_classes   the next class within the super-class (Patrini et al. 2017)
The same arguments give the same bytes. The ending of FILE chooses the format; only .npz keeps rate, seed and origin.

examples:
  python -m shared noise make --dataset cifar10 --data_path data --kind asymmetric --rate 0.4 --out asym0.4.npz
  python -m shared noise make --dataset cifar10 --kind pmd --pmd_type 1 --eta eta.npy --rate 0.35 --out cifar10-1-0.35.npz
  python -m shared noise make --dataset cifar10 --kind ieg_uniform --rate 0.4 --probe_ratio 0.002 --out ieg0.4.npz
  python -m shared noise make --dataset cifar10 --kind long_tail --imbalance 0.02 --rate 0.2 --out tail0.02.npz
"""
ADD_EXAMPLES = """\
kinds:
  uniform      each label becomes, with probability rate, one of the C - 1 others
  asymmetric   each label of a class with a rule becomes, with probability rate, that rule's target; maps as in
               `noise make --help`; default: cifar10, cifar100_blocks_of_five, of other datasets the next class
IN is a noise file of any format; one without header (.npy, .pt, ...) needs --dataset. Its samples and clean labels stay,
and the measured rate is the new labels'. PLC and LRA-diffusion made cifar10-1-0.35_U_0.3.npy and its like in this way.

examples:
  python -m shared noise add cifar10-1-0.35.npz --kind asymmetric --rate 0.3 --out cifar10-1-0.35_A_0.3.npz
  python -m shared noise add cifar10-1-0.35.npy --dataset cifar10 --kind uniform --rate 0.3 --out cifar10-1-0.35_U_0.3.npy
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Hang `noise` with its five commands under `commands`."""
    noise = _add(commands, "noise", "make, add, inspect, convert and compare noise files", EXAMPLES)
    actions = noise.add_subparsers(required=True, metavar="COMMAND")
    _add_make(actions)
    _add_add(actions)

    info = _add(
        actions, "info", "rate, kind, class counts and transition matrix of a noise file", EXAMPLES
    )
    info.add_argument("file", metavar="FILE[:COLUMN]", help="noise file of any format")
    info.add_argument(
        "--plot", type=Path, metavar="PNG", help="also draw the transition matrix as a heat map"
    )
    _add_reading_options(info)
    info.set_defaults(run=run_info)

    convert = _add(
        actions, "convert", "write a noise file in another format, chosen by the ending", EXAMPLES
    )
    convert.add_argument("file", metavar="IN[:COLUMN]", help="noise file of any format")
    convert.add_argument("out", type=Path, metavar="OUT", help=".npz, .pt, .csv, .npy or .json")
    convert.add_argument(
        "--force", action="store_true", help="overwrite OUT if it exists with other content"
    )
    _add_reading_options(convert)
    convert.set_defaults(run=run_convert)

    compare = _add(actions, "compare", "how far two noise files agree", EXAMPLES)
    compare.add_argument("files", nargs=2, metavar="FILE[:COLUMN]", help="noise file of any format")
    _add_dataset_options(compare)
    compare.set_defaults(run=run_compare, column=None)


def _add(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    epilog: str,
) -> argparse.ArgumentParser:
    return actions.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_make(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    make = _add(
        actions,
        "make",
        "make noisy labels for a dataset",
        f"{MAKE_EXAMPLES}\n{coco_noise_cli.MAKE_HELP}",
    )
    make.add_argument("--kind", required=True, choices=KINDS, help="see below")
    amount = make.add_mutually_exclusive_group(required=True)
    amount.add_argument(
        "--rate", type=float, help="nominal noise rate in [0, 1]; of pmd the measured one"
    )
    amount.add_argument(
        "--factor",
        type=float,
        help="pmd, instead of --rate: divides the probability of the best class",
    )
    make.add_argument(
        "--seed",
        type=int,
        help="default: as in the papers' files, 12345 for ieg_... and long_tail, else 123",
    )
    make.add_argument(
        "--map",
        metavar="NAME",
        help="class map of asymmetric noise; default: the dataset's usual one",
    )
    targets = make.add_mutually_exclusive_group()
    targets.add_argument(
        "--include_true_class",
        dest="include_true_class",
        action="store_true",
        default=None,
        help="symmetric: draw from all C classes, as DivideMix does: the measured rate is rate "
        "(1 - 1/C); the default",
    )
    targets.add_argument(
        "--exclude_true_class",
        dest="include_true_class",
        action="store_false",
        help="symmetric: draw from the C - 1 wrong classes",
    )
    make.add_argument(
        "--independent",
        action="store_true",
        help="symmetric, asymmetric, pair_flip: choose each sample with probability rate on its "
        "own, as SLN and re-sln do, "
        "instead of int(rate N) samples",
    )
    make.add_argument(
        "--mean_probs",
        type=Path,
        metavar="NPY",
        help="confidence: mean softmax over training epochs, (N, C) floats",
    )
    make.add_argument(
        "--eta", type=Path, metavar="NPY", help="pmd: softmax outputs of the teacher, (n, C) floats"
    )
    make.add_argument(
        "--pmd_type",
        type=int,
        choices=pmd.TYPES,
        help="pmd: type I, II or III of the paper; default: 1",
    )
    make.add_argument(
        "--probe_ratio",
        type=float,
        help="ieg_...: share of the samples held out clean; default: 0.02",
    )
    make.add_argument(
        "--imbalance",
        type=float,
        help="long_tail: size of the last class by that of the first, in (0, 1]",
    )
    make.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help=".npz, .pt, .csv, .npy or .json"
    )
    make.add_argument(
        "--force", action="store_true", help="overwrite FILE if it exists with other content"
    )
    _add_dataset_options(make, required=True, more=coco_noise.DATASETS)
    make.add_argument(
        "--image_size",
        type=int,
        help="pixels per side of `animal10n` and `folder` images; default: 32",
    )
    coco_noise_cli.add_make_options(make)
    make.set_defaults(run=run_make)


def _add_add(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    add = _add(actions, "add", "put independent noise on top of a noise file", ADD_EXAMPLES)
    add.add_argument("file", metavar="IN[:COLUMN]", help="noise file of any format")
    add.add_argument("--kind", required=True, choices=noise_on_top.KINDS, help="see below")
    add.add_argument(
        "--rate", required=True, type=float, help="rate of the noise on top, in [0, 1]"
    )
    add.add_argument(
        "--seed",
        type=int,
        default=pmd.ON_TOP_SEED,
        help="default: %(default)s, as in the published files",
    )
    add.add_argument(
        "--map",
        metavar="NAME",
        help="class map of asymmetric noise; default: the dataset's, see below",
    )
    add.add_argument(
        "--out", required=True, type=Path, metavar="OUT", help=".npz, .pt, .csv, .npy or .json"
    )
    add.add_argument(
        "--force", action="store_true", help="overwrite OUT if it exists with other content"
    )
    _add_reading_options(add)
    add.set_defaults(run=run_add)


def _add_reading_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--column", help="which labels of a file with several; the same as FILE:COLUMN"
    )
    _add_dataset_options(parser)


def _add_dataset_options(
    parser: argparse.ArgumentParser, required: bool = False, more: tuple[str, ...] = ()
) -> None:
    purpose = (
        "the dataset"
        if required
        else "check the file against this dataset and take its clean labels"
    )
    parser.add_argument("--dataset", required=required, choices=datasets.NAMES + more, help=purpose)
    parser.add_argument(
        "--data_path", metavar="DIR", help="where the dataset is; default: $DATA_ROOT, else data"
    )


def run_make(args: argparse.Namespace) -> None:
    """Generate noisy labels, or noisy COCO annotations, and write them."""
    coco_noise_cli.check_options(args)
    if args.format == "coco":
        coco_noise_cli.run_make(args)
        return
    recipe = Recipe(
        args.kind,
        args.rate,
        usual_seed(args.kind) if args.seed is None else args.seed,
        args.map,
        args.include_true_class,
        args.independent,
        args.pmd_type,
        args.factor,
        args.probe_ratio,
        args.imbalance,
    )
    recipe.check_for(args.dataset)  # what cannot work is refused before data is read
    format = external.format_of(args.out)
    if args.kind == "open_set" and format not in external.OPEN_SET_FORMATS:
        raise NoiseFileError(
            f"a .{format} file cannot say which images are replaced: write .npz or .csv"
        )
    probs = {
        "mean_probs": _read_probs(
            args, "confidence", "mean_probs", "averaged over its epochs, (N, C) floats"
        ),
        "eta": _read_probs(args, "pmd", "eta", "or the first n of them, (n, C) floats"),
    }
    data = datasets.load(
        args.dataset, args.data_path, image_size=32 if args.image_size is None else args.image_size
    )
    _save(args.out, generate(recipe, data, **probs), format, args.force)


def _read_probs(
    args: argparse.Namespace, kind: str, option: str, wanted: str
) -> NDArray[np.floating[Any]] | None:
    """The floats of a file of softmax outputs, which one kind needs and no other takes."""
    path: Path | None = getattr(args, option)
    if args.kind != kind:
        if path is not None:
            raise NoiseFileError(f"--{option} is for {kind} noise: leave it out for {args.kind}")
        return None
    if path is None:
        raise NoiseFileError(
            f"{kind} noise needs --{option} FILE.npy: the softmax outputs of a network for all "
            f"training images, {wanted}"
        )
    try:
        return safe_arrays.parse_npy(safe_arrays.read_limited(path), "f")
    except (OSError, safe_arrays.UnsafeArrayError) as error:
        raise NoiseFileError(f"cannot read --{option} {path}: {error}") from error


def run_add(args: argparse.Namespace) -> None:
    """Put noise on top of the labels of a file and write them."""
    top = noise_on_top.OnTop(args.kind, args.rate, args.seed, args.map)
    format = external.format_of(args.out)
    base, _ = _read(args, args.file)
    _save(args.out, noise_on_top.add(base, top), format, args.force)


def run_info(args: argparse.Namespace) -> None:
    """Print the report on one file, or the columns to choose from."""
    path, column = external.split_column(args.file, args.column)
    if coco_file.is_json_object(path):
        print(coco_noise_cli.info(path, _given(args, "plot", "column", "dataset", "data_path")))
        return
    if args.plot is not None and args.plot.suffix.lower() != ".png":
        raise NoiseFileError(f"{args.plot}: the plot is a PNG picture, so let its name end in .png")
    names = external.columns(path) if column is None else []
    if len(names) > 1:
        if args.plot is not None or args.dataset is not None:
            raise NoiseFileError(
                f"{path} has several columns: choose one of {', '.join(names)} with --column"
            )
        print(_list_columns(path, names))
        return
    noise, data = _read(args, args.file)
    subject = noise_report.Subject(_title(path, column), noise, _class_names(noise, data))
    text = noise_report.describe(subject)
    if args.plot is not None:
        write_atomically(args.plot, noise_report.heat_map(subject))
    print(text if args.plot is None else f"{text}\n\nwrote {args.plot}")


def run_convert(args: argparse.Namespace) -> None:
    """Write one file in another format."""
    format = external.format_of(args.out)
    noise, _ = _read(args, args.file)
    _save(args.out, noise, format, args.force)


def run_compare(args: argparse.Namespace) -> None:
    """Print how far two files agree."""
    if any(coco_file.is_json_object(Path(name)) for name in args.files):
        print(
            coco_noise_cli.compare(
                args.files[0], args.files[1], _given(args, "dataset", "data_path")
            )
        )
        return
    first, second = (_read(args, name)[0] for name in args.files)
    print(noise_report.compare(first, second, (args.files[0], args.files[1])))


def _read(args: argparse.Namespace, file: str) -> tuple[NoiseFile, ImageData | None]:
    """The noise file; with --dataset, checked against that dataset and completed by its clean
    labels.
    """
    noise = external.read_any(file, args.column)
    if args.dataset is None:
        if args.data_path is not None:
            raise NoiseFileError("--data_path says where, but not which dataset: add --dataset")
        return noise, None
    data = datasets.load(args.dataset, args.data_path)
    rows, _ = labels_for(
        noise, dataset=data.name, clean_labels=data.train_labels, num_classes=data.num_classes
    )
    known = dataclasses.asdict(noise.header) | {
        "dataset": data.name,
        "num_classes": data.num_classes,
    }
    known["split"] = known["split"] or "train"
    clean = data.train_labels[rows]
    arrays = {"clean_labels": clean, "indices": noise.indices, "open_set": noise.open_set}
    return noise_file.make(noise.noisy_labels, **arrays, **known), data


def _given(args: argparse.Namespace, *names: str) -> list[str]:
    """The flags among `names` that were given."""
    return [f"--{name}" for name in names if getattr(args, name) is not None]


def _save(path: Path, noise: NoiseFile, format: str, force: bool) -> None:
    """Write the file unless another one is there, and say what it is."""
    content = external.encode_any(noise, format)
    if path.exists() and not path.is_file():
        raise NoiseFileError(f"{path} is not a file: choose another name")
    if path.exists() and path.read_bytes() == content:
        print(f"unchanged: {path} has these very labels already")
        return
    if path.exists() and not force:
        raise NoiseFileError(
            f"{path} exists with other content: choose another name, or overwrite it with --force"
        )
    write_atomically(path, content)
    rate = noise.header.measured_rate
    measured = "" if rate is None else f", measured rate {rate:.5f}"
    print(f"wrote {path}: {len(noise.noisy_labels):,} labels{measured}")
    if format != "npz" and noise.header.generator is not None:
        print(f"note: a .{format} file does not keep seed, rate and origin; .npz does")


def _list_columns(path: Path, names: list[str]) -> str:
    lines = [
        f"{path} has several columns of labels. Choose one as {path.name}:COLUMN or with --column"
    ]
    for name in names:
        rate = external.read_any(path, name).header.measured_rate
        lines.append(f"  {name:<22}" + ("rate unknown" if rate is None else f"rate {rate:.5f}"))
    return "\n".join(lines)


def _title(path: Path, column: str | None) -> str:
    return path.name if column is None else f"{path.name}, column {column}"


def _class_names(noise: NoiseFile, data: ImageData | None) -> tuple[str, ...]:
    """Names of the C classes: the dataset's where it is known, else their numbers."""
    if data is not None:
        return data.class_names
    if noise.header.dataset in datasets.CIFAR:
        return datasets.CIFAR[noise.header.dataset].class_names
    arrays = [labels for labels in (noise.noisy_labels, noise.clean_labels) if labels is not None]
    count = noise.header.num_classes or max(int(labels.max(initial=0)) for labels in arrays) + 1
    if count > 10_000:
        raise NoiseFileError(
            f"the labels go up to {count - 1}: too many classes to describe; are these labels?"
        )
    return tuple(f"class {number}" for number in range(count))
