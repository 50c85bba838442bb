"""The flags of `python -m shared noise make|add|info|convert|compare`."""

import argparse
from pathlib import Path
from typing import Any

from shared import datasets
from shared.cli import coco as coco_cli
from shared.cli.common import SubParsers, add_command, given
from shared.cli.noise_commands import (
    Source,
    run_add,
    run_compare,
    run_convert,
    run_info,
    run_make,
)
from shared.coco import noise as coco_noise
from shared.formats.noise_file import NoiseFileError
from shared.noise import on_top as noise_on_top
from shared.noise import pmd
from shared.noise.kinds import FILES, OPTIONS, help_text, takers
from shared.noise.recipe import KINDS, Recipe, usual_seed

EXAMPLES = """\
examples:
  python -m shared noise make --dataset cifar10 --kind pdn --rate 0.5 --out 0.5_pdn.npz
  python -m shared noise make --dataset digits --kind symmetric --rate 0.4 --exclude_true_class \\
      --out sym0.4.npz
  python -m shared noise make --dataset cifar10 --kind open_set --rate 0.4 --out openset0.4.csv
  python -m shared noise add cifar10-1-0.35.npy --dataset cifar10 --kind uniform --rate 0.3 \\
      --out cifar10-1-0.35_U_0.3.npy
  python -m shared noise info 0.5_pdn.npz --plot matrix.png
  python -m shared noise info CIFAR-10_human.pt             (lists its columns with their rates)
  python -m shared noise convert CIFAR-10_human.pt:worse_label worse.csv
  python -m shared noise convert cifar10-1-0.35.npy pmd.npz --dataset cifar10 --data_path data
  python -m shared noise convert found.csv found.npz --dataset folder --data_path pictures
  python -m shared noise convert reviewed.json better.npz --onto noise.npz  (Label Studio's)
  python -m shared noise compare sym0.4.npz sym0.4_custom.csv
  python -m shared noise info train_sn20.manifest.json      (what `make --format coco` did)
  python -m shared noise compare instances_train.json train_sn20.json
files: .npz (ours, keeps everything), .pt (InstanceGM, CIFAR-N), .csv (SLN), .npy (PLC,
       LRA-diffusion), .json (DivideMix: a list; COCO annotations and their manifest: an object)
"""
MAKE_EXAMPLES = f"""\
kinds:
{help_text()}
maps:
  cifar10                  bird-airplane, cat-dog, deer-horse, dog-cat, truck-automobile
                           (DivideMix, SLN's files)
  cifar10_four_rules       without deer-horse (custom noise of re-sln)
  cifar100                 the next class (SLN, re-sln)
  cifar100_blocks_of_five  the next id within 0-4, 5-9, ... (PLC, LRA-diffusion)
  cifar100_super_classes   the next class within the super-class (Patrini et al. 2017)
The same arguments give the same bytes. The ending of FILE chooses the format; only .npz keeps rate,
seed and origin.

examples:
  python -m shared noise make --dataset cifar10 --data_path data --kind asymmetric --rate 0.4 \\
      --out asym0.4.npz
  python -m shared noise make --dataset cifar10 --kind pmd --pmd_type 1 --eta eta.npy --rate 0.35 \\
      --out cifar10-1-0.35.npz
  python -m shared noise make --dataset cifar10 --kind transition --matrix T.csv --out mine.npz
  python -m shared noise make --dataset folder --data_path pictures --labels labels.csv \\
      --kind symmetric --rate 0.2 --out sym0.2.npz
  python -m shared noise make --dataset cifar10 --kind ieg_uniform --rate 0.4 --probe_ratio 0.002 \\
      --out ieg0.4.npz
  python -m shared noise make --dataset cifar10 --kind long_tail --imbalance 0.02 --rate 0.2 \\
      --out tail0.02.npz
"""
ADD_EXAMPLES = """\
kinds:
  uniform      each label becomes, with probability rate, one of the C - 1 others
  asymmetric   each label of a class with a rule becomes, with probability rate, that rule's
               target; maps as in `noise make --help`; default: cifar10, cifar100_blocks_of_five, of
               other datasets the next class
IN is a noise file of any format; one without header (.npy, .pt, ...) needs --dataset. Its samples
and clean labels stay, and the measured rate is the new labels'. PLC and LRA-diffusion made
cifar10-1-0.35_U_0.3.npy and its like in this way.

examples:
  python -m shared noise add cifar10-1-0.35.npz --kind asymmetric --rate 0.3 \\
      --out cifar10-1-0.35_A_0.3.npz
  python -m shared noise add cifar10-1-0.35.npy --dataset cifar10 --kind uniform --rate 0.3 \\
      --out cifar10-1-0.35_U_0.3.npy
"""
OUT_HELP = ".npz, .pt, .csv, .npy or .json"


def add_parser(commands: SubParsers) -> None:
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
    info.set_defaults(run=lambda a: run_info(_source(a, a.file, a.column), a.plot))

    convert = _add(
        actions, "convert", "write a noise file in another format, chosen by the ending", EXAMPLES
    )
    convert.add_argument("file", metavar="IN[:COLUMN]", help="noise file of any format")
    convert.add_argument("out", type=Path, metavar="OUT", help=OUT_HELP)
    _add_force(convert, "OUT")
    _add_reading_options(convert)
    convert.add_argument(
        "--onto",
        metavar="BASE",
        help="a noise file that IN corrects; samples that IN leaves out keep their labels",
    )
    convert.set_defaults(
        run=lambda a: run_convert(_source(a, a.file, a.column), a.onto, a.out, a.force)
    )

    compare = _add(actions, "compare", "how far two noise files agree", EXAMPLES)
    compare.add_argument("files", nargs=2, metavar="FILE[:COLUMN]", help="noise file of any format")
    _add_dataset_options(compare)
    compare.set_defaults(run=lambda a: run_compare([_source(a, file) for file in a.files]))


def _add(commands: SubParsers, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    return add_command(commands, name, summary, f"{summary[0].upper()}{summary[1:]}.", epilog)


def _add_make(actions: SubParsers) -> None:
    epilog = f"{MAKE_EXAMPLES}\n{coco_cli.MAKE_HELP}"
    make = _add(actions, "make", "make noisy labels for a dataset", epilog)
    make.add_argument("--kind", required=True, choices=KINDS, help="see below")
    amount = make.add_mutually_exclusive_group()
    amount.add_argument(
        "--rate", type=float, help="nominal noise rate in [0, 1]; of pmd the measured one"
    )
    make.add_argument(
        "--seed",
        type=int,
        help="default: as in the papers' files, 12345 for ieg_... and long_tail, else 123",
    )
    targets = make.add_mutually_exclusive_group()
    for name, option in OPTIONS.items():
        if name == "include_true_class":
            switch: dict[str, Any] = {"dest": name, "default": None}
            targets.add_argument(option.flag, action="store_true", help=option.help, **switch)
            text = "symmetric: draw from the C - 1 wrong classes"
            targets.add_argument(option.negation, action="store_false", help=text, **switch)
        elif name == "independent":
            text = f"{takers(name)}: {option.help}"
            make.add_argument(option.flag, action="store_true", default=None, help=text)
        else:
            known: dict[str, Any] = {"dest": name, "type": option.type, "help": option.help}
            group = amount if name == "factor" else make
            group.add_argument(option.flag, metavar=option.metavar, **known)
    for name, what in FILES.items():
        text = f"{takers(name)}: {what}"
        make.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)
    make.add_argument("--out", required=True, type=Path, metavar="FILE", help=OUT_HELP)
    _add_force(make, "FILE")
    _add_dataset_options(make, required=True, more=coco_noise.DATASETS)
    make.add_argument(
        "--image_size",
        type=int,
        help="pixels per side of `animal10n` and `folder` images; default: 32",
    )
    coco_cli.add_make_options(make)
    make.set_defaults(run=_run_make)


def _run_make(a: argparse.Namespace) -> None:
    options: dict[str, Any] = {
        "class_map": a.class_map,
        "include_true_class": a.include_true_class,
        "independent": a.independent,
        "pmd_type": a.pmd_type,
        "factor": a.factor,
        "probe_ratio": a.probe_ratio,
        "imbalance": a.imbalance,
    }
    files = {"mean_probs": a.mean_probs, "eta": a.eta, "matrix": a.matrix}
    labels_only = {OPTIONS[name].flag_of(value): value for name, value in options.items()}
    labels_only |= {f"--{name}": path for name, path in files.items()}
    labels_only |= {"--data_path": a.data_path, "--image_size": a.image_size}
    labels_only |= {"--labels": a.labels, "--skip_broken": a.skip_broken or None}
    coco_only = {"--ann": a.ann, "--mode": a.mode, "--manifest": a.manifest}
    coco_cli.check_format(
        a.format, a.dataset, a.kind, given(labels_only), given(coco_only), a.ann is not None
    )
    if a.format == "coco":
        if a.rate is None:
            raise NoiseFileError(f"{a.kind} noise needs a rate (--rate)")
        flags = a.ann, a.out, a.seed, a.mode, a.manifest, a.force
        coco_cli.run_make(coco_cli.MakeCoco(a.dataset, a.kind, a.rate, *flags))
        return
    seed = usual_seed(a.kind) if a.seed is None else a.seed
    recipe = Recipe(a.kind, a.rate, seed, **options | {"independent": bool(a.independent)})

    def read() -> datasets.ImageData:
        size = 32 if a.image_size is None else a.image_size
        return datasets.load(
            a.dataset,
            a.data_path,
            image_size=size,
            labels=a.labels,
            skip_broken=a.skip_broken,
        )

    run_make(recipe, a.dataset, read, files, a.out, a.force)


def _add_add(actions: SubParsers) -> None:
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
    add.add_argument("--out", required=True, type=Path, metavar="OUT", help=OUT_HELP)
    _add_force(add, "OUT")
    _add_reading_options(add)
    add.set_defaults(
        run=lambda a: run_add(
            _source(a, a.file, a.column),
            noise_on_top.OnTop(a.kind, a.rate, a.seed, a.map),
            a.out,
            a.force,
        )
    )


def _add_force(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "--force", action="store_true", help=f"overwrite {name} if it exists with other content"
    )


def _add_reading_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--column", help="which labels of a file with several; the same as FILE:COLUMN"
    )
    _add_dataset_options(parser)


def _add_dataset_options(
    parser: argparse.ArgumentParser,
    required: bool = False,
    more: tuple[str, ...] = tuple(datasets.LISTS),
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
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="with --dataset folder: its labels, as lines filename,label (names or numbers)",
    )
    parser.add_argument(
        "--skip_broken",
        action="store_true",
        help="leave out pictures of the dataset that cannot be read, as training with it does",
    )
    if not required:
        parser.add_argument(
            "--accept_labels",
            action="store_true",
            help="with --dataset: take labels that look like another dataset's or split's",
        )


def _source(a: argparse.Namespace, file: str, column: str | None = None) -> Source:
    flags = a.data_path, a.accept_labels, a.labels, a.skip_broken
    return Source(file, column, a.dataset, *flags)
